"""What happens to every request, whichever way it came in: `Pipeline.run`, once.

    begin    request id, trace, deadline
    admit    key, then the gate, before the body is read
    `answer` the endpoint: decode, predict, encode; or the one error shape
    record   payload log and span, where they are on
    finish   headers, metrics, one log line
    leave    the gate

No framework is known here. web/direct.py (WSGI, before Flask), web/flask_routes.py and worker/inline.py call it.
"""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from http import HTTPStatus
from random import getrandbits
from typing import Any, NamedTuple, TypeVar

from berth import errors
from berth.serving.admission import Gate
from berth.serving.predictor import WouldWait
from berth.telemetry.logs import log, timestamp, write_request
from berth.telemetry.payloads.redaction import HIDDEN
from berth.web.auth import KeyRing
from berth.web.cors import CorsPolicy
from berth.web.exchange import Backend, Endpoint, Exchange, Reply
from berth.web.ground_truth import RECEIPT_HEADER
from berth.web.recording import Recorder
from berth.web.wire import error_reply

_SANE_ID = re.compile(r"[A-Za-z0-9._-]{1,128}")
_TRACEPARENT = re.compile(r"[0-9a-f]{2}-([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}")
_OVERDUE = "the prediction was still running when the request's time ran out; its result is discarded"
# Where the worker puts what can respond for a thread that does not return in time (worker/outbox.py).
_TRANSPORT = "gunicorn.socket"
_DIGITS = re.compile(r"\d{1,9}")
Observe = Callable[[Exchange, int, float], None]
# What a request in pieces has been opened as.
Opened = TypeVar("Opened")


class Finished(NamedTuple):
    """A response that may be sent: all its headers are there, and it has been counted and logged."""

    status: int
    headers: list[tuple[str, str]]
    body: bytes


