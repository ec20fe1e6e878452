"""Bytes to Python and back: the bounded read, JSON, and the one error shape."""

from __future__ import annotations

import json
import threading
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import wraps
from typing import Any

import orjson
from flask import Response

from berth.errors import (
    BerthError,
    BodyTimeout,
    BodyTooLarge,
    InvalidInput,
    MalformedJson,
    UnsupportedMediaType,
    shown,
)
from berth.web.exchange import current

JSON = "application/json"
_LENGTH = "CONTENT_LENGTH"
_PIECE_BYTES = 1 << 20
# No tensor is as deep, and walking down 500 levels would end at Python's own limit.
_MOST_DEPTH = 64
# So few lists may all lie in one another without harm.
_FEW_LISTS = 128
# Decoding and encoding hold the interpreter's lock, for 0.1 us a value and more. Where many threads do that at once,
# who answers a quick request waits for each of them whenever it wants the lock: one large document at a time.
_MANY_BYTES = 32768
_MANY_VALUES = 5000
_large = threading.Lock()
_DUMP_OPTIONS = orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_NON_STR_KEYS


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer before any framework has seen it."""

    body: bytes
    status: int = 200
    content_type: str = JSON
    headers: Mapping[str, str] = field(default_factory=dict)


def respond(reply: Reply) -> Response:
    """A reply as Flask's response."""
    return Response(reply.body, reply.status, dict(reply.headers), content_type=reply.content_type)


def _too_large(limit: int) -> BodyTooLarge:
    return BodyTooLarge(
        f"the body is longer than {limit} bytes; send fewer rows or ask the operator for a higher BERTH_MAX_BODY_BYTES",
        headers={"Connection": "close"},
    )


def _read_stream(environ: Mapping[str, Any], length: int | None, limit: int) -> bytes:
    """The body as sent, of at most `limit` bytes; read in pieces so that a false length costs nothing."""
    stream = environ["wsgi.input"]
    if length is not None and length <= _PIECE_BYTES:
        whole: bytes = stream.read(length)
        while len(whole) < length and (piece := stream.read(length - len(whole))):
            whole += piece
        return whole
    pieces, size = [], 0
    while piece := stream.read(min(_PIECE_BYTES, limit + 1 - size)):
        pieces.append(piece)
        size += len(piece)
        if size > limit:
            raise _too_large(limit)
    return b"".join(pieces)


def _unzip(body: bytes, limit: int) -> bytes:
    """A gzip body unpacked, never beyond `limit` bytes."""
    unpacker = zlib.decompressobj(wbits=zlib.MAX_WBITS | 16)
    try:
        plain = unpacker.decompress(body, limit + 1)
    except zlib.error as error:
        raise InvalidInput(f"Content-Encoding is gzip, but the body is not: {error}") from error
    if len(plain) > limit:
        raise _too_large(limit)
    if not unpacker.eof or unpacker.unused_data:
        raise InvalidInput("Content-Encoding is gzip, but the body is cut off or has something behind its end")
    return plain


def content_length(environ: Mapping[str, Any]) -> int | None:
    """The length that the client told; None where it sends chunks, or told none."""
    text = environ.get(_LENGTH, "")
    return int(text) if text.isascii() and text.isdigit() and "HTTP_TRANSFER_ENCODING" not in environ else None


def read_body(limit: int) -> bytes:
    """The request's body, unpacked; the gunicorn file bounds how long it may take to arrive.

    Raises BodyTooLarge (before reading when the length is told), BodyTimeout, UnsupportedMediaType.
    """
    environ = (exchange := current()).environ
    encoding = environ.get("HTTP_CONTENT_ENCODING", "identity").strip().lower()
    if encoding not in ("identity", "gzip", ""):
        raise UnsupportedMediaType(f"Content-Encoding {encoding[:60]!r} is not read; send gzip or none")
    length = content_length(environ)
    if length is not None and length > limit:
        raise _too_large(limit)
    try:
        body = _read_stream(environ, length, limit)
    except TimeoutError as error:
        raise BodyTimeout("the body did not arrive in time", headers={"Connection": "close"}) from error
    except (OSError, ValueError) as error:  # a reset; chunks that are not what HTTP says
        raise InvalidInput("the body could not be read to its end", headers={"Connection": "close"}) from error
    if length is not None and len(body) < length:
        raise InvalidInput(f"the body ended after {len(body)} of {length} bytes", headers={"Connection": "close"})
    body = _unzip(body, limit) if encoding == "gzip" else body
    if exchange.keeps_body:
        exchange.body = body
    return body


