"""The unit of a request, or of each line of a stream, where it is one of the model's columns."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from berth.tensors.arrays import Array, Tensors, TensorSpec


def _column(specs: Sequence[TensorSpec], tensors: Tensors, name: str) -> Array | None:
    """A column's values, of a frame or of a matrix with named columns."""
    if name in tensors and tensors[name].ndim == 1:
        return tensors[name]
    for spec in specs:
        if spec.columns is not None and name in spec.columns and (matrix := tensors[spec.name]).ndim == 2:
            at = spec.columns.index(name)
            return matrix[:, at] if at < matrix.shape[1] else None
    return None


def _write(value: Any) -> str | None:
    """A value as text, a whole number without a fraction; None for a missing one."""
    value = value.item() if isinstance(value, np.generic) else value
    if value is None or value == "" or (isinstance(value, float) and not math.isfinite(value)):
        return None
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def read_unit(specs: Sequence[TensorSpec], tensors: Tensors, name: str) -> str | None:
    """The unit of a request: the first row's value in a column; a whole number is written without a fraction."""
    column = _column(specs, tensors, name)
    return None if column is None or not len(column) else _write(column[0])


def read_units(specs: Sequence[TensorSpec], tensors: Tensors, name: str) -> list[str | None]:
    """The unit of each row, for rows that are requests of their own."""
    column = _column(specs, tensors, name)
    rows = max((len(array) for array in tensors.values()), default=0)
    return [None] * rows if column is None else [_write(value) for value in column]
