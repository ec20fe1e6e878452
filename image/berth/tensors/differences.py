"""How far two arrays of outputs are apart: one comparison for examples, proofs, shared calls and optimised versions."""

from __future__ import annotations

import math

import numpy as np

from berth.tensors.arrays import Array


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
