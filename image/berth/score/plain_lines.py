"""Lines of a CSV file that hold no quotes, so that each is a record and each comma parts two cells, read as columns."""

from __future__ import annotations

import csv
from typing import BinaryIO

import numpy as np

from berth.score.chunks import Chunk, ColumnRows

# Larger chunks are left to the reader of records, which limits a line.
_MOST_BYTES = 64 << 20
_LEAST_BYTES = 1 << 16


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
            data = data[: int(np.flatnonzero(np.frombuffer(data, np.uint8) == ord("\n"))[rows - 1]) + 1]
        self._expected_bytes = max(_LEAST_BYTES, len(data) + len(data) // 50)
        return data

    def read(self, position: int, rows: int, skip: bool) -> Chunk | None:
        """The rows of the next lines, or only their number; None where the lines may not be records of this width."""
        raw = self._read(position, rows)
        data = raw.replace(b"\r\n", b"\n")
        if not data or len(data) > _MOST_BYTES or any(odd in data for odd in (b'"', b"\r", b"\n\n")) or data[0] == 10:
            return None
        try:
            lines = data.decode().removesuffix("\n").split("\n")
        except UnicodeDecodeError:
            return None
        if max(map(len, lines)) > csv.field_size_limit():
            return None
        if skip:
            return Chunk(range(len(lines)), position + len(raw))
        columns = self._split(lines)
        return None if columns is None else Chunk(columns, position + len(raw))

    def _split(self, lines: list[str]) -> ColumnRows | None:
        if {line.count(",") for line in lines} != {self._width - 1}:
            return None
        cells = ",".join(lines).split(",")
        columns = [cells[at :: self._width] for at in range(self._width)]
        return ColumnRows(len(lines), columns, lambda: [list(row) for row in zip(*columns, strict=True)])
