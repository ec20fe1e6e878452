"""Parquet, through pyarrow: rows to score, and rows with their predictions.

A parquet file cannot be appended to and cut off. The part file is an Arrow stream, whose messages can; it becomes
parquet at the end.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import orjson

from berth.errors import OperatorError
from berth.score.chunks import Chunk, ColumnRows, Columns, Rows, Scored, Skips, Values, keep_all
from berth.score.picking import decode_picked, pick_columns
from berth.score.remote_files import Place
from berth.score.value_texts import list_values_of
from berth.tensors.arrays import Array, TensorSpec

_TYPES = {"BOOL": "bool_", "BYTES": "string", "FP16": "float16", "FP32": "float32", "FP64": "float64"}


def check_pyarrow() -> None:
    """That parquet can be read here. Raises OperatorError."""
    try:
        import pyarrow.parquet  # noqa: F401
    except ImportError as error:
        raise OperatorError('parquet needs pyarrow, which is not installed; pip install "berth[parquet]"') from error


@contextmanager
def _opened(path: Place) -> Iterator[Any]:
    """The file, opened. Raises OperatorError where it is damaged, then or while it is read."""
    from pyarrow import ArrowException, parquet

    try:
        with parquet.ParquetFile(path if isinstance(path, Path) else path.open()) as file:
            yield file
    except (ArrowException, OSError) as error:
        if isinstance(error, OSError) and error.errno is not None:  # the disk's, not pyarrow's
            raise
        raise OperatorError(f"{path.name} cannot be read as parquet: {error}") from error


def _missing(value: Any) -> Any:
    """NaN as None, as JSON has it; in lists too."""
    if isinstance(value, list):
        return [_missing(item) for item in value]
    return None if value != value else value


def _safe_type(type_: Any) -> Any:
    """The type that a kept column is written in: without a dictionary, which the stream would have to repeat; and
    text for nanoseconds, which Python's clock has not.
    """
    import pyarrow as pa

    if pa.types.is_dictionary(type_):
        return type_.value_type
    return pa.string() if pa.types.is_temporal(type_) and getattr(type_, "unit", "") == "ns" else type_


def _read_numbers(column: Any) -> list[Any] | Array:
    """A column's values, null as None; finite numbers with a fraction as an array, as the codec gives them."""
    if str(column.type) == "double" and column.null_count == 0:
        array: Array = column.to_numpy(zero_copy_only=False)
        if np.isfinite(array).all():
            return array
    return [_missing(value) for value in column.to_pylist()]


class ParquetSource:
    """A parquet file; positions are rows."""

    def __init__(self, path: Place, specs: Sequence[TensorSpec], keep: Sequence[str]) -> None:
        self._path, self._specs, self._keep = path, specs, tuple(keep)
        with _opened(path) as file:
            schema, self.size = file.schema_arrow, file.metadata.num_rows
        self._picked = pick_columns(schema.names, specs, keep, nests=True)
        self._names = list(dict.fromkeys((*self._picked.names, *keep)))
        self.types: Mapping[str, Any] = {name: _safe_type(schema.field(name).type) for name in keep}
        self.unused = self._picked.unused

    def _explode(self, batch: Any) -> list[tuple[Any, ...]]:
        columns = [[_missing(value) for value in batch.column(name).to_pylist()] for name in self._picked.names]
        columns += [batch.column(name).cast(self.types[name]).to_pylist() for name in self._keep]
        return list(zip(*columns, strict=True))

    def _columns(self, batch: Any) -> ColumnRows:
        return ColumnRows(batch.num_rows, batch, lambda: self._explode(batch))

    def chunks(self, position: int, rows: int, skips: Skips = keep_all) -> Iterator[Chunk]:
        """The chunks from a row on; none reaches over the end of a row group, so that each can be begun by itself.

        Row groups whose chunks are all skipped are left unread.
        """
        with _opened(self._path) as file:
            begins, number = 0, 0
            for group in range(file.num_row_groups):
                ends = begins + file.metadata.row_group(group).num_rows
                places = [at for at in range(begins, ends, rows) if min(at + rows, ends) > position]
                if all(skips(number + count) for count in range(len(places))):
                    yield from (Chunk(range(at, min(at + rows, ends)), min(at + rows, ends)) for at in places)
                else:
                    skipped = [skips(number + count) for count in range(len(places))]
                    yield from self._read_group(file, group, begins, rows, dict(zip(places, skipped, strict=True)))
                begins, number = ends, number + len(places)

    def _read_group(
        self, file: Any, group: int, begins: int, rows: int, skipped: Mapping[int, bool]
    ) -> Iterator[Chunk]:
        """Those chunks of a row group that begin at the rows of `skipped`."""
        for batch in file.iter_batches(rows, [group], self._names):
            if begins in skipped:
                ends = begins + batch.num_rows
                yield Chunk(range(begins, ends) if skipped[begins] else self._columns(batch), ends)
            elif begins > min(skipped, default=0):
                raise OperatorError(
                    f"{self._path.name}: pyarrow reads its rows in other pieces; use a smaller --chunk-rows"
                )
            begins += batch.num_rows

    def decode(self, rows: Rows, number: int) -> dict[str, Array]:
        """Rows as the model's tensors. Raises InvalidInput."""
        if isinstance(rows, ColumnRows):
            numbers = [_read_numbers(rows.columns.column(name)) for name in self._picked.names]
            return decode_picked(numbers, self._picked, self._specs)
        columns = [[row[at] for row in rows] for at in range(len(self._picked.names))]
        return decode_picked(columns, self._picked, self._specs)

    def keep(self, rows: Rows) -> dict[str, Values]:
        """The kept columns' values."""
        if isinstance(rows, ColumnRows):
            return {name: rows.columns.column(name).cast(self.types[name]) for name in self._keep}
        first = len(self._picked.names)
        return {name: [row[first + at] for row in rows] for at, name in enumerate(self._keep)}


