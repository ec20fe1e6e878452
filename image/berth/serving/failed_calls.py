"""What a model's exception means for the request: values that it rejects, missing ones among them, or its own fault."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence

import numpy as np

from berth.errors import BerthError, PredictionFailed, RejectedByModel, shown
from berth.models.model import Model
from berth.telemetry.logs import log
from berth.tensors.arrays import Array, Tensors, TensorSpec

# Exceptions by which libraries say that the values were wrong, not the model.
_REFUSALS = (ValueError, TypeError)
_MOST_NAMED = 10


def _is_missing(array: Array) -> Array:
    if array.dtype.kind == "O":
        return np.array([value is None for value in array.ravel().tolist()], bool).reshape(array.shape)
    return np.isnan(array) if array.dtype.kind == "f" else np.zeros(array.shape, bool)


def _columns_of(spec: TensorSpec, array: Array) -> Iterator[tuple[str, Array]]:
    """Each column of an input, and which of its rows are missing."""
    missing = _is_missing(array)
    if missing.ndim != 2:
        rows: Array = missing.reshape(len(missing) if missing.ndim else 1, -1)
        yield shown(spec.name), np.array(rows.any(axis=1))
        return
    for at in np.flatnonzero(missing.any(axis=0)):
        yield shown(spec.columns[at]) if spec.columns else f"{at + 1} of {shown(spec.name)}", missing[:, at]


def describe_missing(tensors: Tensors, specs: Sequence[TensorSpec]) -> str:
    """The columns with missing values, each with its first such row; empty where none is missing."""
    found = [
        f"column {name} (row {int(np.argmax(rows)) + 1})"
        for spec in specs
        if spec.name in tensors
        for name, rows in _columns_of(spec, tensors[spec.name])
        if rows.any()
    ]
    return ", ".join(found[:_MOST_NAMED]) + (", …" if len(found) > _MOST_NAMED else "")


def explain_failure(model: Model, tensors: Tensors, error: BaseException, log_values: bool) -> BerthError:
    """The error for a call of `model` that raised `error`; the log has one that is not about the values.

    Where values are missing, whatever the model raises is ascribed to them: libraries have no exception of their own
    for it (a text vectorizer calls a method of None). `log_values` False keeps its text out of the log.
    """
    missing = describe_missing(tensors, model.inputs)
    more = f"; values are missing (null) in {missing}" if missing else ""
    if isinstance(error, _REFUSALS):
        return RejectedByModel(f"{model.name} refused these values: {' '.join(str(error).split())[:500]}{more}")
    told = repr(error) if log_values else type(error).__name__
    log(f"{model.name}@{model.version} broke", level=logging.ERROR, error=told)
    if missing and not isinstance(error, SystemExit | MemoryError):
        return RejectedByModel(f"{model.name} failed on these values{more}")
    return PredictionFailed(f"{model.name} failed on these values; the server's log has the reason")
