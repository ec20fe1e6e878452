"""One tensor as the Open Inference Protocol sends it: its shape beside its values, in JSON or in binary.

https://github.com/triton-inference-server/server/blob/main/docs/protocol/extension_binary_data.md
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from berth.errors import InvalidInput, shown
from berth.tensors.arrays import DATATYPES, Array, decode_array

# Far beyond any body that fits in memory; numpy overflows on shapes that say more.
_MOST_VALUES = 1 << 40
_MOST_DIMENSIONS = 32
_LENGTH_BYTES = 4


def decode_shape(value: Any, where: str) -> tuple[int, ...]:
    """A client's list of sizes. Raises InvalidInput."""
    for size in value if type(value) is list else (None,):
        if type(size) is not int or size < 0:
            raise InvalidInput(f"{where}: shape must be a list of whole numbers from 0 up, got {shown(value)}")
    if len(value) > _MOST_DIMENSIONS or math.prod([size or 1 for size in value]) > _MOST_VALUES:
        raise InvalidInput(f"{where}: the shape {str(value)[:60]} is larger than any request can be")
    return tuple(value)


def decode_shaped(value: Any, datatype: str, shape: tuple[int, ...], where: str) -> Array:
    """JSON lists, flat or nested as `shape` says, as an array of that shape. Raises InvalidInput."""
    if type(value) not in (list, np.ndarray):
        raise InvalidInput(f"{where}: data must be a list, got {shown(value)}")
    array = decode_array(value, datatype, where)
    if array.size != math.prod(shape):
        raise InvalidInput(
            f"{where}: data has {array.size} values, but the shape {list(shape)} needs {math.prod(shape)}"
        )
    if array.ndim > 1 and array.shape != shape:
        raise InvalidInput(f"{where}: data is nested as {list(array.shape)}, but the shape is {list(shape)}")
    return array.reshape(shape)


def _decode_strings(data: memoryview, count: int, where: str) -> Array:
    """Elements that each follow their length in 4 bytes; those that are not UTF-8 stay bytes."""
    if count * _LENGTH_BYTES > len(data):
        raise InvalidInput(f"{where}: {len(data)} bytes cannot hold {count} strings with their lengths")
    array, at = np.empty(count, object), 0
    for number in range(count):
        begin = at + _LENGTH_BYTES
        at = begin + int.from_bytes(data[begin - _LENGTH_BYTES : begin], "little")
        if begin > len(data) or at > len(data):
            raise InvalidInput(f"{where}: the binary data ends inside string {number + 1} of {count}")
        raw = bytes(data[begin:at])
        try:
            array[number] = raw.decode("utf-8")
        except UnicodeDecodeError:
            array[number] = raw
    if at != len(data):
        raise InvalidInput(f"{where}: {len(data) - at} bytes are left after the last of {count} strings")
    return array


def decode_binary(data: bytes | memoryview, datatype: str, shape: tuple[int, ...], where: str) -> Array:
    """Little-endian values in row-major order as an array, writable and aligned. Raises InvalidInput."""
    count = math.prod(shape)
    if datatype == "BYTES":
        return _decode_strings(memoryview(data), count, where).reshape(shape)
    dtype = DATATYPES[datatype]
    if len(data) != count * dtype.itemsize:
        raise InvalidInput(
            f"{where}: {len(data)} bytes of binary data, but {datatype} of shape {list(shape)} "
            f"needs {count * dtype.itemsize}"
        )
    values = np.frombuffer(data, np.uint8 if datatype == "BOOL" else dtype)
    if datatype == "BOOL" and values.size and values.max() > 1:
        raise InvalidInput(f"{where}: a BOOL is one byte, 0 or 1, got {values.max()}")
    return values.astype(dtype, copy=True).reshape(shape)


def encode_binary(array: Array, datatype: str) -> bytes:
    """The array's values as `decode_binary` reads them; a missing string is an empty one."""
    if datatype != "BYTES":
        return np.ascontiguousarray(array, DATATYPES[datatype]).tobytes()
    pieces = []
    for value in array.ravel().tolist():
        raw = value if isinstance(value, bytes) else b"" if value is None else str(value).encode("utf-8", "replace")
        pieces += [len(raw).to_bytes(_LENGTH_BYTES, "little"), raw]
    return b"".join(pieces)
