"""MLServer's content types: what the strings of an input stand for, and whether inputs are a data frame's columns.

`np` and `str` say what datatype and shape say already; others are not known, and have no effect, as in MLServer.
https://docs.seldon.ai/mlserver/user-guide/content-type
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from berth.errors import InvalidInput, MalformedJson, shown
from berth.tensors.arrays import Array
from berth.tensors.codec import decode_json

_FRAME = "pd"


def is_frame_request(parameters: Mapping[str, Any]) -> bool:
    """Whether a request's inputs are the columns of a data frame."""
    return parameters.get("content_type") == _FRAME


def _decode_base64(text: str) -> Any:
    """Text where the bytes are UTF-8; what is not base64 stands for itself, as in MLServer."""
    try:
        raw = base64.b64decode(text.encode("ascii"), validate=True)
    except (binascii.Error, UnicodeEncodeError):
        return text
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        return raw


def _decode_value(text: str) -> Any:
    """One cell of a column that pandas kept as objects. Raises InvalidInput."""
    try:
        value = decode_json(text.encode("utf-8"))
    except MalformedJson as error:
        raise InvalidInput(f"content_type pd_json: {error.message}") from error
    if isinstance(value, dict | list):
        raise InvalidInput(f"content_type pd_json: each value must be a string, a number or null, got {shown(value)}")
    return value


_DECODE: Mapping[str, Callable[[str], Any]] = {"base64": _decode_base64, "pd_json": _decode_value}


def _as_numbers(values: list[Any]) -> Array | None:
    """A column of numbers, null for a missing one; None for one of anything else."""
    if not {type(value) for value in values} <= {int, float, bool, type(None)}:
        return None
    return np.array([np.nan if value is None else float(value) for value in values])


def apply_content_type(array: Array, parameters: Mapping[str, Any], where: str) -> Array:
    """An input of the datatype BYTES as its content type says. Raises InvalidInput."""
    content_type = parameters.get("content_type")
    decode = _DECODE.get(content_type) if isinstance(content_type, str) else None
    if decode is None or array.dtype.kind != "O":
        return array
    try:
        values = [decode(value) if isinstance(value, str) else value for value in array.ravel().tolist()]
    except InvalidInput as error:
        raise InvalidInput(f"{where}: {error.message}") from error
    numbers = _as_numbers(values) if content_type == "pd_json" else None
    if numbers is None:
        numbers = np.empty(len(values), object)
        numbers[:] = values
    return numbers.reshape(array.shape)
