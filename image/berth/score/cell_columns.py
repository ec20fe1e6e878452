"""A column's cells as numbers, all at once; only a column with something odd in it is read cell by cell.

Numbers in JSON's grammar go through simdjson, those in Python's through `float`; a cell that is neither (a truth, a
word, an infinity) leaves the column to `parse_cells`, whose result the quick ways equal and whose errors name the row.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from berth.tensors.arrays import Array
from berth.tensors.tables import parse_cells

# What makes a cell more than one number to simdjson; and the whole number -0, whose sign it would lose.
_ODD = (b"[", b"]", b"{", b"-0,")


def parse_json_numbers(text: bytes) -> Array | None:
    """Cells with commas between them as an array [n]; None where one is no number in JSON's grammar."""
    from simdjson import Parser

    if any(part in text for part in _ODD) or text.endswith(b"-0"):
        return None
    try:
        document: Any = Parser().parse(b"[%b]" % text)
        return np.frombuffer(document.as_buffer(of_type="d"))
    except (ValueError, TypeError, RuntimeError):
        return None


def _parse_floats(cells: Sequence[str]) -> list[float | None] | None:
    """Python's numbers, an empty cell or NaN being None; None for all where one is no finite number."""
    try:
        values = [float(cell) if cell else math.nan for cell in cells]
    except ValueError:
        return None
    if any(map(math.isinf, values)):
        return None
    return [None if value != value else value for value in values]


def _parse_whole_numbers(cells: Sequence[str]) -> list[int] | None:
    try:
        return list(map(int, cells))
    except ValueError:
        return None


def read_cells(cells: Sequence[str], name: str, datatype: str, first_row: int = 1) -> list[Any] | Array:
    """As `parse_cells`; FP64 may come as an array [n]. Raises InvalidInput naming column and row."""
    family = datatype[:2]
    if family not in ("FP", "IN", "UI") or not cells:
        return parse_cells(cells, name, datatype, first_row)
    text = ",".join(cells)
    found: Any = None
    if "_" not in text:
        array = parse_json_numbers(text.encode()) if datatype == "FP64" else None
        if array is not None and len(array) == len(cells):
            return array
        found = _parse_floats(cells) if family == "FP" else _parse_whole_numbers(cells)
    return parse_cells(cells, name, datatype, first_row) if found is None else found
