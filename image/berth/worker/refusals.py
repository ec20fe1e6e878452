"""What gunicorn refuses by itself, in Berth's one error shape."""

from __future__ import annotations

import json
import re
import uuid
from http import HTTPStatus
from typing import Any

from gunicorn.http import errors

from berth.worker.reading import HeadersTimeout

# gunicorn's limit_request_line; the file of settings takes it from here.
MOST_LINE_BYTES = 8190
_FAILED = "the server failed; its log tells why under this request_id"
# What gunicorn raises: status, code and sentence; without one, its own. The first that fits counts.
_REFUSALS: tuple[tuple[Any, int, str, str], ...] = (
    (HeadersTimeout, 408, "headers_timeout", ""),
    (errors.LimitRequestLine, 414, "uri_too_long", f"the request line is longer than {MOST_LINE_BYTES} bytes"),
    (errors.LimitRequestHeaders, 431, "headers_too_large", "too many headers, or too long ones; send less"),
    (errors.UnsupportedTransferCoding, 501, "not_implemented", "of Transfer-Encoding only chunked is read"),
    (errors.ExpectationFailed, 417, "bad_request", "of Expect only 100-continue is known"),
    ((errors.InvalidResponseHeader, errors.InvalidResponseHeaderName), 500, "internal_error", _FAILED),
    (errors.ParseException, 400, "bad_request", ""),
    (Exception, 500, "internal_error", _FAILED),
)


def describe_error(exc: Exception) -> tuple[int, str, str]:
    """Status, code and sentence for what gunicorn or the application raised."""
    status, code, sentence = next(line[1:] for line in _REFUSALS if isinstance(exc, line[0]))
    return status, code, sentence or str(exc)[:200]


def find_request_id(req: Any) -> str:
    """The client's own id if it is sane, else a new one."""
    for name, value in getattr(req, "headers", ()):
        if name == "X-REQUEST-ID" and re.fullmatch(r"[A-Za-z0-9._-]{1,128}", value):
            return str(value)
    return uuid.uuid4().hex


def encode_error(status: int, code: str, message: str, request_id: str, slot: str) -> bytes:
    """The whole answer, after which the connection closes."""
    body = json.dumps({"error": message, "code": code, "request_id": request_id}).encode()
    head = (
        f"HTTP/1.1 {status} {HTTPStatus(status).phrase}\r\nConnection: close\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\nX-Request-Id: {request_id}\r\n"
    )
    if slot:
        head += f"X-Berth-Slot: {slot}\r\n"
    return head.encode("latin-1") + b"\r\n" + body
