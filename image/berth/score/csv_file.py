"""CSV with a header: rows to score, and rows with their predictions."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import count, islice
from types import MappingProxyType
from typing import Any, BinaryIO

import numpy as np

from berth.errors import InvalidInput, RequestError
from berth.score.cell_columns import read_cells
from berth.score.chunks import Chunk, ColumnRows, Columns, Rows, RowSink, Scored, Skips, Values, keep_all
from berth.score.picking import decode_picked, pick_columns
from berth.score.plain_lines import PlainLines
from berth.score.remote_files import Place
from berth.score.text_lines import Lines
from berth.score.value_texts import dump_value, list_values_of, split_numbers
from berth.tensors.arrays import Array, TensorSpec

_QUOTED = re.compile('[,"\r\n]')
_MOST_KNOWN_CELLS = 10_000


class _Records:
    """The records of a CSV file, blank lines left out; a RequestError where one cannot be read."""

    def __init__(self, lines: Lines) -> None:
        self._lines = lines
        self._fault: RequestError | None = None
        # csv.reader reads no more lines than its record has, so `lines.position` is where the next one begins.
        self._reader = csv.reader(self._text(), strict=True)

    def _text(self) -> Iterator[str]:
        for line in self._lines:
            try:
                yield line.decode()
            except UnicodeDecodeError as error:
                self._fault = InvalidInput(f"the row is not UTF-8: {error.reason}")
                yield line.decode("utf-8", "replace")

    def __iter__(self) -> Iterator[list[str] | RequestError]:
        while True:
            self._fault = None
            try:
                cells = next(self._reader)
            except StopIteration:
                return
            except csv.Error as error:
                yield InvalidInput(f"the row cannot be read as CSV: {error}")
                continue
            if cells:
                yield self._fault or cells


class CsvSource:
    """A CSV file, its cells read as the model's datatypes."""

    types: Mapping[str, Any] = MappingProxyType({})

    def __init__(self, path: Place, specs: Sequence[TensorSpec], keep: Sequence[str]) -> None:
        self._path, self._specs = path, specs
        self.size = path.stat().st_size
        with path.open("rb") as file:
            lines = Lines(file, 0)
            header = next(iter(_Records(lines)), None)
            self._start = lines.position
        if not isinstance(header, list):
            raise header or InvalidInput("the CSV is empty; it needs a header line with the columns' names")
        names = [name.strip() for name in header]
        self._width = len(names)
        self._picked = pick_columns(names, specs, keep, nests=False)
        self._kept = {name: names.index(name) for name in keep}
        self.unused = self._picked.unused
        datatypes = {spec.name: spec.datatype for spec in specs}
        self._datatypes = [datatypes.get(name, specs[0].datatype) for name in self._picked.names]
        self._all_numbers = set(self._datatypes) == {"FP64"} and len(set(self._picked.places)) == self._width

    def _fitting(self, record: list[str] | RequestError) -> list[str] | RequestError:
        if isinstance(record, RequestError) or len(record) == self._width:
            return record
        return InvalidInput(f"the row has {len(record)} values, but the header has {self._width} columns")

    def _read_records(self, file: BinaryIO, position: int, rows: int, skip: bool) -> Chunk:
        """The next records, whatever they hold."""
        lines = Lines(file, position)
        batch = list(islice(_Records(lines), rows))
        return Chunk(batch if skip else [self._fitting(record) for record in batch], lines.position)

    def chunks(self, position: int, rows: int, skips: Skips = keep_all) -> Iterator[Chunk]:
        """The chunks from a byte on, 0 being the start."""
        position = position or self._start
        with self._path.open("rb") as file:
            plain = PlainLines(file, self._width)
            for number in count():
                skip = skips(number)
                chunk = plain.read(position, rows, skip) or self._read_records(file, position, rows, skip)
                if not len(chunk.rows):
                    return
                position = chunk.position
                yield chunk

    def decode(self, rows: Rows, number: int) -> dict[str, Array]:
        """Records as the model's tensors. Raises InvalidInput."""
        places = self._picked.places
        if self._all_numbers and isinstance(rows, ColumnRows) and (table := rows.columns.numbers()) is not None:
            return decode_picked([table[:, at] for at in places], self._picked, self._specs)
        cells = [rows.columns[at] if isinstance(rows, ColumnRows) else [row[at] for row in rows] for at in places]
        wanted = zip(cells, self._picked.names, self._datatypes, strict=True)
        columns = [read_cells(column, name, kind, number) for column, name, kind in wanted]
        return decode_picked(columns, self._picked, self._specs)

    def keep(self, rows: Rows) -> dict[str, list[Any]]:
        """The kept columns' cells as they stand; None for rows that cannot be read."""
        if isinstance(rows, ColumnRows):
            return {name: rows.columns[at] for name, at in self._kept.items()}
        return {name: [row[at] if isinstance(row, list) else None for row in rows] for name, at in self._kept.items()}


