"""Tensors as the Open Inference Protocol names them: datatypes, specs, and both wire encodings.

https://github.com/open-inference/open-inference-protocol/blob/main/specification/protocol/inference_rest.md
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import chain
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from berth.errors import InvalidInput, shown

Array: TypeAlias = npt.NDArray[Any]
Tensors: TypeAlias = Mapping[str, Array]

# BYTES is an object array of `str` (or of `bytes` where they are not UTF-8).
DATATYPES: dict[str, np.dtype[Any]] = {
    "BOOL": np.dtype(np.bool_),
    "UINT8": np.dtype("<u1"),
    "UINT16": np.dtype("<u2"),
    "UINT32": np.dtype("<u4"),
    "UINT64": np.dtype("<u8"),
    "INT8": np.dtype("<i1"),
    "INT16": np.dtype("<i2"),
    "INT32": np.dtype("<i4"),
    "INT64": np.dtype("<i8"),
    "FP16": np.dtype("<f2"),
    "FP32": np.dtype("<f4"),
    "FP64": np.dtype("<f8"),
    "BYTES": np.dtype(object),
}

# By size in bytes: half a step beyond the largest float, for what lies below rounds down to that one.
_ROUNDS_TO_INFINITY = {2: 65520, 4: 2**128 - 2**103, 8: 2**1024 - 2**970}
# numpy has room for 64.
_MOST_DIMENSIONS = 32
_NAMES = {dtype: name for name, dtype in DATATYPES.items()}


def datatype_of(dtype: np.dtype[Any]) -> str:
    """The protocol's name for a numpy dtype; strings and objects are BYTES. Raises KeyError."""
    if dtype.kind in "OUST":
        return "BYTES"
    return _NAMES[dtype.newbyteorder("<")]


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """One named input or output: -1 in `shape` is a free dimension, the first one counts rows.

    `columns` names the features of a two-dimensional input; `labels` are a classifier's classes,
    in the order of the last dimension of its probabilities. An `optional` input is a column that no part of the
    model reads: requests may leave it out and may send anything, and the model never gets it. An `optional` output
    is computed for those that name it.
    """

    name: str
    datatype: str
    shape: tuple[int, ...]
    columns: tuple[str, ...] | None = None
    labels: tuple[Any, ...] | None = None
    optional: bool = False


def _shape_and_values(value: Any, where: str) -> tuple[tuple[int, ...], list[Any]]:
    """The shape of nested lists, and their scalars in row-major order. Raises InvalidInput when ragged."""
    if type(value) is not list:
        return (), [value]
    shape, flat = [len(value)], value
    while flat and type(flat[0]) is list:
        if set(map(type, flat)) != {list}:
            raise InvalidInput(f"{where} mixes lists and single values at depth {len(shape)}; make every row a list")
        widths = set(map(len, flat))
        if len(widths) > 1:
            told = ", ".join(map(str, sorted(widths)[:5])) + (", …" if len(widths) > 5 else "")
            raise InvalidInput(f"{where} is ragged: rows have [{told}] values; make all rows equally long")
        shape.append(widths.pop())
        if len(shape) > _MOST_DIMENSIONS:
            raise InvalidInput(f"{where} is nested deeper than {_MOST_DIMENSIONS} lists")
        flat = list(chain.from_iterable(flat))
    return tuple(shape), flat


_TAKEN: dict[str, frozenset[type]] = {
    "FP": frozenset({float, int, bool, type(None)}),
    "IN": frozenset({int, float, bool}),
    "UI": frozenset({int, float, bool}),
    "BO": frozenset({bool, int}),
    "BY": frozenset({str, type(None)}),
}
_WANTED = {"FP": "a number", "IN": "a whole number", "UI": "a whole number", "BO": "true or false", "BY": "a string"}


def _check_types(flat: list[Any], types: set[type], datatype: str, where: str) -> None:
    family = datatype[:2]
    if not (wrong := types - _TAKEN[family]):
        return
    value = next(item for item in flat if type(item) in wrong)
    raise InvalidInput(f"{where} must be {_WANTED[family]} ({datatype}), got {shown(value)}")


