"""How long a model takes for a row, and whether requests for it may share a call: measured at warm-up."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from berth.models.model import Model
from berth.tensors.arrays import Array, Tensors
from berth.tensors.differences import largest_difference
from berth.tensors.schema import blank_inputs, check_tensors, decode_tensors, required

# What 32 rows in one call must save at least, against 32 calls, for sharing to pay.
_LEAST_GAIN = 2.0
# A model that predicts in less has no queue worth joining: handing requests from thread to thread costs as much.
_LEAST_SECONDS = 0.002
# Waking a thread that waits for its turn costs as much.
_QUICK_SECONDS = 0.0002
# A thread that serves others too may be kept for so long.
_BRIEF_SECONDS = 0.001
# And so many values it may write for a row, which takes as long as to predict some.
_FEW_VALUES = 64
_ROWS = 32
_STEADY = ("onnx", "xgboost", "lightgbm")
# What runs code of its own may take any time for some row, however long it took for another.
_UNFORESEEN = ("python", "mlflow")
_AUTO_MAX_ROWS = 128
_TOLERANCE = 1e-6
_PATIENCE_SECONDS = 0.2


@dataclass(frozen=True, slots=True)
class BatchChoice:
    """Rows that waiting requests share in one call (1: they do not), and why."""

    max_rows: int
    reason: str


def _one_row(model: Model) -> dict[str, Array]:
    if model.example is not None:
        tensors = decode_tensors(model.example["inputs"], model.inputs)
        tensors = check_tensors(tensors, model.inputs, 1 << 30, model.batchable)
        if not model.batchable:
            return tensors
        return {name: array[:1] for name, array in tensors.items()}
    return blank_inputs(model.inputs, 1)


def _seconds(model: Model, tensors: Tensors, outputs: list[str]) -> tuple[float, int]:
    """The best of up to five calls, within the patience; and how many values the output has."""
    best, spent, answer = float("inf"), 0.0, {}
    for _ in range(5):
        began = time.perf_counter()
        answer = model.predict(tensors, outputs)
        took = time.perf_counter() - began
        best, spent = min(best, took), spent + took
        if spent > _PATIENCE_SECONDS:
            break
    return best, sum(array.size for array in answer.values())


def _answers_alike(one: Mapping[str, Array], many: Mapping[str, Array]) -> bool:
    """Whether each row of the joint output is the output for its row alone."""
    for name, array in one.items():
        if array.shape[:1] != (1,) or many[name].shape != (_ROWS, *array.shape[1:]):
            return False
        for row in (many[name][:1], many[name][-1:]):
            if largest_difference(array, row, relative=True) > _TOLERANCE:
                return False
    return True


def _is_quantized(model: Model) -> bool:
    """Whether `berth optimize` made it; equal rows, as they are compared below, would not show it."""
    made = model.metadata.get("optimized")
    return isinstance(made, Mapping) and made.get("method") == "int8"


@dataclass(frozen=True, slots=True)
class RowCost:
    """What one row takes: seconds in the model, values in the output."""

    seconds: float
    values: int


# Of what must be expected to take any time.
UNKNOWN = RowCost(float("inf"), 0)


def measure_row(model: Model) -> RowCost:
    """Try the model on one row; UNKNOWN where another row may well take longer, or the model refuses this one."""
    if not model.accelerated and model.format in _UNFORESEEN:
        return UNKNOWN
    try:
        return RowCost(*_seconds(model, _one_row(model), [spec.name for spec in required(model.outputs)]))
    except Exception:  # whatever the model raises: it will raise it for its callers, who get it
        return UNKNOWN


def first_estimate(model: Model, cost: RowCost, may_try: bool) -> float | None:
    """Seconds to expect of a call until a request's has returned; None where the model cannot or must not be tried.

    A burst that comes first would otherwise be accepted whole, as nothing is known about what it waits for.
    """
    if cost is not UNKNOWN:
        return cost.seconds
    if not may_try:
        return None
    try:
        row, outputs = _one_row(model), [spec.name for spec in required(model.outputs)]
        began = time.perf_counter()
        model.predict(row, outputs)
    except Exception:  # whatever the model raises: it will raise it for its callers, who get it
        return None
    return time.perf_counter() - began


def is_quick(model: Model, cost: RowCost) -> bool:
    """Whether one row takes less time than waking a thread that waits for its turn.

    Only graphs and trees are tried: what they cost does not depend on what a row says, nor on who else calls them.
    """
    return (model.accelerated or model.format in _STEADY) and cost.seconds < _QUICK_SECONDS


def is_brief(cost: RowCost) -> bool:
    """Whether one row may be predicted on a thread that serves others too."""
    return cost.seconds < _BRIEF_SECONDS and cost.values <= _FEW_VALUES


def choose_batching(model: Model, max_rows: int | None, cost: RowCost = UNKNOWN) -> BatchChoice:
    """The rows to share: 1 when `max_rows` is 1 or the model cannot; None measures one row against 32.

    `cost` is what one row takes, where it is known.
    """
    if max_rows == 1:
        return BatchChoice(1, "off by BERTH_BATCH_MAX_ROWS=1")
    if not model.batchable:
        return BatchChoice(1, "its first dimensions are not rows")
    if any(spec.shape[:1] != (-1,) for spec in model.inputs):
        return BatchChoice(1, "the model accepts a fixed number of rows")
    if _is_quantized(model):
        return BatchChoice(1, "int8 scales its numbers by all rows of a call, so a row's output depends on the others")
    outputs = [spec.name for spec in required(model.outputs)]
    try:
        row = _one_row(model)
        rows = {name: np.repeat(array, _ROWS, axis=0) for name, array in row.items()}
        if not _answers_alike(model.predict(row, outputs), model.predict(rows, outputs)):
            return BatchChoice(1, "rows are not predicted one by one")
        if max_rows is not None:
            return BatchChoice(max_rows, "on by BERTH_BATCH_MAX_ROWS")
        single = cost.seconds if cost is not UNKNOWN else _seconds(model, row, outputs)[0]
        joint = _seconds(model, rows, outputs)[0]
    except Exception as error:  # a model that refuses its own example or blank rows cannot be measured
        return BatchChoice(1, f"could not be measured: {type(error).__name__}")
    told = f"1 row takes {single * 1e3:.3g} ms, {_ROWS} rows {joint * 1e3:.3g} ms"
    pays = single >= _LEAST_SECONDS and single * _ROWS >= joint * _LEAST_GAIN
    return BatchChoice(_AUTO_MAX_ROWS, told) if pays else BatchChoice(1, f"does not pay: {told}")
