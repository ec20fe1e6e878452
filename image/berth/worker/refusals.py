"""What gunicorn refuses by itself, in Berth's one error shape."""

from __future__ import annotations

import json
import re
import uuid
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

from gunicorn.http import errors

from berth.errors import BerthError
from berth.worker.receiving import HeadersTimeout

# gunicorn's limit_request_line; the file of settings takes it from here.
MOST_LINE_BYTES = 8190
_FAILED = "the server failed; its log says why under this request_id"
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


@dataclass(frozen=True)
class RefusedRequest:
    """A response that no application saw."""

    status: int
    code: str
    message: str
    request_id: str

    @property
    def fields(self) -> dict[str, Any]:
        """What the log line says beside the message."""
        return {"request_id": self.request_id, "status": self.status, "code": self.code}

    def encode(self, slot: str) -> bytes:
        """The whole response, after which the connection closes."""
        body = json.dumps({"error": self.message, "code": self.code, "request_id": self.request_id}).encode()
        head = (
            f"HTTP/1.1 {self.status} {HTTPStatus(self.status).phrase}\r\nConnection: close\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\nX-Request-Id: {self.request_id}\r\n"
        )
        if slot:
            head += f"X-Berth-Slot: {slot}\r\n"
        return head.encode("latin-1") + b"\r\n" + body


def describe_refusal(exc: Exception, req: Any) -> RefusedRequest:
    """What to return for what gunicorn, the worker or the application raised; the client's own id if it is sane."""
    request_id = _find_request_id(req)
    if isinstance(exc, BerthError):
        return RefusedRequest(exc.status, exc.code, exc.message, request_id)
    status, code, sentence = next(line[1:] for line in _REFUSALS if isinstance(exc, line[0]))
    return RefusedRequest(status, code, sentence or str(exc)[:200], request_id)


def _find_request_id(req: Any) -> str:
    for name, value in getattr(req, "headers", ()):
        if name == "X-REQUEST-ID" and re.fullmatch(r"[A-Za-z0-9._-]{1,128}", value):
            return str(value)
    return uuid.uuid4().hex


def encode_refusal(exc: Exception, req: Any, client: Any, slot: str, log: Any) -> bytes:
    """The response to what went wrong with a request, which gunicorn's logger `log` gets a line about."""
    refusal = describe_refusal(exc, req)
    fields = {**refusal.fields, "client": client[0] if client else ""}
    if refusal.status == HTTPStatus.INTERNAL_SERVER_ERROR:
        log.error("request failed outside of the application", exc_info=exc, extra={"fields": fields})
    else:
        log.warning("request refused by gunicorn: %r", refusal.message, extra={"fields": fields})
    return refusal.encode(slot)
