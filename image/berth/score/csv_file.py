"""CSV with a header: rows to score, and rows with their predictions."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from itertools import count, islice
from pathlib import Path
from types import MappingProxyType
from typing import Any

import orjson

from berth.errors import InvalidInput, RequestError
from berth.score.chunks import Chunk, Columns, Scored, Skips, keep_all
from berth.score.picking import decode_picked, pick_columns
from berth.score.text_lines import Lines
from berth.tensors.arrays import Array, TensorSpec
from berth.tensors.tables import parse_cells


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

    def __init__(self, path: Path, specs: Sequence[TensorSpec], keep: Sequence[str]) -> None:
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

    def _fitting(self, record: list[str] | RequestError) -> list[str] | RequestError:
        if isinstance(record, RequestError) or len(record) == self._width:
            return record
        return InvalidInput(f"the row has {len(record)} values, but the header has {self._width} columns")

    def chunks(self, position: int, rows: int, skips: Skips = keep_all) -> Iterator[Chunk]:
        """The chunks from a byte on, 0 being the start."""
        with self._path.open("rb") as file:
            lines = Lines(file, position or self._start)
            records = iter(_Records(lines))
            for number in count():
                if not (batch := list(islice(records, rows))):
                    return
                yield Chunk(batch if skips(number) else [self._fitting(record) for record in batch], lines.position)

    def decode(self, rows: Sequence[Any], number: int) -> dict[str, Array]:
        """Records as the model's tensors. Raises InvalidInput."""
        wanted = zip(self._picked.places, self._picked.names, self._datatypes, strict=True)
        columns = [parse_cells([row[at] for row in rows], name, kind, number) for at, name, kind in wanted]
        return decode_picked(columns, self._picked, self._specs)

    def keep(self, rows: Sequence[Any]) -> dict[str, list[Any]]:
        """The kept columns' cells as they stand; None for rows that cannot be read."""
        return {name: [row[at] if isinstance(row, list) else None for row in rows] for name, at in self._kept.items()}


def _cell(value: Any) -> str:
    """A value as a cell: numbers so that they are read back the same, lists as JSON."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list | dict | tuple):
        return orjson.dumps(value, str).decode()
    return repr(value) if isinstance(value, float) else str(value)


class CsvSink:
    """One column for each output, or for each label of one that has several values a row."""

    def __init__(self, columns: Columns) -> None:
        self._names = list(columns.keep)
        self._widths: dict[str, int] = {}
        for spec in columns.outputs:
            self._widths[spec.name] = width = spec.shape[1] if len(spec.shape) == 2 else -1
            labels = spec.labels if spec.labels and len(spec.labels) == width else range(width)
            self._names += [f"{spec.name}_{label}" for label in labels] if width > 0 else [spec.name]

    def _lines(self, rows: Sequence[Sequence[Any]]) -> bytes:
        text = io.StringIO(newline="")
        csv.writer(text, lineterminator="\n").writerows(rows)
        return text.getvalue().encode()

    def head(self) -> bytes:
        """The header line."""
        return self._lines([self._names])

    def encode(self, scored: Scored) -> bytes:
        """One line a row; the cells of a failed row's outputs are empty."""
        columns = [[_cell(value) for value in values] for values in scored.kept.values()]
        for name, values in scored.outputs.items():
            if (width := self._widths[name]) < 1:
                columns.append([_cell(value) for value in values])
                continue
            empty = [None] * width
            columns += [[_cell((value or empty)[at]) for value in values] for at in range(width)]
        return self._lines(list(zip(*columns, strict=True)))

    def publish(self, part: Path, output: Path) -> None:
        """The part file is the output."""
        part.replace(output)
