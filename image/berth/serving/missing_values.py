"""Where a request has missing values: what a rejected prediction says of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from berth.errors import shown
from berth.tensors.arrays import Array, Tensors, TensorSpec

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