def _output_type(spec: TensorSpec) -> Any:
    import pyarrow as pa

    type_ = getattr(pa, _TYPES.get(spec.datatype, spec.datatype.lower()))()
    for _ in spec.shape[1:]:
        type_ = pa.list_(type_)
    return type_


def _arrow_column(values: Any, type_: Any) -> Any:
    import pyarrow as pa

    return values.cast(type_) if isinstance(values, pa.Array) else pa.array(values, type_)


def _arrow_values(values: Values) -> Any:
    """What pa.array accepts, with nulls where JSON has them: numbers of one dimension stay an array."""
    import pyarrow as pa

    if not isinstance(values, np.ndarray) or values.ndim != 1 or values.dtype.kind not in "biuf":
        return values if isinstance(values, pa.Array) else list_values_of(values)
    return pa.array(values, mask=~np.isfinite(values)) if values.dtype.kind == "f" else pa.array(values)


def _text(value: Any) -> str | None:
    return value if value is None or isinstance(value, str) else orjson.dumps(value, str).decode()


class ParquetSink:
    """The kept columns (as text, where the source has no types) and the outputs, lists where a row has several."""

    def __init__(self, columns: Columns) -> None:
        import pyarrow as pa

        self._untyped = {name for name in columns.keep if name not in columns.types}
        kept = [(name, columns.types.get(name, pa.string())) for name in columns.keep]
        self._schema = pa.schema([*kept, *((spec.name, _output_type(spec)) for spec in columns.outputs)])

    def head(self) -> bytes:
        """The schema."""
        return bytes(self._schema.serialize())

    def encode(self, scored: Scored) -> bytes:
        """One record batch."""
        import pyarrow as pa

        columns = {name: _arrow_values(values) for name, values in {**scored.kept, **scored.outputs}.items()}
        for name in self._untyped:
            columns[name] = [_text(value) for value in list_values_of(columns[name])]
        arrays = [_arrow_column(columns[field.name], field.type) for field in self._schema]
        return bytes(pa.RecordBatch.from_arrays(arrays, schema=self._schema).serialize())

    def publish(self, part: Path, output: Path) -> None:
        """Turn the stream into parquet beside the output, then put it in its place."""
        import pyarrow as pa
        from pyarrow import parquet

        whole = part.with_name(part.name + ".parquet")
        with part.open("rb") as file, parquet.ParquetWriter(whole, self._schema) as writer:
            for batch in pa.ipc.open_stream(file):
                writer.write_batch(batch)
        whole.replace(output)
        part.unlink()
