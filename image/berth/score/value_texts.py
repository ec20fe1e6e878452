"""A column's values as their JSON texts, one a row: numbers of an array all at once, everything else one by one."""

from __future__ import annotations

from typing import Any

import numpy as np
import orjson

from berth.score.chunks import Values
from berth.tensors.codec import encode_json


def _text_of(value: Any) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


def dump_value(value: Any) -> bytes:
    """One value; NaN becomes null, and what JSON does not know its text."""
    return orjson.dumps(value, _text_of)


def encode_line(document: dict[str, Any]) -> bytes:
    """One object and its newline."""
    return dump_value(document) + b"\n"


def _is_numeric(values: Values) -> bool:
    return isinstance(values, np.ndarray) and values.dtype.kind in "biuf"


def list_values_of(values: Values) -> list[Any]:
    """An array's values by way of JSON, which is what a client of the server has; a list or Arrow's array as it is."""
    if isinstance(values, np.ndarray):
        return list(orjson.loads(encode_json(values)))
    return values.to_pylist() if hasattr(values, "to_pylist") else list(values)


def _number_text(values: Values) -> bytes:
    """An array's JSON. Narrow floats go by way of Python's: 0.000001 as FP32 is 1e-6 as FP64, and one by one."""
    text = encode_json(values)
    narrow = isinstance(values, np.ndarray) and values.dtype.kind == "f" and values.dtype.itemsize < 8
    return orjson.dumps(orjson.loads(text)) if narrow else text


def split_numbers(values: Values) -> list[bytes] | None:
    """The text of each number of an array in row-major order; None where it holds anything else."""
    if not _is_numeric(values):
        return None
    text = _number_text(values)
    return text.translate(None, b"[]").split(b",") if len(values) else []


def row_texts(values: Values) -> list[bytes]:
    """One JSON text a row."""
    if isinstance(values, np.ndarray) and values.ndim == 2 and values.size and _is_numeric(values):
        return [b"[%b]" % row for row in _number_text(values)[2:-2].split(b"],[")]
    if isinstance(values, np.ndarray) and values.ndim == 1 and (numbers := split_numbers(values)) is not None:
        return numbers
    return [dump_value(value) for value in list_values_of(values)]
