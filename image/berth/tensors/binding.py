"""A client's named arrays as the model's own inputs, whatever the client calls and cuts them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from berth.errors import InvalidInput
from berth.tensors.arrays import Array, TensorSpec, convert_array
from berth.tensors.schema import (
    Specs,
    check_columns,
    check_inputs,
    is_frame,
    is_matrix,
    optional_names,
    quoted,
    required,
)


def _as_column(array: Array, name: str) -> Array:
    """One column, which pandas' own encoders send as [n] or [n, 1]. Raises InvalidInput."""
    if array.ndim == 2 and array.shape[1] == 1:
        return array[:, 0]
    if array.ndim != 1:
        raise InvalidInput(f"column {name!r}: got shape {list(array.shape)}, want [n] or [n, 1]")
    return array


def _stack_columns(given: Mapping[str, Array], spec: TensorSpec) -> Array:
    wanted = spec.columns or ()
    check_columns(list(given), wanted)
    columns = [convert_array(_as_column(given[name], name), spec.datatype, f"column {name!r}") for name in wanted]
    if len(lengths := {len(column) for column in columns}) > 1:
        raise InvalidInput(f"the columns have different numbers of rows: {sorted(lengths)}")
    return np.stack(columns, axis=1)


def _split_columns(matrix: Array, specs: Specs) -> dict[str, Array]:
    if matrix.shape[1] == len(required(specs)):
        specs = required(specs)
    if matrix.shape[1] != len(specs):
        names = quoted([spec.name for spec in specs])
        raise InvalidInput(f"got {matrix.shape[1]} values in a row, want {len(specs)}: {names}")
    return {
        spec.name: convert_array(matrix[:, at], spec.datatype, f"column {spec.name!r}")
        for at, spec in enumerate(specs)
        if not spec.optional
    }


def _bind_one(only: Array, specs: Specs) -> dict[str, Array]:
    """The one array of a request whose name is not the model's: it can only be the one input, or all columns."""
    if is_frame(specs) and only.ndim == 2 and (len(specs) > 1 or only.shape[1] != 1):
        return _split_columns(only, specs)
    spec = required(specs)[0]
    return {spec.name: _as_column(only, spec.name) if is_frame(specs) else only}


def bind_tensors(given: Mapping[str, Array], specs: Specs, frame: bool = False) -> dict[str, Array]:
    """A client's arrays as the model's: its inputs by name, the columns of its matrix, or its columns as one matrix.

    One array goes by any name where the model has one input. `frame`: the arrays are a data frame's columns, which
    stand for those of a model without column names in their order. Raises InvalidInput.
    """
    if len(specs) == 1 == len(given) and specs[0].name in given and len(specs[0].shape) != 1:
        return dict(given)
    names = [spec.name for spec in specs]
    columns = specs[0].columns if is_matrix(specs) else None
    if is_matrix(specs) and names[0] not in given:
        if set(given) & set(columns or ()):
            return {names[0]: _stack_columns(given, specs[0])}
        counted = list(given) == [str(at) for at in range(len(given))]
        if frame and len(given) > 1 and (columns is None or counted):
            return {names[0]: _stack_columns(given, replace(specs[0], columns=tuple(given)))}
    if len(given) == 1 and not set(given) & set(names):
        only = next(iter(given.values()))
        if len(required(specs)) == 1 or (is_frame(specs) and only.ndim == 2):
            return _bind_one(only, specs)
    if is_frame(specs):
        check_columns(list(given), names, optional_names(specs))
        return {spec.name: _as_column(given[spec.name], spec.name) for spec in required(specs)}
    check_inputs(list(given), names)
    return {name: given[name] for name in names}
