"""The rows on which native and accelerated outputs are compared: ordinary ones, and those where they could part."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from berth.accelerate.limits import ColumnLimits, Limits
from berth.accelerate.ranges import Range, learn_ranges, near
from berth.tensors.arrays import DATATYPES, Array, Tensors, TensorSpec

ROWS = 10_000
# The part of the rows that a column's thresholds may fill.
_POINTED = 0.6
_SAMPLED = 0.85
_MISSING = 0.03
_INFINITE = 0.005
_UNKNOWN = 0.03
_MARGIN = 0.15


def _spread_evenly(values: Array, most: int) -> Array:
    """All of the values, or as many as there is room for, evenly over the whole."""
    if len(values) <= most:
        return values
    found: Array = values[np.linspace(0, len(values) - 1, most).round().astype(int)]
    return found


def _points(learned: Range, most: int) -> Array:
    if not learned.points:
        return np.zeros(0)
    splits = np.unique(np.concatenate(learned.points))
    around = near(splits[np.isfinite(splits)])
    if not around.size:
        return np.zeros(0)
    return _spread_evenly(around, max(most // around.shape[1], 1)).ravel()[:most]


def _ordinary(rng: np.random.Generator, learned: Range, rows: int) -> Array:
    """Numbers in the column's range and a little beyond."""
    low, high = learned.bounds()
    margin = _MARGIN * (high - low or abs(high) or 1.0)
    found = rng.uniform(low - margin, high + margin, rows)
    if learned.seen:
        some = rng.random(rows) < 0.2
        found[some] = rng.choice(np.array(learned.seen), int(some.sum()))
    return found


def _jitter(rng: np.random.Generator, drawn: Array) -> Array:
    """Values of a sample, half of them moved a little."""
    drawn = drawn.astype(np.float64)
    finite = drawn[np.isfinite(drawn)]
    width = 0.1 * float(finite.std()) if finite.size else 1.0
    return np.where(rng.random(len(drawn)) < 0.5, drawn, drawn + rng.normal(0.0, width or 1.0, len(drawn)))


def _sprinkle(rng: np.random.Generator, values: Array, share: float, value: Any) -> None:
    values[rng.random(len(values)) < share] = value


def _numeric(rng: np.random.Generator, learned: Range, limits: ColumnLimits, sample: Array | None, rows: int) -> Array:
    choices = limits.known or tuple(value for value in learned.choices if not isinstance(value, str))
    if choices:
        found = rng.choice(np.array(choices, np.float64), rows)
        if limits.known is None:
            _sprinkle(rng, found, _UNKNOWN, float(max(choices)) + 1.0)
            _sprinkle(rng, found, _UNKNOWN, float(min(choices)) + 0.5)
    else:
        found = _ordinary(rng, learned, rows)
        if sample is not None:
            # Some stay as they are: requests may lie outside of any sample.
            found = np.where(rng.random(rows) < _SAMPLED, _jitter(rng, sample), found)
        points = _points(learned, int(_POINTED * rows))
        found[rng.permutation(rows)[: len(points)]] = points
    if limits.missing:
        _sprinkle(rng, found, _MISSING, np.nan)
    if limits.infinite:
        _sprinkle(rng, found, _INFINITE, np.inf)
        _sprinkle(rng, found, _INFINITE, -np.inf)
    return found


def _text(rng: np.random.Generator, learned: Range, limits: ColumnLimits, sample: Array | None, rows: int) -> Array:
    known = limits.known or [value for value in learned.choices if isinstance(value, str)] or [""]
    pool = [*known, *(() if sample is None else set(sample.tolist()) - {None})]
    if limits.known is not None:
        pool = list(limits.known)
    found = np.empty(rows, object)
    found[:] = [pool[at] for at in rng.integers(0, len(pool), rows).tolist()]
    if limits.known is None:
        for unknown in ("", "\u00fcnknown", known[0] + " "):
            _sprinkle(rng, found, _UNKNOWN, unknown)
    if limits.missing:
        _sprinkle(rng, found, 2 * _MISSING, None)
    return found


def _column(
    rng: np.random.Generator, datatype: str, learned: Range, limits: ColumnLimits, sample: Array | None, rows: int
) -> Array:
    if datatype == "BYTES":
        return _text(rng, learned, limits, sample, rows)
    if datatype == "BOOL":
        return np.asarray(rng.choice(limits.known or (False, True), rows), np.bool_)
    found = _numeric(rng, learned, limits, sample, rows)
    if datatype == "INT64":
        return np.asarray(np.clip(np.nan_to_num(found.round()), -(2.0**53), 2.0**53), np.int64)
    return np.asarray(found, DATATYPES[datatype])


def _draw(rng: np.random.Generator, sample: Tensors | None, rows: int) -> dict[str, Array] | None:
    """Whole rows of the sample, with repetition."""
    if sample is None or not len(next(iter(sample.values()))):
        return None
    picks = rng.integers(0, len(next(iter(sample.values()))), rows)
    return {name: array[picks] for name, array in sample.items()}


def make_rows(
    estimator: Any,
    inputs: Sequence[TensorSpec],
    limits: Limits,
    sample: Tensors | None,
    rows: int = ROWS,
    seed: int = 0,
) -> dict[str, Array]:
    """Rows within what the model accepts: from a sample where there is one, else from the ranges it was fitted on."""
    rng = np.random.default_rng(seed)
    drawn = _draw(rng, sample, rows)
    ranges = learn_ranges(estimator, sum(1 if spec.optional else len(limits[spec.name]) for spec in inputs))
    found: dict[str, Array] = {}
    place = 0
    for spec in inputs:
        if spec.optional:
            place += 1
            continue
        table = np.empty((rows, len(limits[spec.name])), DATATYPES[spec.datatype])
        for at, limit in enumerate(limits[spec.name]):
            known = None if drawn is None else drawn[spec.name].reshape(rows, -1)[:, at]
            table[:, at] = _column(rng, spec.datatype, ranges[place], limit, known, rows)
            place += 1
        found[spec.name] = table[:, 0] if len(spec.shape) == 1 else table
    return found
