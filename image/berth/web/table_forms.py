"""Data frames as MLflow's clients send them: pandas' JSON orientations, columns by name, and CSV.

As MLflow does with a signature, columns that the model does not have are ignored; a missing one is an error. A frame
whose columns are only counted ("0", "1", …), and any frame for a model that knows no column names, goes by position.
https://mlflow.org/docs/latest/ml/deployment/deploy-model-locally/#json-input
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from dataclasses import replace
from typing import Any

import numpy as np

from berth.errors import InvalidInput, shown
from berth.tensors.arrays import Array
from berth.tensors.instances import decode_inputs, decode_instances
from berth.tensors.schema import (
    Specs,
    column_names,
    decode_columns,
    decode_matrix,
    decode_records,
    decode_whole_columns,
    is_frame,
    is_matrix,
    listed,
)
from berth.tensors.tables import Table, is_number_row, parse_cells, read_table


def _is_counted(names: Sequence[Any]) -> bool:
    """Whether names are those of a frame that was never given any."""
    return bool(names) and [str(name) for name in names] == [str(at) for at in range(len(names))]


def _go_by_position(names: Sequence[Any], specs: Specs) -> bool:
    """Whether a frame's columns stand for the model's in their order."""
    wanted = column_names(specs)
    return wanted is None or (_is_counted(names) and set(map(str, names)).isdisjoint(wanted))


def _known_names(specs: Specs) -> frozenset[str]:
    return frozenset([*(spec.name for spec in specs), *(column_names(specs) or ())])


def _keep(record: Mapping[str, Any], known: Set[str]) -> Mapping[str, Any]:
    return record if record.keys() <= known else {name: value for name, value in record.items() if name in known}


def _split_columns(split: Mapping[str, Any]) -> list[str] | None:
    columns = split.get("columns")
    if columns is None:
        return None
    if not isinstance(columns, list) or not all(type(name) in (str, int) for name in columns):
        raise InvalidInput(f"dataframe_split: columns must be a list of names, got {shown(columns)}")
    return [str(name) for name in columns]


def _drop_unknown(columns: list[str], rows: list[list[Any]], specs: Specs) -> tuple[list[str], list[list[Any]]]:
    known = _known_names(specs)
    kept = [at for at, name in enumerate(columns) if name in known]
    if len(kept) == len(columns):
        return columns, rows
    return [columns[at] for at in kept], [[row[at] for at in kept] for row in rows]


def decode_split(split: Any, specs: Specs) -> dict[str, Array]:
    """pandas' `to_dict(orient="split")`. Raises InvalidInput."""
    if not isinstance(split, dict) or not isinstance(split.get("data"), list | np.ndarray):
        raise InvalidInput('dataframe_split must be {"columns": […], "data": [[…], …]}, got ' + shown(split))
    if unknown := sorted(set(split) - {"index", "columns", "data"}):
        raise InvalidInput(f"dataframe_split: unknown key {unknown[0][:60]!r}; it has index, columns and data")
    columns, rows, index = _split_columns(split), split["data"], split.get("index")
    if columns is not None or not is_matrix(specs):
        rows = listed(rows)
    if not len(rows):
        raise InvalidInput("dataframe_split: data is empty; send at least one row")
    if index is not None and (not isinstance(index, list) or len(index) != len(rows)):
        raise InvalidInput(f"dataframe_split: index must be a list of {len(rows)}, one for each row of data")
    if columns is None:
        return decode_matrix(rows, specs)
    if bad := [row for row in rows if not isinstance(row, list) or len(row) != len(columns)]:
        raise InvalidInput(f"dataframe_split: each row must be a list of {len(columns)} values, got {shown(bad[0])}")
    if _go_by_position(columns, specs):
        return decode_matrix(rows, specs)
    columns, rows = _drop_unknown(columns, rows, specs)
    return decode_matrix(rows, specs, columns)


def _rows_of(records: Sequence[Mapping[str, Any]]) -> list[list[Any]]:
    """Records' values in the order of the first one's keys. Raises InvalidInput."""
    names = list(records[0])
    if other := next((record for record in records if record.keys() != records[0].keys()), None):
        raise InvalidInput(f"every record must have the columns of the first, {shown(names)}, got {shown(list(other))}")
    return [[record[name] for name in names] for record in records]


