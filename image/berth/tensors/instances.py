"""Rows or columns as KServe, TensorFlow Serving and MLflow send them: `instances` and `inputs`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from berth.errors import InvalidInput, shown
from berth.tensors.arrays import Array
from berth.tensors.schema import (
    Specs,
    column_names,
    decode_features,
    decode_tensors,
    decode_whole_columns,
    is_frame,
    is_matrix,
    listed,
)


def _join_tables(value: list[Any]) -> dict[str, Any] | None:
    """Objects of whole columns, each with the same keys, as one: KServe's servers make a table of each instance."""
    if not all(isinstance(table, dict) and table and table.keys() == value[0].keys() for table in value):
        return None
    if not all(type(column) in (list, np.ndarray) for table in value for column in table.values()):
        return None
    return {name: [cell for table in value for cell in table[name]] for name in value[0]}


def _split_rows(value: list[Any], names: Sequence[str]) -> list[dict[str, Any]] | None:
    """Lists of objects: a row of each object, in which the columns that it lacks are missing, as KServe reads them."""
    if not all(type(table) is list and table and all(type(row) is dict for row in table) for table in value):
        return None
    return [dict.fromkeys(names) | row for table in value for row in table]


def decode_lines(rows: list[Any], specs: Specs) -> dict[str, Array]:
    """The values of several lines, each one row. Raises InvalidInput."""
    tensors = decode_instances(rows, specs)
    if any(array.shape[:1] != (len(rows),) for array in tensors.values()):
        raise InvalidInput(f"each line must be one row, got {shown(rows[0])}")
    return tensors


def decode_instances(value: Any, specs: Specs) -> dict[str, Array]:
    """A list with one element a row: a list of values, an object of columns, or an object of tensors.

    An object of columns may also have lists of values, and is then that many rows.

    Raises InvalidInput.
    """
    if isinstance(value, np.ndarray) and value.ndim == 2 and is_matrix(specs):
        return decode_features(value, specs)
    value = listed(value)
    if not isinstance(value, list) or not value:
        raise InvalidInput(f"send a list with one element per row, at least one; got {shown(value)}")
    names = {spec.name for spec in specs}
    if not is_frame(specs) and all(isinstance(row, dict) and row.keys() == names for row in value):
        return decode_tensors({name: [row[name] for row in value] for name in names}, specs)
    names_in_order = column_names(specs)
    if names_in_order is not None and (columns := _join_tables(value)) is not None:
        return decode_whole_columns(columns, specs)
    if names_in_order is not None and (rows := _split_rows(value, names_in_order)) is not None:
        return decode_features(rows, specs)
    if (is_matrix(specs) or len(specs) > 1) and not isinstance(value[0], list | dict):
        raise InvalidInput(f"each row must be a list or an object, got {shown(value[0])}; put one row into a list too")
    return decode_features(value, specs)


def decode_inputs(value: Any, specs: Specs) -> dict[str, Array]:
    """An object of whole columns or tensors by name; or rows, as in `decode_instances`. Raises InvalidInput."""
    if isinstance(value, dict):
        return decode_tensors(value, specs)
    return decode_instances(value, specs)