@dataclass(frozen=True)
class Pipeline:
    """What every request shares. `observe` gets each finished prediction request: exchange, status, seconds;
    `reject` each that was turned away, and the error's code.
    """

    backend: Backend
    gate: Gate
    keys: KeyRing | None
    timeout_seconds: float
    slot: str
    log_format: str
    observe: Observe = lambda exchange, status, seconds: None
    reject: Callable[[Exchange, str], None] = lambda exchange, reason: None
    recorder: Recorder | None = None
    cors: CorsPolicy | None = None

    def run(
        self, endpoint: Endpoint, environ: Mapping[str, Any], args: Mapping[str, str], *, may_wait: bool = True
    ) -> Finished:
        """The response to a request. Raises WouldWait where `may_wait` is false: then nothing has happened."""
        exchange = self._begin(endpoint, environ, args, may_wait)
        late = exchange.late
        if late is not None:
            late.watch(lambda: self._complete(exchange, self._refuse(exchange, errors.DeadlineExceeded(_OVERDUE))))
        try:
            reply = self._answer(exchange)
            if late is not None and not late.claim():
                raise BrokenPipeError("the request's time ran out: it has its response and is counted")
            return self._complete(exchange, reply)
        finally:
            if exchange.ticket is not None:
                self.gate.leave(exchange.ticket)

    def _complete(self, exchange: Exchange, reply: Reply) -> Finished:
        """Record, count and log a reply: once for each request, on the thread that serves it."""
        if isinstance(exchange.error, errors.Overloaded | errors.DeadlineExceeded):
            self.reject(exchange, exchange.error.code)
        if self.recorder is not None and exchange.counts:
            self.recorder.finish(exchange, reply, time.monotonic() - exchange.began)
        return self._finish(exchange, reply)

    def _begin(
        self, endpoint: Endpoint, environ: Mapping[str, Any], args: Mapping[str, str], may_wait: bool
    ) -> Exchange:
        """The request's exchange: its id (the client's, if sane), its trace, its deadline."""
        given = environ.get("HTTP_X_REQUEST_ID", "")
        parent = environ.get("HTTP_TRACEPARENT")
        trace = _TRACEPARENT.fullmatch(parent.strip()) if parent else None
        began = time.monotonic()
        exchange = Exchange(
            endpoint,
            environ,
            args,
            # Every process seeds its generator anew after a fork. An id need not be secret, only one of its kind.
            request_id=given if given and _SANE_ID.fullmatch(given) else f"{getrandbits(128):032x}",
            began=began,
            deadline=began + self.timeout_seconds,
            trace_id=trace[1] if trace else "",
            may_wait=may_wait,
        )
        if endpoint.protocol and may_wait and hasattr(transport := environ.get(_TRANSPORT), "watch"):
            exchange.late = transport
        if self.recorder is not None and endpoint.protocol:
            self.recorder.begin(exchange)
        return exchange

    def _admit(self, exchange: Exchange) -> None:
        """Let a request in, before its body is read. Raises Unauthenticated, InvalidInput, Overloaded."""
        environ, endpoint = exchange.environ, exchange.endpoint
        if self.keys is not None:
            self._authenticate(self.keys, exchange)
        if endpoint.protocol:
            if (timeout_ms := environ.get("HTTP_X_REQUEST_TIMEOUT_MS")) is not None:
                _shorten_deadline(exchange, timeout_ms)
            exchange.ticket = self.gate.enter()

    def _authenticate(self, keys: KeyRing, exchange: Exchange) -> None:
        """Know the caller by its key. Where none is needed, a good one shows more. Raises Unauthenticated."""
        environ = exchange.environ
        try:
            exchange.api_key = keys.authenticate(environ.get("HTTP_AUTHORIZATION"), environ.get("HTTP_X_API_KEY"))
        except errors.Unauthenticated:
            if exchange.endpoint.needs_key(self.backend.api.protect_metrics):
                raise

    def _answer(self, exchange: Exchange) -> Reply:
        try:
            make_page = exchange.endpoint.page  # the same for everybody, so before keys; data comes with a key
            if make_page is not None and (page := make_page(exchange)) is not None:
                return page
            self._admit(exchange)
            return exchange.endpoint.answer(exchange, self.backend)
        except WouldWait:
            raise
        except Exception as error:  # the edge: no error reaches a client but as a response
            return self._refuse(exchange, error)

    def _refuse(self, exchange: Exchange, error: Exception) -> Reply:
        """The response to a request for which something was raised."""
        known = error if isinstance(error, errors.BerthError) else self._hide(exchange, error)
        # The frames that it came through hold the body and this exchange: a cycle that would keep them for long.
        known.__traceback__ = known.__context__ = known.__cause__ = None
        exchange.error = known
        more: dict[str, Any] = {}
        if exchange.environ["PATH_INFO"].rstrip("/") == "/invocations":  # MLflow's clients read these
            more = {"error_code": known.code.upper(), "message": known.message}
        return error_reply(known, exchange.request_id, **more)

    @property
    def _redacts(self) -> bool:
        return self.recorder is not None and self.recorder.redacts

    def _hide(self, exchange: Exchange, error: Exception) -> errors.BerthError:
        """What is unexpected: the log has it, with its traceback at `debug`, the client only that it happened."""
        told = type(error).__name__ if self._redacts else repr(error)
        log("a request broke", level=logging.ERROR, request_id=exchange.request_id, error=told)
        logging.getLogger("berth").debug("traceback", exc_info=None if self._redacts else error)
        return errors.BerthError("the server made a mistake; its log has the reason under this request_id")

    def _finish(self, exchange: Exchange, reply: Reply) -> Finished:
        """Count and log a reply that is about to be sent, and complete its headers."""
        seconds = time.monotonic() - exchange.began
        headers = self.own_headers(exchange)
        if exchange.age_seconds is not None:
            headers.append(("Age", str(int(exchange.age_seconds))))
        if (receipt := self._make_receipt(exchange, reply)) is not None:
            headers.append((RECEIPT_HEADER, receipt))
        headers.append(("Content-Type", reply.content_type))
        headers.append(("Content-Length", str(len(reply.body))))
        if reply.headers:
            headers.extend(reply.headers.items())
        if self.cors is not None:
            headers.extend(self.cross_origin(exchange))
        if exchange.endpoint.protocol:
            self.observe(exchange, reply.status, seconds)
        self._log(exchange, reply.status, seconds)
        return Finished(reply.status, headers, reply.body)

    def own_headers(self, exchange: Exchange) -> list[tuple[str, str]]:
        """Whose response it is: the headers that every one has."""
        headers = [("X-Request-Id", exchange.request_id)]
        if self.slot:
            headers.append(("X-Berth-Slot", self.slot))
        if exchange.by_line:  # each line names its arm
            headers.append(("X-Berth-Experiment", exchange.by_line))
        elif exchange.model is not None:
            headers.append(("X-Berth-Model", f"{exchange.model.name}@{exchange.model.version}"))
        if exchange.decision is not None:
            headers.extend(exchange.decision.share.headers)
        return headers

    def cross_origin(self, exchange: Exchange) -> list[tuple[str, str]]:
        """The headers that let pages of other origins read a response."""
        return [] if self.cors is None else self.cors.response_fields(exchange.environ)

    def open(
        self, endpoint: Endpoint, environ: Mapping[str, Any], start: Callable[[Exchange, Backend], Opened]
    ) -> tuple[Exchange, Opened] | Finished:
        """Begin a request that is responded to in pieces, each of which enters the gate; `close` ends it."""
        exchange = self._begin(endpoint, environ, {}, may_wait=True)
        try:
            if self.keys is not None:
                self._authenticate(self.keys, exchange)
            return exchange, start(exchange, self.backend)
        except Exception as error:  # the edge, as in `_answer`
            return self._complete(exchange, self._refuse(exchange, error))

    def keep(self, exchange: Exchange, reply: Reply, seconds: float) -> None:
        """Put a piece of a request that was opened, `exchange.body`, and its reply into the payload log."""
        if self.recorder is not None:
            self.recorder.keep(exchange, reply, seconds)

    def close(self, exchange: Exchange, status: int) -> None:
        """End the trace of a request that was opened, and log it."""
        if self.recorder is not None:
            self.recorder.end_trace(exchange, status)
        self._log(exchange, status, time.monotonic() - exchange.began)

    def _make_receipt(self, exchange: Exchange, reply: Reply) -> str | None:
        if exchange.model is None or not exchange.outputs or reply.status != 200 or not self.backend.tally.is_on:
            return None
        arm = "" if exchange.decision is None else exchange.decision.share.receipt
        return self.backend.tally.make_receipt(exchange.model, exchange.outputs, arm)

    def _log(self, exchange: Exchange, status: int, seconds: float) -> None:
        quiet = exchange.endpoint.probe and status in (200, 503)
        level = logging.DEBUG if quiet else logging.ERROR if status >= 500 else logging.INFO
        if logging.getLogger().isEnabledFor(level):
            fields = describe(exchange, status, seconds, self.slot)
            if self._redacts and exchange.endpoint.protocol and status == HTTPStatus.BAD_REQUEST:
                fields["error"] = HIDDEN  # it may quote a value that must not be written
            write_request(fields, self.log_format)