def decode_dataframe_records(records: Any, specs: Specs) -> dict[str, Array]:
    """pandas' `to_dict(orient="records")`. Raises InvalidInput."""
    if not isinstance(records, list) or not all(isinstance(record, dict) for record in records):
        raise InvalidInput(f"dataframe_records must be a list of objects, got {shown(records)}")
    if not records:
        raise InvalidInput("dataframe_records is empty; send at least one row")
    if _go_by_position(list(records[0]), specs):
        return decode_matrix(_rows_of(records), specs)
    known = _known_names(specs)
    return decode_records([_keep(record, known) for record in records], specs)


def decode_row_instances(rows: Any, specs: Specs) -> dict[str, Array]:
    """`instances`, whose objects may have more columns than the model. Raises InvalidInput."""
    if isinstance(rows, list) and rows and all(isinstance(row, dict) for row in rows):
        known = _known_names(specs)
        if is_matrix(specs) and rows[0].keys().isdisjoint(known) and _go_by_position(list(rows[0]), specs):
            return decode_matrix(_rows_of(rows), specs)
        rows = [_keep(row, known) for row in rows]
    return decode_instances(rows, specs)


def decode_column_inputs(inputs: Any, specs: Specs) -> dict[str, Array]:
    """`inputs`, whose columns may be more than the model's, each [n] or [n, 1]. Raises InvalidInput."""
    if not isinstance(inputs, dict):
        return decode_row_instances(inputs, specs)
    known = _known_names(specs)
    if is_matrix(specs) and inputs.keys().isdisjoint(known) and _go_by_position(list(inputs), specs):
        named = replace(specs[0], columns=tuple(inputs))
        return decode_whole_columns(inputs, (named,))
    return decode_inputs(_keep(inputs, known), specs)


def _cells_of(table: Table, specs: Specs, names: Sequence[str]) -> dict[str, list[Any]]:
    """The model's columns of a table. Raises InvalidInput."""
    datatypes = [spec.datatype for spec in specs] if is_frame(specs) else [specs[0].datatype] * len(names)
    kinds = dict(zip(names, datatypes, strict=True))
    columns = [(name, cells) for name, cells in zip(table.columns, table.values, strict=True) if name in kinds]
    if not columns:
        raise InvalidInput(
            f"the CSV's first line must be a header with the columns' names; it is {shown(','.join(table.columns))}, "
            f"and the model expects {', '.join(map(repr, names[:20]))}"
        )
    if len({name for name, _ in columns}) != len(columns):
        raise InvalidInput(f"the CSV's header has a column twice: {', '.join(table.columns)[:200]}")
    return {name: parse_cells(cells, name, kinds[name]) for name, cells in columns}


def _has_header(first: Sequence[str], said: str | None) -> bool:
    """Whether the first line of a table for a model without column names is a header. Raises InvalidInput.

    `said` is what the media type says: RFC 4180 has the parameter `header`, which is `present` or `absent`.
    """
    if said in ("present", "absent"):
        return said == "present"
    if first == ["0"]:
        raise InvalidInput(
            "the CSV's first line, 0, may be a header or a row; send Content-Type: text/csv; header=present or absent"
        )
    return _is_counted(first) or not is_number_row(first)


def decode_csv(body: bytes, specs: Specs, max_rows: int, header: str | None = None) -> dict[str, Array]:
    """CSV with a header line, or without one for a model that knows no column names. Raises InvalidInput."""
    if not (is_frame(specs) or is_matrix(specs)):
        raise InvalidInput("the model expects tensors, not a table; send JSON with inputs")
    names = column_names(specs)
    if names is not None and header != "absent":
        table = read_table(body, max_rows)
        return decode_columns(_cells_of(table, specs, names), specs)
    table = read_table(body, max_rows, lambda first: _has_header(first, header))
    if names is not None:
        if len(table.columns) != len(names):
            raise InvalidInput(f"got {len(table.columns)} values in a row, want {len(names)}: {', '.join(names[:20])}")
        return decode_columns(_cells_of(Table(names, table.values), specs, names), specs)
    columns = [
        parse_cells(cells, name, specs[0].datatype) for name, cells in zip(table.columns, table.values, strict=True)
    ]
    return decode_matrix([list(row) for row in zip(*columns, strict=True)], specs)
