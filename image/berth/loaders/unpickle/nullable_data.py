"""pandas' arrays with gaps (Int64, boolean, Float64) and Arrow's columns in a pickle, as arrays of numpy.

A masked array of pandas is values beside a mask. An array of Arrow is a type, a length and raw buffers, which are read
here as the Arrow columnar format lays them out (https://arrow.apache.org/docs/format/Columnar.html): pyarrow is never
imported, so that a model that was made beside it is served without it. pandas 3 keeps the names of a frame's columns
in such an array wherever pyarrow is installed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from berth.errors import LoadError
from berth.tensors.arrays import Array

# By Arrow's name of a type: numpy's for its values. Texts have offsets, of four bytes or of eight.
_NUMBERS = {
    **{f"int{bits}": f"<i{bits // 8}" for bits in (8, 16, 32, 64)},
    **{f"uint{bits}": f"<u{bits // 8}" for bits in (8, 16, 32, 64)},
    **{"halffloat": "<f2", "float": "<f4", "double": "<f8"},
}
_OFFSETS = {"string": "<i4", "large_string": "<i8"}
_TYPES = (*_NUMBERS, *_OFFSETS, "bool")
_MOST_LENGTH = 2**40


def damaged(what: str) -> LoadError:
    """What to raise for data that no pickler of pandas writes."""
    return LoadError(f"the file is damaged: {what}")


def _with_gaps(values: Array, missing: Array) -> Array:
    """The values with NaN where they are missing: numbers as doubles, all others as objects."""
    if not missing.any():
        return values
    found: Array = values.astype(np.float64 if values.dtype.kind in "iuf" else object)
    found[missing] = np.nan
    return found


def masked_values(state: Any) -> Array:
    """What the state of an IntegerArray, a FloatingArray or a BooleanArray holds. Raises LoadError."""
    values, mask = state.get("_data"), state.get("_mask")
    for part, kinds in ((values, "iufb"), (mask, "b")):
        if type(part) is not np.ndarray or part.ndim != 1 or part.dtype.kind not in kinds:
            raise damaged("an array of pandas with gaps is something else")
    if len(values) != len(mask):
        raise damaged("an array of pandas has a mask of another length")
    return _with_gaps(values, mask)


class MaskedArray:
    """Stands for pandas' arrays with gaps: an empty array of numpy, which the state that follows fills."""

    def __new__(cls) -> Any:
        return np.ndarray((0,), "b")


class ArrowType:
    """Stands for a type of Arrow, by its name."""

    def __init__(self, name: object) -> None:
        if name not in _TYPES:
            raise LoadError(
                f"the file holds a column of Arrow's type {str(name)[:80]}, which is not supported; "
                "convert such columns with .to_numpy() before the model is fitted"
            )
        self.name = str(name)


@dataclass(frozen=True, slots=True)
class ArrowBuffer:
    """Stands for a buffer of Arrow's."""

    data: bytes


@dataclass(frozen=True, slots=True)
class ArrowArray:
    """Stands for an array of Arrow's: its values."""

    values: Array


def new_buffer(data: object) -> ArrowBuffer:
    """What `pyarrow.py_buffer` gives."""
    if type(data) not in (bytes, bytearray):
        raise damaged(f"a buffer of Arrow is made of a {type(data).__name__}")
    return ArrowBuffer(bytes(data))  # type: ignore[call-overload]


def _bits(buffer: ArrowBuffer, offset: int, length: int) -> Array:
    """A bitmap, in whose bytes the lowest bit comes first."""
    raw = np.frombuffer(buffer.data, np.uint8)
    if len(raw) * 8 < offset + length:
        raise damaged("a bitmap of Arrow is too short")
    found: Array = np.unpackbits(raw, bitorder="little")[offset : offset + length].astype(np.bool_)
    return found


