"""A CSV of typical inputs: what it says about a model's columns, and its rows as the model's tensors."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from berth.errors import InvalidInput, LoadError
from berth.tensors.arrays import Array, TensorSpec
from berth.tensors.schema import check_tensors, column_names, decode_columns, decode_matrix, is_matrix
from berth.tensors.tables import Table, parse_csv

_MOST_ROWS = 1 << 20
_WHOLE = re.compile(r"[+-]?\d{1,18}")
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?|nan|NaN")


@dataclass(frozen=True, slots=True)
class Sample:
    """The rows, and for each column the datatype that holds all of its cells; `named` unless it has no header."""

    table: Table
    datatypes: tuple[str, ...]
    named: bool = True


def guess_datatype(cells: Sequence[str | None]) -> str:
    """INT64, FP64 (also whole numbers or truths with gaps), BOOL or BYTES: the narrowest that holds every cell."""
    present = [cell.strip() for cell in cells if cell is not None]
    if not present or all(_NUMBER.fullmatch(cell) for cell in present):
        whole = len(present) == len(cells) and all(_WHOLE.fullmatch(cell) for cell in present)
        return "INT64" if whole and present else "FP64"
    if not all(cell.lower() in ("true", "false") for cell in present):
        return "BYTES"
    return "BOOL" if len(present) == len(cells) else "FP64"


def _lacks_header(body: bytes, known: Collection[str]) -> bool:
    """Whether the first line is numbers alone, which name no column that the model knows."""
    first = body.removeprefix(b"\xef\xbb\xbf").partition(b"\n")[0].decode("utf-8", "replace")
    cells = [cell.strip().strip('"') for cell in first.split(",")]
    return all(_NUMBER.fullmatch(cell) for cell in cells) and not set(cells) & set(known)


def _texts(declared: Sequence[TensorSpec], columns: Sequence[str]) -> frozenset[str]:
    """The columns that the model knows as text, whatever their cells look like: codes with leading zeros, "true"."""
    if len(declared) == 1 and declared[0].datatype == "BYTES":  # one text column may go by any name
        return frozenset(columns)
    return frozenset(spec.name for spec in declared if spec.datatype == "BYTES" and not spec.optional)


def read_sample(path: Path, declared: Sequence[TensorSpec] = (), guessed: Collection[str] = ()) -> Sample:
    """A CSV file; its first line is a header unless it is numbers alone. `declared` are the inputs that the model has.

    Of the `guessed` ones the cells say what they are. Raises LoadError.
    """
    try:
        body = path.read_bytes()
        named = not _lacks_header(body, column_names(declared) or ())
        if not named:
            width = body.partition(b"\n")[0].count(b",") + 1
            body = ",".join(f"x{at}" for at in range(width)).encode() + b"\n" + body.removeprefix(b"\xef\xbb\xbf")
        cells = parse_csv(body, {}, "BYTES", _MOST_ROWS)
        texts = _texts(declared, cells.columns) - set(guessed)
        datatypes = tuple(
            "BYTES" if name in texts else guess_datatype(column)
            for name, column in zip(cells.columns, cells.values, strict=True)
        )
        kinds = dict(zip(cells.columns, datatypes, strict=True))
        return Sample(parse_csv(body, kinds, "BYTES", _MOST_ROWS), datatypes, named)
    except (OSError, InvalidInput) as error:
        raise LoadError(f"the sample {path.name} cannot be read: {error}") from error


def _believe(specs: Mapping[str, TensorSpec], declared: TensorSpec, guessed: Collection[str]) -> tuple[TensorSpec, ...]:
    """A matrix as columns, those whose datatypes were guessed as the sample has them."""
    names = declared.columns or tuple(specs)
    return tuple(specs[name] if name in guessed else TensorSpec(name, declared.datatype, (-1,)) for name in names)


def describe_sample(
    sample: Sample, declared: Sequence[TensorSpec], guessed: Collection[str] = ()
) -> tuple[TensorSpec, ...]:
    """The model's inputs: as the artifact names them, completed by what the sample's columns are.

    Where the artifact guessed a column's datatype, the sample's is believed.
    Raises LoadError when the sample has another number of columns than the model.
    """
    names = sample.table.columns
    specs = tuple(TensorSpec(name, kind, (-1,)) for name, kind in zip(names, sample.datatypes, strict=True))
    if is_matrix(declared):
        width = declared[0].shape[1]
        if width not in (-1, len(names)):
            raise LoadError(f"the sample has {len(names)} columns, but the model expects {width}; leave the target out")
        found = {spec.name: spec for spec in specs}
        matrix = replace(declared[0], columns=declared[0].columns or (names if sample.named else None))
        others = any(found[name].datatype == "BYTES" for name in guessed if name in found)
        return _believe(found, matrix, guessed) if others and set(matrix.columns or ()) == set(found) else (matrix,)
    if not declared and "BYTES" not in sample.datatypes:
        return (TensorSpec("features", "FP64", (-1, len(names)), names if sample.named else None),)
    if not declared:
        return specs
    if len(declared) == len(specs) == 1:  # one text column may go by any name
        return tuple(declared)
    found = {spec.name: spec for spec in specs}
    if missing := [spec.name for spec in declared if spec.name not in found and not spec.optional]:
        raise LoadError(f"the sample lacks the column {missing[0]!r}; it has {', '.join(names[:20])}")
    return tuple(found[spec.name] if len(spec.shape) == 1 and not spec.optional else spec for spec in declared)


def decode_sample(sample: Sample, specs: Sequence[TensorSpec]) -> dict[str, Array]:
    """The sample's rows as the model's tensors. Raises LoadError when its columns are not the model's."""
    columns: dict[str, Any] = dict(zip(sample.table.columns, sample.table.values, strict=True))
    try:
        if is_matrix(specs) and set(specs[0].columns or ()) != set(columns):
            tensors = decode_matrix(sample.table.rows(), specs)
        elif is_matrix(specs):
            tensors = decode_columns(columns, specs)
        elif len(specs) == len(columns) == 1:
            tensors = decode_columns({specs[0].name: sample.table.values[0]}, specs)
        else:
            wanted = {spec.name for spec in specs}
            tensors = decode_columns({name: values for name, values in columns.items() if name in wanted}, specs)
        return check_tensors(tensors, specs, _MOST_ROWS)
    except InvalidInput as error:
        raise LoadError(f"the sample does not fit the model: {error.message}") from error
