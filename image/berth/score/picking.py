"""Which columns of a table a model takes, and their values as its tensors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from berth.errors import InvalidInput
from berth.tensors.arrays import Array, TensorSpec
from berth.tensors.schema import (
    check_columns,
    column_names,
    decode_columns,
    decode_matrix,
    decode_tensors,
    is_frame,
    is_matrix,
)


@dataclass(frozen=True, slots=True)
class Picked:
    """The columns of a table that go to the model: their names and places in the header.

    `named` is false where the model knows no names; `whole`: each column is one input, a list in every cell.
    """

    names: tuple[str, ...]
    places: tuple[int, ...]
    unused: tuple[str, ...] = ()
    named: bool = True
    whole: bool = False


def _pick_unnamed(header: Sequence[str], width: int, keep: Sequence[str]) -> Picked:
    places = tuple(at for at, name in enumerate(header) if name not in keep)
    if width not in (-1, len(places)):
        raise InvalidInput(
            f"the model expects {width} columns, which have no names, but the input has {len(places)} besides those "
            f"to keep; name what is not for the model with --keep"
        )
    return Picked(tuple(header[at] for at in places), places, named=False)


def check_keep(header: Sequence[str], keep: Sequence[str]) -> None:
    """That the input has the columns to keep. Raises InvalidInput."""
    if missing := [name for name in keep if name not in header]:
        raise InvalidInput(f"no column {missing[0]!r} to keep; the input has {', '.join(header)[:500]}")


def pick_columns(header: Sequence[str], specs: Sequence[TensorSpec], keep: Sequence[str], *, nests: bool) -> Picked:
    """The columns that the model accepts, of a table with this header; `nests`: a cell may hold a list.

    Raises InvalidInput when the model cannot be called with this table at all.
    """
    check_keep(header, keep)
    inputs = tuple(spec.name for spec in specs)
    whole = nests and not is_frame(specs) and set(inputs) <= set(header)
    names = inputs if whole else column_names(specs)
    if names is None and is_matrix(specs):
        return _pick_unnamed(header, specs[0].shape[1], keep)
    if names is None:
        raise InvalidInput(f"the model expects the tensors {', '.join(inputs)}, not a table of values; send jsonl")
    check_columns([name for name in dict.fromkeys(header) if name in set(names)], names)
    used = {*names, *keep}
    if twice := [name for name in used if header.count(name) > 1]:
        raise InvalidInput(f"the column {twice[0]!r} is duplicated in the input; keep one")
    unused = tuple(name for name in header if name not in used)
    return Picked(names, tuple(header.index(name) for name in names), unused, whole=whole)


def _decode_unnamed(columns: Sequence[list[Any] | Array], specs: Sequence[TensorSpec]) -> dict[str, Array]:
    if columns and all(isinstance(column, np.ndarray) for column in columns):
        return decode_matrix(np.stack(columns, axis=1), specs)
    lists = [column.tolist() if isinstance(column, np.ndarray) else column for column in columns]
    return decode_matrix([list(row) for row in zip(*lists, strict=True)], specs)


def decode_picked(
    columns: Sequence[list[Any] | Array], picked: Picked, specs: Sequence[TensorSpec]
) -> dict[str, Array]:
    """The picked columns' values as the model's tensors. Raises InvalidInput."""
    if not picked.named:
        return _decode_unnamed(columns, specs)
    named = dict(zip(picked.names, columns, strict=True))
    return decode_tensors(named, specs) if picked.whole else decode_columns(named, specs)