def _fits(value: float, dtype: np.dtype[Any]) -> bool:
    """Whether a number is in the range of `dtype`."""
    if dtype.kind == "b":
        return 0 <= value <= 1
    if dtype.kind in "iu":
        return int(np.iinfo(dtype).min) <= value <= int(np.iinfo(dtype).max)
    return abs(value) < _ROUNDS_TO_INFINITY[dtype.itemsize]


def _check_range(flat: list[Any], datatype: str, where: str) -> None:
    """That whole numbers are whole and fit; for floats, that none is lost to infinity."""
    dtype = DATATYPES[datatype]
    if dtype.kind in "iu" and (bad := [v for v in flat if type(v) is float and not v.is_integer()]):
        raise InvalidInput(f"{where} must be a whole number ({datatype}), got {bad[0]}")
    for value in (min(flat), max(flat)):
        if not _fits(value, dtype):
            raise InvalidInput(f"{where} has {shown(value)}, which does not fit {datatype}")


def _decode_numbers(numbers: Array, datatype: str, where: str) -> Array:
    """Numbers that the parser made an array of at once (see number_rows.py), one of them with a fraction at least."""
    if datatype == "FP64":
        return numbers
    if not datatype.startswith("FP"):
        return decode_array(numbers.tolist(), datatype, where)
    _check_range([float(numbers.min()), float(numbers.max())], datatype, where)
    return numbers.astype(DATATYPES[datatype])


def decode_array(value: Any, datatype: str, where: str) -> Array:
    """Nested JSON lists (or one scalar) as an array of `datatype`; null in a float tensor is NaN.

    Lists of numbers may be float64 arrays already. Raises InvalidInput, which names `where`, the value and what was
    wanted.
    """
    if isinstance(value, np.ndarray):
        return _decode_numbers(value, datatype, where)
    shape, flat = _shape_and_values(value, where)
    types = set(map(type, flat))  # as long as the numbers take to read: once
    _check_types(flat, types, datatype, where)
    dtype = DATATYPES[datatype]
    if dtype.kind == "O":
        array = np.empty(len(flat), dtype)
        array[:] = flat
        return array.reshape(shape)
    present = [v for v in flat if v is not None] if type(None) in types else flat
    # Every float fits FP64; of the whole numbers, those of 308 digits and more do not.
    if present and (datatype != "FP64" or int in types):
        _check_range(present, datatype, where)
    if dtype.kind in "iu" and float in types:
        flat = [int(v) for v in flat]
    # Half the time of np.array, which checks the type of each value; but it does not know None.
    array = np.fromiter(flat, dtype, len(flat)) if types == {float} else np.array(flat, dtype)
    return array.reshape(shape)


def convert_array(array: Array, datatype: str, where: str) -> Array:
    """`array` as the datatype a model declares, converted only when no value is lost. Raises InvalidInput."""
    dtype = DATATYPES[datatype]
    if array.dtype == dtype:
        return array
    if array.dtype.kind == "b" and dtype.kind in "iuf":  # as in training frames, where True is 1
        return array.astype(dtype)
    if (array.dtype.kind == "O") != (dtype.kind == "O"):
        raise InvalidInput(f"{where} is {datatype_of(array.dtype)}, but the model accepts {datatype}")
    with np.errstate(all="ignore"):
        converted = array.astype(dtype)
        same = converted.astype(array.dtype) == array
    if (array.dtype.kind, dtype.kind) == ("f", "f"):
        same |= np.isnan(array)
    elif dtype.kind == "b":
        same = (array == 0) | (array == 1)
    elif "f" in (array.dtype.kind, dtype.kind):
        # A float beyond the whole numbers becomes what the processor likes; on some the nearest, which looks equal.
        whole, real = (dtype, array) if array.dtype.kind == "f" else (array.dtype, converted)
        same &= np.isfinite(real) & (real.astype(np.float64) < 2.0 ** (8 * whole.itemsize - (whole.kind == "i")))
    else:
        same &= (array < 0) == (converted < 0)
    if not same.all():
        lost = array.ravel()[int(np.argmin(same.ravel()))]
        raise InvalidInput(f"{where} has {lost!s}, which {datatype} cannot hold exactly; send {datatype}")
    return converted
