"""What readers give and writers take: rows in chunks, each chunk knowing where the next one begins."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeAlias

from berth.tensors.arrays import Array, TensorSpec


@dataclass(frozen=True, slots=True)
class ColumnRows:
    """Rows that are all readable, kept as the source's columns: a tenth of the time of a list a row.

    `explode` gives the same rows one by one, for a chunk in which some rows fail.
    """

    count: int
    columns: Any
    explode: Callable[[], Sequence[Any]]

    def __len__(self) -> int:
        return self.count


# Rows one by one, or as columns.
Rows: TypeAlias = Sequence[Any] | ColumnRows


def list_rows(rows: Rows) -> Sequence[Any]:
    """The rows one by one."""
    return rows.explode() if isinstance(rows, ColumnRows) else rows


# An output's values, one a row.
Values: TypeAlias = Sequence[Any] | Array


@dataclass(frozen=True, slots=True)
class Chunk:
    """Consecutive rows as they stand in the file; in the place of one that cannot be read stands its RequestError.

    `position` is where the next chunk begins, in the unit of the source's `size`.
    """

    rows: Rows
    position: int


@dataclass(frozen=True, slots=True)
class Scored:
    """A chunk's results: kept columns and outputs by name, one value a row, None for the rows that failed."""

    kept: Mapping[str, Values]
    outputs: Mapping[str, Values]


# Whether the chunk of a number belongs to somebody else.
Skips: TypeAlias = Callable[[int], bool]


def keep_all(chunk: int) -> bool:
    """Of a run alone: no chunk is skipped."""
    return False


class RowSource(Protocol):
    """A file of rows. `unused` are columns that neither the model accepts nor the output keeps; `types` are those of
    the kept columns, where the format has types.
    """

    size: int
    unused: tuple[str, ...]
    types: Mapping[str, Any]

    def chunks(self, position: int, rows: int, skips: Skips = keep_all) -> Iterator[Chunk]:
        """The chunks from a position on, each of at most `rows` rows; `skips` counts them from 0.

        The rows of one that is skipped are not decoded, where that saves work not even read: only their number counts.
        """

    def decode(self, rows: Rows, number: int) -> Mapping[str, Array]:
        """Rows as the model's tensors; `number` is the first row's. Raises RequestError."""

    def keep(self, rows: Rows) -> Mapping[str, Values]:
        """The kept columns of rows, some of which may be errors."""


class RowSink(Protocol):
    """How results are written: bytes that can be appended and cut off, made into the final file at the end."""

    def head(self) -> bytes:
        """What stands before the first row."""

    def encode(self, scored: Scored) -> bytes:
        """The rows of a chunk."""

    def publish(self, part: Path, output: Path) -> None:
        """Put the whole part file in the output's place, at once."""
        part.replace(output)


@dataclass(frozen=True, slots=True)
class Columns:
    """What a sink knows: the kept columns (with their types where the source has some) and the outputs."""

    keep: tuple[str, ...]
    outputs: tuple[TensorSpec, ...]
    types: Mapping[str, Any]
