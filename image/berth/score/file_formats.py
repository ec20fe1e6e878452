"""The file formats that can be scored, by name."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from berth.score.chunks import Columns, RowSink, RowSource
from berth.score.csv_file import CsvSink, CsvSource
from berth.score.jsonl_file import JsonlSink, JsonlSource
from berth.score.parquet_file import ParquetSink, ParquetSource, check_pyarrow
from berth.score.remote_files import Place
from berth.tensors.arrays import TensorSpec


@dataclass(frozen=True, slots=True)
class FileFormat:
    """How files of one format are read and written; `check` raises where a library is missing."""

    name: str
    endings: tuple[str, ...]
    read: Callable[[Place, Sequence[TensorSpec], Sequence[str]], RowSource]
    write: Callable[[Columns], RowSink]
    check: Callable[[], None] = lambda: None


FORMATS = {
    format_.name: format_
    for format_ in (
        FileFormat(
            "csv",
            (".csv",),
            CsvSource,
            CsvSink,
        ),
        FileFormat("jsonl", (".jsonl", ".ndjson"), JsonlSource, JsonlSink),
        FileFormat(
            "parquet",
            (".parquet", ".pq"),
            ParquetSource,
            ParquetSink,
            check_pyarrow,
        ),
    )
}


def find_format(path: Place) -> FileFormat | None:
    """The format that a file's ending names."""
    return next((format_ for format_ in FORMATS.values() if path.suffix.lower() in format_.endings), None)