def media_type() -> str:
    """The body's media type without its parameters; JSON when the client told none."""
    return (current().environ.get("CONTENT_TYPE") or JSON).split(";")[0].strip().lower() or JSON


def check_media_type(*taken: str) -> str:
    """The media type, which must be one of `taken`. Raises UnsupportedMediaType."""
    if (found := media_type()) not in taken:
        raise UnsupportedMediaType(f"Content-Type {found[:60]!r} is not read here; send {' or '.join(taken)}")
    return found


def _count_keys(value: Any, depth: int = 0) -> int:
    """The keys in a document, those in lists that begin with a plain value aside. Raises MalformedJson when deep."""
    if depth > _MOST_DEPTH:
        raise MalformedJson(f"the body is nested deeper than {_MOST_DEPTH} lists and objects")
    if isinstance(value, dict):
        return len(value) + sum(_count_keys(item, depth + 1) for item in value.values() if type(item) in (dict, list))
    if isinstance(value, list) and value and type(value[0]) in (dict, list):
        if type(value[0]) is list and value[0] and type(value[0][0]) in (float, int):
            return 0  # rows of numbers; should an object hide among them, its colons tell
        return sum(_count_keys(item, depth + 1) for item in value)
    return 0


def _refuse_twice(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    keys = [key for key, _ in pairs]
    if len(set(keys)) != len(keys):
        twice = next(key for key in keys if keys.count(key) > 1)
        raise MalformedJson(f"the key {twice[:60]!r} stands twice in one object; keep one")
    return dict(pairs)


def _alone_if_large(decode: Callable[[bytes], Any]) -> Callable[[bytes], Any]:
    @wraps(decode)
    def decode_in_turn(body: bytes) -> Any:
        if len(body) <= _MANY_BYTES:
            return decode(body)
        with _large:
            return decode(body)

    return decode_in_turn


@_alone_if_large
def decode_json(body: bytes) -> Any:
    """The document in `body`. Raises MalformedJson; a key that stands twice is one, a bare NaN too."""
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise MalformedJson(f"the body is not JSON: {str(error)[:200]}") from None
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


def read_json_object(limit: int) -> dict[str, Any]:
    """The request's body as a JSON object. Raises UnsupportedMediaType, MalformedJson, InvalidInput."""
    check_media_type(JSON)
    document = decode_json(read_body(limit))
    if not isinstance(document, dict):
        raise InvalidInput(f"the body must be a JSON object, got {shown(document)}")
    return document


def _plain(value: Any) -> Any:
    if hasattr(value, "tolist"):
        return value.tolist()
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    raise TypeError(f"{type(value).__name__} has no JSON form")


def encode_json(document: Any) -> bytes:
    """A document, numpy arrays and scalars in it, as JSON; NaN and infinities become null."""
    if _count_values(document) <= _MANY_VALUES:
        return orjson.dumps(document, _plain, _DUMP_OPTIONS)
    with _large:
        return orjson.dumps(document, _plain, _DUMP_OPTIONS)


def _count_values(document: Any) -> int:
    """About how many numbers a document of ours has: its arrays lie near its top."""
    if isinstance(document, dict):
        return sum(map(_count_values, document.values()))
    if isinstance(document, list) and document and isinstance(document[0], dict):
        return len(document) * _count_values(document[0])
    return int(getattr(document, "size", 1))


def json_reply(document: Any) -> Reply:
    """A JSON answer that no framework has seen."""
    return Reply(encode_json(document))


def json_response(document: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """A JSON answer."""
    return Response(encode_json(document), status, headers, content_type=JSON)


def error_reply(error: BerthError, **more: Any) -> Reply:
    """The one error shape; `more` are keys that a protocol's own clients read beside it."""
    document = {"error": error.message, "code": error.code, "request_id": current().request_id, **more}
    return Reply(encode_json(document), error.status, headers=error.headers)


def error_response(error: BerthError, **more: Any) -> Response:
    """The same as Flask's response."""
    return respond(error_reply(error, **more))