def _cell(value: Any) -> str:
    """A value as a cell: numbers as JSON has them, lists as JSON; quoted where that is needed."""
    if value is None:
        return ""
    text = value if isinstance(value, str) else dump_value(value).decode()
    return '"' + text.replace('"', '""') + '"' if _QUOTED.search(text) else text


class _Cells(dict[str, str]):
    """Strings as cells, each made once: labels are few."""

    def __missing__(self, value: str) -> str:
        cell = _cell(value)
        if len(self) < _MOST_KNOWN_CELLS:
            self[value] = cell
        return cell


class CsvSink(RowSink):
    """One column for each output, or for each label of one that has several values a row."""

    def __init__(self, columns: Columns) -> None:
        self._names = list(columns.keep)
        self._widths: dict[str, int] = {}
        self._known = _Cells()
        for spec in columns.outputs:
            self._widths[spec.name] = width = spec.shape[1] if len(spec.shape) == 2 else -1
            labels = spec.labels if spec.labels and len(spec.labels) == width else range(width)
            self._names += [f"{spec.name}_{label}" for label in labels] if width > 0 else [spec.name]

    def head(self) -> bytes:
        """The header line."""
        return self._join([[_cell(name)] for name in self._names])

    @staticmethod
    def _join(columns: Sequence[Sequence[str]]) -> bytes:
        if len(columns) == 1:  # an empty line would be no row
            return "".join([f"{cell}\n" if cell else '""\n' for cell in columns[0]]).encode("utf-8", "replace")
        lines = "\n".join(map(",".join, zip(*columns, strict=True)))
        return f"{lines}\n".encode("utf-8", "replace") if lines else b""

    def _column(self, values: Values) -> list[str]:
        """One cell a row."""
        if isinstance(values, np.ndarray) and values.ndim == 1 and (found := split_numbers(values)) is not None:
            return b",".join(found).decode().replace("null", "").split(",") if found else []
        listed = list_values_of(values)
        if set(map(type, listed)) == {str}:
            return [self._known[value] for value in listed]
        return [_cell(value) for value in listed]

    def _only_numbers(self, scored: Scored) -> bytes | None:
        """The lines of one column of numbers, without a string for each; None for all else."""
        values = next(iter(scored.outputs.values()), None)
        if len(self._names) != 1 or scored.kept or not isinstance(values, np.ndarray) or values.ndim != 1:
            return None
        numbers = split_numbers(values)
        return b"\n".join([*numbers, b""]).replace(b"null", b'""') if numbers else None

    def encode(self, scored: Scored) -> bytes:
        """One line a row; the cells of a failed row's outputs are empty."""
        if (lines := self._only_numbers(scored)) is not None:
            return lines
        columns = [self._column(values) for values in scored.kept.values()]
        for name, values in scored.outputs.items():
            if (width := self._widths[name]) < 1:
                columns.append(self._column(values))
                continue
            if isinstance(values, np.ndarray) and values.ndim == 2 and values.dtype.kind in "biuf":
                columns += [self._column(np.ascontiguousarray(values[:, at])) for at in range(width)]
                continue
            empty = [None] * width
            listed = list_values_of(values)
            columns += [[_cell((value or empty)[at]) for value in listed] for at in range(width)]
        return self._join(columns)
