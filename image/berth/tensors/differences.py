"""How far two arrays of outputs are apart: one comparison for examples, proofs, shared calls and optimised versions."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from berth.tensors.arrays import Array

# Numbers that are closer than this, relative to the larger one, agree.
_TOLERANCE = 1e-6


def largest_difference(wanted: Array, found: Array, *, relative: bool = False) -> float:
    """The largest difference of two arrays; infinity where shapes, labels, NaN or infinities are not the same.

    `relative` puts the difference of values above 1 in proportion to them.
    """
    if wanted.shape != found.shape:
        return math.inf
    if wanted.dtype.kind != "f" or found.dtype.kind != "f":
        return 0.0 if np.array_equal(wanted, found) else math.inf
    wanted, found = wanted.astype(np.float64), found.astype(np.float64)
    same = (wanted == found) | (np.isnan(wanted) & np.isnan(found))
    with np.errstate(invalid="ignore", over="ignore"):
        apart = np.where(same, 0.0, np.abs(wanted - found))
    apart[np.isnan(apart)] = math.inf  # one of the two is NaN
    if relative:
        apart /= np.maximum(1.0, np.where(np.isfinite(wanted), np.abs(wanted), 1.0))
    return float(apart.max(initial=0.0))


def _are_equal(have: Array, other: Array) -> bool:
    """Whether two arrays of one shape hold the same labels; whole numbers in a sixth of numpy's time."""
    if have.dtype == other.dtype and have.dtype.kind in "iub":
        return have.tobytes() == other.tobytes()
    return bool(np.array_equal(have, other))


def compare_outputs(found: Mapping[str, Array], wanted: Mapping[str, Array]) -> tuple[bool, float | None]:
    """Whether two models agree, and the largest difference of their numbers; None where there are none.

    Where there is a `prediction`, it alone decides; probabilities may differ a little and mean the same.
    """
    names = ["prediction"] if "prediction" in wanted else list(wanted)
    agree, largest = True, None
    for name, have in wanted.items():
        other = found[name]
        if other.shape != have.shape:
            return False, largest
        if have.dtype.kind != "f" or not have.size:
            agree &= name not in names or _are_equal(have, other)
            continue
        gap = np.abs(have.astype(np.float64) - other.astype(np.float64))
        gap = np.where(np.isnan(have) & np.isnan(other), 0.0, gap)
        largest = max(largest or 0.0, float(np.nanmax(gap, initial=0.0)))
        if name in names:
            scale = _TOLERANCE * np.maximum(np.abs(have), np.abs(other))
            agree &= bool(np.all(gap <= np.fmax(scale, _TOLERANCE)))
    return agree, largest
