"""JSON as every protocol, the command line and scoring read and write it: strict, exact, and quick for numbers."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterable
from typing import Any

import numpy as np
import orjson

from berth.errors import MalformedJson
from berth.tensors.number_rows import LARGE_BYTES, decode_numbers

# No tensor is as deep, and walking down 500 levels would end at Python's own limit.
_MOST_DEPTH = 64
# So few lists may all lie in one another without harm.
_FEW_LISTS = 128
# Decoding and encoding hold the interpreter's lock, for 0.1 us a value and more. Where many threads do that at once,
# who serves a quick request waits for each of them whenever it wants the lock: one large document at a time.
_MANY_BYTES = 32768
_MANY_VALUES = 5000
_large = threading.Lock()
# A string, also one that never ends, so that each byte is passed once; or what Python writes for a missing number.
_STRING_OR_NAN = re.compile(rb'"(?:[^"\\]|\\.)*+"?|\bNaN\b', re.DOTALL)
_DUMP_OPTIONS = orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_NON_STR_KEYS


def _count_keys(value: Any, depth: int = 0) -> int:
    """The keys in a document, those in lists that begin with a plain value aside. Raises MalformedJson when deep."""
    if depth > _MOST_DEPTH:
        raise MalformedJson(f"the body is nested deeper than {_MOST_DEPTH} lists and objects")
    count, items = 0, value
    if type(value) is dict:
        count, items = len(value), value.values()
    elif type(value) is not list or not _holds_nested(value):
        return 0
    elif type(value[0]) is list and value[0] and type(value[0][0]) in (float, int):
        return 0  # rows of numbers; should an object hide among them, its colons show it
    for item in items:
        if type(item) is dict or (type(item) is list and _holds_nested(item)):
            count += _count_keys(item, depth + 1)
    return count


def _holds_nested(values: list[Any]) -> bool:
    return bool(values) and type(values[0]) in (dict, list)


def find_duplicate(words: Iterable[str]) -> str | None:
    """The first word that comes a second time; None where all are different."""
    seen: set[str] = set()
    for word in words:
        if word in seen:
            return word
        seen.add(word)
    return None


def _refuse_twice(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if (twice := find_duplicate(key for key, _ in pairs)) is not None:
        raise MalformedJson(f"the key {twice[:60]!r} is duplicated in one object; keep one")
    return dict(pairs)


def decode_json(body: bytes) -> Any:
    """The document in `body`; in a large one, lists of numbers are float64 arrays where a protocol has its rows.

    Raises MalformedJson; a duplicate key is one, a bare NaN too.
    """
    if len(body) < LARGE_BYTES:
        return _decode_exactly(body)
    if (numbers := decode_numbers(body)) is not None:
        return numbers
    if len(body) <= _MANY_BYTES:
        return _decode_exactly(body)
    with _large:
        return _decode_exactly(body)


def decode_line(line: bytes) -> Any:
    """As `decode_json` for a line of many; the error that it is, instead of raising it."""
    try:
        return decode_json(line)
    except MalformedJson as error:
        return MalformedJson(error.message.replace("the body", "the line", 1))


def _without_nan(body: bytes) -> bytes:
    return _STRING_OR_NAN.sub(lambda found: b"null" if found[0] == b"NaN" else found[0], body)


def decode_python_json(body: bytes) -> Any:
    """As `decode_json`, but NaN, which Python's json module writes, is null. Raises MalformedJson."""
    return decode_json(_without_nan(body))


def _decode_exactly(body: bytes) -> Any:
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        hint = "; JSON has no NaN: send null for a missing value" if _without_nan(body) != body else ""
        raise MalformedJson(f"the body is not JSON: {str(error)[:200]}{hint}") from None
    # The quick parser keeps the last of two equal keys. Every key has its colon: only where there are
    # more colons than keys (in strings, or for a key that vanished) is the slow, exact look worth it.
    try:
        colons = body.count(b":")
        if isinstance(document, dict) and colons == len(document) and body.count(b"[") <= _FEW_LISTS:
            return document  # a colon for each key at the top: there are no others, and none vanished
        if colons != _count_keys(document):
            json.loads(body, object_pairs_hook=_refuse_twice)
    except RecursionError:
        raise MalformedJson("the body is nested too deeply") from None
    except ValueError as error:
        raise MalformedJson(f"the body is not JSON that can be read exactly: {str(error)[:200]}") from None
    return document


def _plain(value: Any) -> Any:
    if hasattr(value, "tolist"):
        return value.tolist()
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    raise TypeError(f"{type(value).__name__} cannot be written as JSON")


def encode_json(document: Any, values: int | None = None) -> bytes:
    """A document, numpy arrays and scalars in it, as JSON; NaN and infinities become null.

    `values` is about how many numbers it has, where that is known.
    """
    if (_count_values(document) if values is None else values) <= _MANY_VALUES:
        return orjson.dumps(document, _plain, _DUMP_OPTIONS)
    with _large:
        return orjson.dumps(document, _plain, _DUMP_OPTIONS)


def _count_values(document: Any) -> int:
    """About how many numbers a document of ours has: its arrays lie near its top."""
    if type(document) is dict:
        count = 0
        for value in document.values():
            kind = type(value)
            if kind is np.ndarray:
                count += value.size
            else:
                count += _count_values(value) if kind is dict or (kind is list and value) else 1
        return count
    if type(document) is list and document and type(document[0]) is dict:
        return len(document) * _count_values(document[0])
    return int(getattr(document, "size", 1))
