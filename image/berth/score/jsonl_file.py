"""One JSON value a line: rows to score, as /predict accepts them, and one object with the outputs for each."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import count, islice
from types import MappingProxyType
from typing import Any

from berth.score.chunks import Chunk, Columns, RowSink, Scored, Skips, keep_all
from berth.score.remote_files import Place
from berth.score.text_lines import Lines
from berth.score.value_texts import dump_value, row_texts
from berth.tensors.arrays import Array, TensorSpec
from berth.tensors.codec import decode_line
from berth.tensors.instances import decode_lines
from berth.tensors.schema import column_names


class JsonlSource:
    """A file whose lines are lists of values, objects of columns, or objects of tensors."""

    unused: tuple[str, ...] = ()
    types: Mapping[str, Any] = MappingProxyType({})

    def __init__(self, path: Place, specs: Sequence[TensorSpec], keep: Sequence[str]) -> None:
        self._path, self._specs, self._keep = path, specs, keep
        self._known = {*(column_names(specs) or ()), *(spec.name for spec in specs)}
        self.size = path.stat().st_size

    def chunks(self, position: int, rows: int, skips: Skips = keep_all) -> Iterator[Chunk]:
        """The chunks from a byte on."""
        with self._path.open("rb") as file:
            lines = Lines(file, position)
            full = (line for line in lines if not line.isspace())
            for number in count():
                if not (batch := list(islice(full, rows))):
                    return
                yield Chunk(batch if skips(number) else [decode_line(line) for line in batch], lines.position)

    def _for_model(self, row: Any) -> Any:
        """The row without what the model does not know."""
        if not isinstance(row, dict) or row.keys() <= self._known:
            return row
        return {name: value for name, value in row.items() if name in self._known}

    def decode(self, rows: Any, number: int) -> dict[str, Array]:
        """Rows as the model's tensors. Raises InvalidInput."""
        return decode_lines([self._for_model(row) for row in rows], self._specs)

    def keep(self, rows: Any) -> dict[str, list[Any]]:
        """The kept keys' values; None where a row has none."""
        objects = [row if isinstance(row, dict) else {} for row in rows]
        return {name: [row.get(name) for row in objects] for name in self._keep}


class JsonlSink(RowSink):
    """The kept columns and the outputs, as the server's response has them."""

    def __init__(self, columns: Columns) -> None:
        del columns

    def head(self) -> bytes:
        """Nothing."""
        return b""

    def encode(self, scored: Scored) -> bytes:
        """One object a row; the outputs of a failed row are null."""
        columns = {**scored.kept, **scored.outputs}
        keys = (dump_value(name).replace(b"%", b"%%") for name in columns)
        template = b"{" + b",".join(key + b":%b" for key in keys) + b"}\n"
        rows = zip(*map(row_texts, columns.values()), strict=True)
        return b"".join([template % row for row in rows])
