"""What happens to every request: id, key, gate, deadline; then errors, headers, metrics and one log line.

    before   begin (id, deadline, trace) -> authenticate -> enter the gate, all before the body is read
    view     decode, predict, encode
    after    headers -> metrics, payload, span -> log line -> leave the gate

`Edge` knows no framework; `FlaskEdge` hangs it around Flask's routes, express.py around the shortest path.
"""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from random import getrandbits
from typing import Any

from flask import Flask, Response, current_app, request
from werkzeug import exceptions

from berth import errors
from berth.serving.admission import Gate
from berth.telemetry.logs import log, timestamp, write_request
from berth.web.auth import KeyRing
from berth.web.exchange import Exchange, attach, current, predict_protocol
from berth.web.recording import Recorder
from berth.web.wire import Reply, error_reply, respond

_SANE_ID = re.compile(r"[A-Za-z0-9._-]{1,128}")
_TRACEPARENT = re.compile(r"[0-9a-f]{2}-([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}")
_DIGITS = re.compile(r"\d{1,9}")
# Routes that are neither behind a key nor worth a log line at each probe.
PROBES = frozenset({"/livez", "/readyz", "/health", "/ping", "/v2/health/live", "/v2/health/ready"})
# The pages' shells: they hold no model data, and what they show they fetch with the key.
PAGES = frozenset({"/", "/docs", "/static/<name>"})
_OPEN = PROBES | PAGES


@dataclass(frozen=True)
class Edge:
    """What every request shares. `observe` gets each finished prediction request: exchange, status, seconds."""

    gate: Gate
    keys: KeyRing | None
    timeout_seconds: float
    slot: str
    log_format: str
    protect_metrics: bool
    observe: Callable[[Exchange, int, float], None] = lambda exchange, status, seconds: None
    reject: Callable[[str], None] = lambda reason: None

    def admit(self, exchange: Exchange, rule: str, protocol: str) -> None:
        """Let a request in, before its body is read. Raises Unauthenticated, InvalidInput, Overloaded."""
        environ = exchange.environ
        if self.keys is not None and self._needs_key(rule):
            exchange.api_key = self.keys.authenticate(environ.get("HTTP_AUTHORIZATION"), environ.get("HTTP_X_API_KEY"))
        if protocol:
            exchange.protocol = protocol
            if (timeout_ms := environ.get("HTTP_X_REQUEST_TIMEOUT_MS")) is not None:
                shorten_deadline(exchange, timeout_ms)
            if exchange.may_wait:  # what does not wait is one at a time, and over before it could be counted
                exchange.ticket = self.gate.enter()

    def _needs_key(self, rule: str) -> bool:
        return rule not in _OPEN and (self.protect_metrics or rule != "/metrics")

    def refuse(self, exchange: Exchange, error: Exception) -> Reply:
        """What to answer when something was raised."""
        known = exchange.error = understand(error, exchange)
        if isinstance(known, errors.Overloaded | errors.DeadlineExceeded):
            self.reject(known.code)
        more: dict[str, Any] = {}
        if exchange.environ["PATH_INFO"].rstrip("/") == "/invocations":  # MLflow's clients read these
            more = {"error_code": known.code.upper(), "message": known.message}
        return error_reply(known, **more)

    def finish(self, exchange: Exchange, rule: str | None, status: int) -> list[tuple[str, str]]:
        """Count and log an answer that is about to be sent; its further headers."""
        seconds = time.monotonic() - exchange.began
        headers = [("X-Request-Id", exchange.request_id)]
        if self.slot:
            headers.append(("X-Berth-Slot", self.slot))
        if exchange.model is not None:
            headers.append(("X-Berth-Model", f"{exchange.model.name}@{exchange.model.version}"))
        if exchange.age_seconds is not None:
            headers.append(("Age", str(int(exchange.age_seconds))))
        if exchange.protocol:
            self.observe(exchange, status, seconds)
        self._log(exchange, rule, status, seconds)
        return headers

    def leave(self, exchange: Exchange) -> None:
        """Give the request's place back, if it had one."""
        if exchange.ticket is not None:
            ticket, exchange.ticket = exchange.ticket, None
            self.gate.leave(ticket)

    def _log(self, exchange: Exchange, rule: str | None, status: int, seconds: float) -> None:
        quiet = rule in PROBES and status in (200, 503)
        level = logging.DEBUG if quiet else logging.ERROR if status >= 500 else logging.INFO
        if logging.getLogger().isEnabledFor(level):
            write_request(describe(exchange, rule, status, seconds, self.slot), self.log_format)


