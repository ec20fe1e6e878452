"""Lines of a CSV file that hold no quotes, so that each is a record and each comma parts two cells, read as columns."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from functools import cached_property
from typing import BinaryIO

import numpy as np

from berth.score.cell_columns import parse_json_numbers
from berth.score.chunks import Chunk, ColumnRows
from berth.tensors.arrays import Array

# Larger chunks are left to the reader of records, which limits a line.
_MOST_BYTES = 64 << 20
_LEAST_BYTES = 1 << 16
_COMMA, _END = b",\n"


def _is_text(data: bytes) -> bool:
    try:
        return data.isascii() or bool(data.decode())
    except UnicodeDecodeError:
        return False


def _count_lines(data: bytes, width: int) -> int:
    """How many lines there are; 0 where one is too long, or has another number of cells than `width` (0: any)."""
    codes = np.frombuffer(data, np.uint8)
    ends = codes == _END
    places = np.flatnonzero(ends)
    if np.diff(places, prepend=-1).max() > csv.field_size_limit():
        return 0
    if width:
        marks = codes[ends | (codes == _COMMA)]
        if len(marks) != len(places) * width:
            return 0
        table = marks.reshape(-1, width)
        if not ((table[:, -1] == _END).all() and (table[:, :-1] == _COMMA).all()):
            return 0
    return len(places)


@dataclass(frozen=True)
class PlainCells:
    """The cells of such lines by column; `data` ends with a line's end. Nothing is split before it is needed."""

    data: bytes
    width: int

    @cached_property
    def _cells(self) -> list[str]:
        return self.data[:-1].replace(b"\n", b",").decode().split(",")

    def __getitem__(self, column: int) -> list[str]:
        return self._cells[column :: self.width]

    def rows(self) -> list[list[str]]:
        """The rows one by one."""
        cells = self._cells
        return [cells[at : at + self.width] for at in range(0, len(cells), self.width)]

    def numbers(self) -> Array | None:
        """All cells as an array [rows, width], where each is a number in JSON's grammar; else None."""
        found = parse_json_numbers(self.data[:-1].replace(b"\n", b","))
        return None if found is None or len(found) % self.width else found.reshape(-1, self.width)


class PlainLines:
    """Reads chunks of `width` columns where the file allows it."""

    def __init__(self, file: BinaryIO, width: int) -> None:
        self._file, self._width = file, width
        self._expected_bytes = _LEAST_BYTES

    def _read(self, position: int, rows: int) -> bytes:
        """The next lines, at most `rows`, and fewer only at the end of the file or where they are too large."""
        self._file.seek(position)
        data = self._file.read(self._expected_bytes)
        while (seen := data.count(b"\n")) < rows and len(data) <= _MOST_BYTES:
            if not (more := self._file.read(max(len(data) // 4, _LEAST_BYTES))):
                break
            data += more
        if seen >= rows:
            data = data[: int(np.flatnonzero(np.frombuffer(data, np.uint8) == _END)[rows - 1]) + 1]
        self._expected_bytes = max(_LEAST_BYTES, len(data) + len(data) // 50)
        return data

    def read(self, position: int, rows: int, skip: bool) -> Chunk | None:
        """The rows of the next lines, or only their number; None where the lines may not be records of this width."""
        raw = self._read(position, rows)
        data = raw.replace(b"\r\n", b"\n")
        if not data or len(data) > _MOST_BYTES or any(odd in data for odd in (b'"', b"\r", b"\n\n")) or data[0] == _END:
            return None
        if not data.endswith(b"\n"):
            data += b"\n"
        count = _count_lines(data, 0 if skip else self._width)
        if not count or not _is_text(data):
            return None
        if skip:
            return Chunk(range(count), position + len(raw))
        cells = PlainCells(data, self._width)
        return Chunk(ColumnRows(count, cells, cells.rows), position + len(raw))
