"""The unit of a request where it is one of the model's columns."""

from __future__ import annotations

import math
from collections.abc import Sequence

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


def read_unit(specs: Sequence[TensorSpec], tensors: Tensors, name: str) -> str | None:
    """The unit of a request: the first row's value in a column; a whole number is written without a fraction."""
    column = _column(specs, tensors, name)
    if column is None or not len(column):
        return None
    value = column[0].item() if isinstance(column[0], np.generic) else column[0]
    if value is None or value == "" or (isinstance(value, float) and not math.isfinite(value)):
        return None
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)