@dataclass(frozen=True)
class FlaskEdge:
    """The edge around every route of a Flask application."""

    edge: Edge
    recorder: Recorder | None = None

    def install(self, app: Flask) -> None:
        """Hang the edge into Flask's hooks."""
        app.before_request(self._before)
        app.after_request(self._after)
        app.teardown_request(self._teardown)
        app.register_error_handler(Exception, lambda error: respond(self.edge.refuse(current(), error)))

    def _before(self) -> None:
        exchange = begin(request.environ, self.edge.timeout_seconds)
        view = current_app.view_functions.get(request.endpoint or "")
        protocol = predict_protocol(view) if view is not None else ""
        if protocol and self.recorder is not None:
            self.recorder.begin(exchange)
        self.edge.admit(exchange, request.url_rule.rule if request.url_rule else "", protocol)

    def _after(self, response: Response) -> Response:
        exchange = current()
        rule = request.url_rule.rule if request.url_rule else None
        for name, value in self.edge.finish(exchange, rule, response.status_code):
            response.headers[name] = value
        if exchange.protocol and self.recorder is not None:
            self.recorder.finish(exchange, response, time.monotonic() - exchange.began)
        return response

    def _teardown(self, error: BaseException | None) -> None:
        self.edge.leave(current())


def begin(environ: dict[str, Any], timeout_seconds: float) -> Exchange:
    """The request's exchange: its id (the client's, if sane), its trace, its deadline."""
    given = environ.get("HTTP_X_REQUEST_ID", "")
    parent = environ.get("HTTP_TRACEPARENT")
    trace = _TRACEPARENT.fullmatch(parent.strip()) if parent else None
    began = time.monotonic()
    exchange = Exchange(
        environ=environ,
        # Every process seeds its generator anew after a fork. An id need not be secret, only one of its kind.
        request_id=given if _SANE_ID.fullmatch(given) else f"{getrandbits(128):032x}",
        began=began,
        deadline=began + timeout_seconds,
        trace_id=trace[1] if trace else "",
    )
    attach(exchange)
    return exchange


def shorten_deadline(exchange: Exchange, timeout_ms: str) -> None:
    """Take the client's own time limit when it is the shorter one. Raises InvalidInput."""
    if _DIGITS.fullmatch(timeout_ms.strip()) is None or int(timeout_ms) == 0:
        raise errors.InvalidInput(f"X-Request-Timeout-Ms must be a whole number above 0, got {timeout_ms[:60]!r}")
    exchange.deadline = min(exchange.deadline, exchange.began + int(timeout_ms) / 1000)


def understand(error: Exception, exchange: Exchange) -> errors.BerthError:
    """Any exception as one of ours; what nobody expected is logged with its traceback and told without it."""
    if isinstance(error, errors.BerthError):
        return error
    if isinstance(error, exceptions.NotFound):
        return errors.RouteNotFound(f"no route {exchange.environ['PATH_INFO'][:200]!r}; GET / lists what there is")
    if isinstance(error, exceptions.MethodNotAllowed):
        allowed = ", ".join(sorted(error.valid_methods or ()))
        return errors.MethodNotAllowed(
            f"{exchange.environ['REQUEST_METHOD'][:20]} is not for this route; use {allowed}",
            headers={"Allow": allowed},
        )
    if isinstance(error, exceptions.HTTPException) and error.code is not None and 400 <= error.code < 500:
        return errors.RequestError(error.description or error.name)
    log("a request broke", level=logging.ERROR, request_id=exchange.request_id, error=repr(error))
    logging.getLogger("berth").debug("traceback", exc_info=error)
    return errors.BerthError("the server made a mistake; its log has the reason under this request_id")


def describe(exchange: Exchange, rule: str | None, status: int, seconds: float, slot: str) -> dict[str, Any]:
    """The log line's fields; the key's name is in it (audit), the key never."""
    model = exchange.model
    fields: dict[str, Any] = {
        "ts": timestamp(),
        "level": "error" if status >= 500 else "info",
        "request_id": exchange.request_id,
        "trace_id": exchange.trace_id,
        "method": exchange.environ["REQUEST_METHOD"],
        "route": rule or "unmatched",
        "status": status,
        "ms": round(seconds * 1000, 3),
        "model": model.name if model else "",
        "version": model.version if model else "",
        "slot": slot,
        "rows": exchange.rows,
        "key": exchange.api_key.name if exchange.api_key else "",
        "client": exchange.environ.get("REMOTE_ADDR", ""),
    }
    if exchange.error is not None:
        fields |= {"code": exchange.error.code, "error": exchange.error.message}
    return fields
