"""What an optimised version is worth: size, latency and outputs, before and after, on the same rows."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

import numpy as np

from berth.errors import LoadError
from berth.models.model import PredictFunction
from berth.tensors.arrays import Array, Tensors, TensorSpec
from berth.tensors.differences import largest_difference

BATCH_ROWS = 64
_PATIENCE_SECONDS = 0.3
_MOST_CALLS = 200


@dataclass(frozen=True, slots=True)
class Pair:
    """One number of the version before, and of the one after."""

    before: float
    after: float


@dataclass(frozen=True, slots=True)
class Difference:
    """How far the outputs lie apart: the share of equal labels (None without labels), and the largest error."""

    rows: int
    equal_labels: float | None
    max_abs: float | None

    @property
    def worst(self) -> float:
        """What --max-difference limits: the numbers' error, or for labels alone, the share that changed."""
        return self.max_abs if self.max_abs is not None else 1.0 - (self.equal_labels or 0.0)


@dataclass(frozen=True, slots=True)
class SizeReport:
    """Everything that was measured."""

    bytes: Pair
    one_row_ms: Pair
    batch_ms: Pair
    difference: Difference


def encode_report(report: SizeReport) -> dict[str, Any]:
    """The report as model.json keeps it."""
    pairs = {"one_row_ms": report.one_row_ms, f"rows_{BATCH_ROWS}_ms": report.batch_ms}
    numbers: dict[str, Any] = {
        name: {"before": float(f"{pair.before:.6g}"), "after": float(f"{pair.after:.6g}")}
        for name, pair in pairs.items()
    }
    return {
        "bytes": {"before": int(report.bytes.before), "after": int(report.bytes.after)},
        **numbers,
        "sample_rows": report.difference.rows,
        "equal_labels": report.difference.equal_labels,
        "max_abs_difference": report.difference.max_abs,
    }


def _chunks(tensors: Tensors, rows: int) -> Iterator[dict[str, Array]]:
    """The sample in pieces as requests would bring it: an int8 output depends on the rows beside it."""
    for start in range(0, rows, BATCH_ROWS):
        yield {name: array[start : start + BATCH_ROWS] for name, array in tensors.items()}


def _labels(array: Array) -> Array | None:
    """What a row is called: a label itself, or the highest of several columns."""
    if array.dtype.kind != "f":
        return array
    return array.argmax(axis=1) if array.ndim == 2 and array.shape[1] > 1 else None


def _error(name: str, before: Array, after: Array) -> float:
    """The largest difference of two outputs of numbers; NaN and infinities must be in the same places."""
    error = largest_difference(before, after)
    if math.isinf(error):
        raise LoadError(f"the output {name!r} has NaN or infinity where it had none, or the other way round")
    return error


def _answer(predict: PredictFunction, tensors: Tensors, names: Sequence[str], who: str) -> dict[str, Array]:
    try:
        return predict(tensors, names)
    except Exception as error:  # whatever a model raises, it cannot be compared
        reason = " ".join(str(error).split())[:300]
        raise LoadError(f"the {who} version does not predict the sample: {type(error).__name__}: {reason}") from error


def _form(array: Array) -> str:
    return f"{array.dtype} {list(array.shape)}"


def compare(
    before: PredictFunction, after: PredictFunction, tensors: Tensors, outputs: Sequence[TensorSpec]
) -> Difference:
    """Both models' outputs for the whole sample. Raises LoadError where they cannot be compared."""
    names, rows = [spec.name for spec in outputs], len(next(iter(tensors.values())))
    errors: list[float] = []
    equal: list[Array] = []
    for chunk in _chunks(tensors, rows):
        old, new = _answer(before, chunk, names, "old"), _answer(after, chunk, names, "new")
        for name in names:
            if (form := _form(old[name])) != _form(new[name]):
                raise LoadError(f"the output {name!r} changed from {form} to {_form(new[name])}")
            if old[name].dtype.kind == "f":
                errors.append(_error(name, old[name], new[name]))
            if (wanted := _labels(old[name])) is not None and (found := _labels(new[name])) is not None:
                equal.append(np.equal(wanted, found).ravel())
    share = float(np.concatenate(equal).mean()) if equal else None
    return Difference(rows, share, max(errors) if errors else None)


def measure_latency(
    before: PredictFunction, after: PredictFunction, tensors: Tensors, outputs: Sequence[TensorSpec], rows: int
) -> Pair:
    """The median milliseconds of a call with so many of the rows; both in turn, so that noise meets both."""
    names = [spec.name for spec in outputs]
    batch = {name: np.take(array, np.arange(rows) % len(array), axis=0) for name, array in tensors.items()}
    taken: tuple[list[float], list[float]] = ([], [])
    ends = time.perf_counter() + _PATIENCE_SECONDS
    while not taken[0] or (len(taken[0]) < _MOST_CALLS and time.perf_counter() < ends):
        for predict, times in zip((before, after), taken, strict=True):
            began = time.perf_counter()
            predict(batch, names)
            times.append(1000 * (time.perf_counter() - began))
    return Pair(median(taken[0]), median(taken[1]))
