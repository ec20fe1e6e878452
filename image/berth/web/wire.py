"""Bodies: the bounded read, the JSON object, and the one error shape."""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from typing import Any

from berth.errors import (
    BerthError,
    BodyTimeout,
    BodyTooLarge,
    InvalidInput,
    UnsupportedMediaType,
    shown,
)
from berth.tensors.codec import decode_json, encode_json
from berth.web.exchange import JSON, Exchange, Reply

_LENGTH = "CONTENT_LENGTH"
# What curl -d says of every body, and no client means that sends JSON.
_FORM = "application/x-www-form-urlencoded"
_MOST_DIGITS = 18
_PIECE_BYTES = 1 << 20


def _too_large(limit: int) -> BodyTooLarge:
    return BodyTooLarge(
        f"the body is longer than {limit} bytes; send fewer rows, or the operator sets a higher BERTH_MAX_BODY_BYTES",
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
        raise InvalidInput("Content-Encoding is gzip, but the body is truncated or followed by other data")
    return plain


def content_length(environ: Mapping[str, Any]) -> int | None:
    """The length that the client declares; None where it sends chunks, or declares none."""
    text = environ.get(_LENGTH, "")
    is_number = text.isascii() and text.isdigit() and len(text) <= _MOST_DIGITS
    return int(text) if is_number and "HTTP_TRANSFER_ENCODING" not in environ else None


def read_body(exchange: Exchange, limit: int) -> bytes:
    """The request's body, unpacked; the gunicorn file bounds how long it may take to arrive.

    Raises BodyTooLarge (before reading when the length is declared), BodyTimeout, UnsupportedMediaType.
    """
    environ = exchange.environ
    encoding = environ.get("HTTP_CONTENT_ENCODING", "identity").strip().lower()
    if encoding not in ("identity", "gzip", ""):
        raise UnsupportedMediaType(f"Content-Encoding {encoding[:60]!r} is not supported; send gzip or none")
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


def media_type(environ: Mapping[str, Any]) -> str:
    """The body's media type without its parameters; JSON where the client sends none, or curl's."""
    found = (environ.get("CONTENT_TYPE") or JSON).split(";")[0].strip().lower() or JSON
    return JSON if found == _FORM else found


def media_parameter(environ: Mapping[str, Any], name: str) -> str | None:
    """A parameter of the body's media type, in small letters."""
    for part in (environ.get("CONTENT_TYPE") or "").split(";")[1:]:
        key, _, value = part.partition("=")
        if key.strip().lower() == name:
            return str(value).strip().strip('"').lower()
    return None


def check_media_type(environ: Mapping[str, Any], *taken: str) -> str:
    """The media type, which must be one of `taken`. Raises UnsupportedMediaType."""
    if (found := media_type(environ)) not in taken:
        raise UnsupportedMediaType(f"Content-Type {found[:60]!r} is not supported; send {' or '.join(taken)}")
    return found


def read_json_object(exchange: Exchange, limit: int) -> dict[str, Any]:
    """The request's body as a JSON object. Raises UnsupportedMediaType, MalformedJson, InvalidInput."""
    check_media_type(exchange.environ, JSON)
    document = decode_json(read_body(exchange, limit))
    if not isinstance(document, dict):
        raise InvalidInput(f"the body must be a JSON object, got {shown(document)}")
    return document


def json_reply(document: Any, values: int | None = None) -> Reply:
    """A JSON response, of about so many numbers where that is known."""
    return Reply(encode_json(document, values))


def error_reply(error: BerthError, request_id: str, **more: Any) -> Reply:
    """The one error shape; `more` are keys that a protocol's own clients read beside it."""
    document = {"error": error.message, "code": error.code, "request_id": request_id, **more}
    return Reply(encode_json(document), error.status, headers=error.headers)
