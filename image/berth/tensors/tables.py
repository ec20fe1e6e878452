"""CSV with a header as columns of values, each read as the datatype it is declared to be."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

from berth.errors import InvalidInput, shown

_TRUTH = {"true": True, "1": True, "false": False, "0": False}


@dataclass(frozen=True, slots=True)
class Table:
    """Columns by position; an empty cell is None."""

    columns: tuple[str, ...]
    values: tuple[list[Any], ...]

    def rows(self) -> list[list[Any]]:
        """The same, row by row."""
        return [list(row) for row in zip(*self.values, strict=True)]


def _parse_number(cell: str) -> float | None:
    try:
        value = float(cell)
    except ValueError:  # a truth is a number, as in training frames
        return float(_TRUTH[cell.strip().lower()])
    if math.isinf(value) or "_" in cell:
        raise ValueError(cell)
    return None if math.isnan(value) else value


def _parse_whole(cell: str) -> float:
    """A whole number; decode_array says what is wrong with 1.5."""
    try:
        value: float = int(cell)
    except ValueError:
        value = float(_TRUTH.get(cell.strip().lower(), cell))
    if not math.isfinite(value) or "_" in cell:
        raise ValueError(cell)
    return value


_PARSE: dict[str, Callable[[str], Any]] = {
    "FP": _parse_number,
    "IN": _parse_whole,
    "UI": _parse_whole,
    "BO": lambda cell: _TRUTH[cell.strip().lower()],
    "BY": lambda cell: cell,
}
_WANTED = {"FP": "a number", "IN": "a whole number", "UI": "a whole number", "BO": "true or false"}


def parse_cells(cells: Sequence[str], name: str, datatype: str, first_row: int = 1) -> list[Any]:
    """A column's cells as the datatype's values, an empty one as None. Raises InvalidInput naming column and row."""
    family = datatype[:2]
    parse, values = _PARSE[family], []
    for number, cell in enumerate(cells, first_row):
        try:
            values.append(parse(cell) if cell else None)
        except (ValueError, KeyError):
            wanted = _WANTED[family]
            raise InvalidInput(
                f"column {name[:60]!r}, row {number}: want {wanted} ({datatype}), got {shown(cell)}"
            ) from None
    return values


def _read_lines(body: bytes) -> Iterator[list[str]]:
    """The lines that are not empty. Raises InvalidInput."""
    try:
        text = body.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InvalidInput(f"the CSV is not UTF-8: {error.reason} at byte {error.start}") from None
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    try:
        yield from filter(None, reader)
    except csv.Error as error:
        raise InvalidInput(f"the CSV cannot be read: {error} near line {reader.line_num}") from None


def is_number_row(cells: Sequence[str]) -> bool:
    """Whether a line holds numbers, missing ones among them, and nothing that could be a column's name."""
    try:
        values = [_parse_number(cell) for cell in cells if cell.strip()]
    except (ValueError, KeyError):
        return False
    return bool(values)


def read_table(body: bytes, max_rows: int, has_header: Callable[[list[str]], bool] = lambda first: True) -> Table:
    """A table's cells as text, by column; without a header its columns are called "0", "1", …

    `has_header` decides by the first line. Raises InvalidInput, which names the line. Reading stops after `max_rows`.
    """
    lines = _read_lines(body)
    first = next(lines, None)
    if first is None:
        raise InvalidInput("the CSV is empty; send a header line with the columns' names, and rows")
    named = has_header([cell.strip() for cell in first])
    header = first if named else [str(at) for at in range(len(first))]
    source = f"the {'header' if named else 'first line'} has {len(first)} columns"
    rows: list[list[str]] = []
    for row in lines if named else chain([first], lines):
        if len(row) != len(first):
            raise InvalidInput(f"row {len(rows) + 1} has {len(row)} values, but {source}")
        if len(rows) == max_rows:
            raise InvalidInput(f"more than {max_rows} rows in one request; send several requests")
        rows.append(row)
    if not rows:
        raise InvalidInput("the CSV has a header but no rows; send at least one")
    return Table(tuple(name.strip() for name in header), tuple(map(list, zip(*rows, strict=True))))


def parse_csv(body: bytes, datatypes: Mapping[str, str], default: str, max_rows: int) -> Table:
    """A table with a header line; columns that `datatypes` does not name are of the datatype `default`.

    Raises InvalidInput, which names the line or the column and the row. Reading stops after `max_rows`.
    """
    table = read_table(body, max_rows)
    cells = zip(table.columns, table.values, strict=True)
    return Table(
        table.columns, tuple(parse_cells(column, name, datatypes.get(name, default)) for name, column in cells)
    )