def without_model(endpoint: Endpoint, answer: Callable[[Exchange, Backend], Reply]) -> Endpoint:
    """`endpoint` with another `answer`, one that runs no model."""
    return replace(endpoint, answer=answer, protocol="")


def _shorten_deadline(exchange: Exchange, timeout_ms: str) -> None:
    """Take the client's own time limit when it is the shorter one. Raises InvalidInput."""
    if _DIGITS.fullmatch(timeout_ms.strip()) is None or int(timeout_ms) == 0:
        raise errors.InvalidInput(f"X-Request-Timeout-Ms must be a whole number above 0, got {timeout_ms[:60]!r}")
    exchange.deadline = min(exchange.deadline, exchange.began + int(timeout_ms) / 1000)
    if exchange.late is not None:
        exchange.late.hurry(exchange.deadline)


def describe(exchange: Exchange, status: int, seconds: float, slot: str) -> dict[str, Any]:
    """The log line's fields; the key's name is in it (audit), the key never."""
    model = exchange.model
    fields: dict[str, Any] = {
        "ts": timestamp(),
        "level": "error" if status >= 500 else "info",
        "request_id": exchange.request_id,
        "trace_id": exchange.trace_id,
        "method": exchange.environ["REQUEST_METHOD"],
        "route": exchange.endpoint.rule or "unmatched",
        "status": status,
        "ms": round(seconds * 1000, 3),
        "model": model.name if model else "",
        "version": model.version if model and not exchange.by_line else "",
        "slot": slot,
        "rows": exchange.rows,
        "key": exchange.api_key.name if exchange.api_key else "",
        "client": exchange.environ.get("REMOTE_ADDR", ""),
    }
    if exchange.decision is not None:
        fields["experiment"], fields["arm"] = exchange.decision.share.experiment, exchange.decision.share.arm.key
    if exchange.by_line:
        fields["experiment"] = exchange.by_line
    if exchange.error is not None:
        fields |= {"code": exchange.error.code, "error": exchange.error.message}
    return fields