def _read(buffer: ArrowBuffer, dtype: str, offset: int, length: int) -> Array:
    raw = buffer.data[: len(buffer.data) // np.dtype(dtype).itemsize * np.dtype(dtype).itemsize]
    values = np.frombuffer(raw, dtype)
    if len(values) < offset + length:
        raise damaged("a buffer of Arrow is too short")
    return values[offset : offset + length]


def _texts(buffers: Sequence[Any], dtype: str, offset: int, length: int) -> Array:
    ends = _read(buffers[1], dtype, offset, length + 1).tolist() if length else [0]
    data = buffers[2].data if buffers[2] is not None else b""
    if ends[0] < 0 or ends[-1] > len(data) or any(low > high for low, high in pairwise(ends)):
        raise damaged("the texts of an array of Arrow lie outside of it")
    found = np.empty(length, object)
    found[:] = [data[low:high].decode("utf-8", "replace") for low, high in pairwise(ends)]
    return found


def restore_array(parts: Any) -> ArrowArray:
    """What `pyarrow.lib._restore_array` gives, of (type, length, gaps, offset, buffers, children, dictionary)."""
    if type(parts) is not tuple or len(parts) != 7:
        raise damaged("an array of Arrow has other parts")
    kind, length, _, offset, buffers, children, dictionary = parts
    sized = all(type(size) is int and 0 <= size < _MOST_LENGTH for size in (length, offset))
    listed = type(buffers) in (list, tuple) and all(one is None or type(one) is ArrowBuffer for one in buffers)
    if not isinstance(kind, ArrowType) or not sized or not listed or children or dictionary is not None:
        raise damaged("an array of Arrow has other parts")
    if len(buffers) != (3 if kind.name in _OFFSETS else 2) or (length and buffers[1] is None):
        raise damaged("an array of Arrow lacks a buffer")
    if kind.name in _OFFSETS:
        values = _texts(buffers, _OFFSETS[kind.name], offset, length)
    elif not length:
        values = np.empty(0, _NUMBERS.get(kind.name, "?"))
    elif kind.name == "bool":
        values = _bits(buffers[1], offset, length)
    else:
        values = _read(buffers[1], _NUMBERS[kind.name], offset, length)
    if buffers[0] is None:
        return ArrowArray(values)
    return ArrowArray(_with_gaps(values, ~_bits(buffers[0], offset, length)))


def chunked_array(chunks: object, kind: object = None) -> ArrowArray:
    """What `pyarrow.chunked_array` gives: its chunks one after the other."""
    if type(chunks) is not list or not all(type(one) is ArrowArray for one in chunks):
        raise damaged("chunks of Arrow are something else")
    if not chunks:
        return ArrowArray(np.empty(0, object))
    return ArrowArray(np.concatenate([one.values for one in chunks]))


def held_values(state: Any) -> Array | None:
    """The values of the state of an array of pandas with gaps, or of one over Arrow; None of any other state."""
    if type(state) is not dict:
        return None
    if "_mask" in state:
        return masked_values(state)
    held = state.get("_pa_array", state.get("_data"))
    return held.values if type(held) is ArrowArray else None


_MASKED = {"integer": ["IntegerArray"], "floating": ["FloatingArray"], "boolean": ["BooleanArray"]}
_KINDS = [f"{sign}{bits}Dtype" for sign in ("Int", "UInt") for bits in (8, 16, 32, 64)]
_DTYPES = {
    "integer": _KINDS,
    "floating": ["Float32Dtype", "Float64Dtype"],
    "boolean": ["BooleanDtype"],
    "string_": ["StringDtype"],
    "arrow.dtype": ["ArrowDtype"],
}
_ARROW = {
    "string_arrow": ["ArrowStringArray", "ArrowStringArrayNumpySemantics"],
    "arrow.array": ["ArrowExtensionArray"],
}


def _named(homes: dict[str, list[str]], public: str, target: Any) -> dict[tuple[str, str], Any]:
    """`target` under the names of its classes: where pandas shows them, and where older versions keep them."""
    return {
        (module, name): target
        for home, names in homes.items()
        for name in names
        for module in (public, f"pandas.core.arrays.{home}", "pandas.core.dtypes.dtypes")
    }


def nullable_names(kind: Any) -> dict[tuple[str, str], Callable[..., Any]]:
    """What a file names, and what that leads to; `kind` stands for a dtype of pandas."""
    return {
        **_named(_MASKED, "pandas.arrays", MaskedArray),
        **_named(_ARROW, "pandas.arrays", MaskedArray),
        **_named(_DTYPES, "pandas", kind),
        **{(module, "py_buffer"): new_buffer for module in ("pyarrow", "pyarrow.lib")},
        **{(module, "chunked_array"): chunked_array for module in ("pyarrow", "pyarrow.lib")},
        **{(module, "type_for_alias"): ArrowType for module in ("pyarrow.lib", "pyarrow.types")},
        ("pyarrow.lib", "_restore_array"): restore_array,
    }
