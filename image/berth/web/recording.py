"""What is kept of a prediction request for others to read: its payload, if that log is on, and its span."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from berth.telemetry.logs import timestamp
from berth.telemetry.payloads.payload_log import Body, PayloadEntry, PayloadLog
from berth.telemetry.tracing import Tracing, trace_id_of
from berth.web.exchange import GRPC, LENGTH_HEADER, Exchange, Reply
from berth.web.wire import media_type

# What the OpenTelemetry propagators read.
_TRACE_HEADERS = {"HTTP_TRACEPARENT": "traceparent", "HTTP_TRACESTATE": "tracestate"}


def _json_bytes(text: str) -> int | None:
    """How much of a body is JSON, where tensors follow it."""
    return int(text) if text.isascii() and text.isdigit() and len(text) < 19 else None


def describe_payload(exchange: Exchange, reply: Reply, seconds: float, slot: str) -> PayloadEntry:
    """An exchange as the payload log expects it: the bytes as they are."""
    model, environ = exchange.model, exchange.environ
    fields: dict[str, Any] = {
        "ts": timestamp(),
        "request_id": exchange.request_id,
        "trace_id": exchange.trace_id,
        "protocol": exchange.endpoint.protocol,
        "model": model.name if model else "",
        "version": model.version if model else "",
        "slot": slot,
        "status": reply.status,
        "ms": round(seconds * 1000, 3),
    }
    if (decision := exchange.decision) is not None:  # with the probability, other policies can be evaluated offline
        share = decision.share
        fields |= {"experiment": share.experiment, "arm": share.arm.key, "probability": share.probability}
    if exchange.error is not None:
        fields |= {"code": exchange.error.code, "error": exchange.error.message}
    asked = None
    if exchange.body is not None:
        json_bytes = _json_bytes(environ.get("HTTP_INFERENCE_HEADER_CONTENT_LENGTH", ""))
        asked = Body(exchange.body, media_type(environ), json_bytes)
    # None of a gRPC message is JSON.
    length = "0" if reply.content_type == GRPC else reply.headers.get(LENGTH_HEADER, "")
    answered = Body(reply.body, reply.content_type, _json_bytes(length))
    return PayloadEntry(fields, asked, answered, None if model is None else model.inputs)


def describe_span(exchange: Exchange, slot: str) -> dict[str, Any]:
    """A span's attributes, beside its status."""
    attributes: dict[str, Any] = {
        "http.request.method": exchange.environ["REQUEST_METHOD"],
        "http.route": exchange.endpoint.rule,
        "berth.protocol": exchange.endpoint.protocol,
        "berth.request_id": exchange.request_id,
        "berth.slot": slot,
        "berth.rows": exchange.rows,
    }
    if exchange.model is not None:
        attributes |= {"berth.model": exchange.model.name, "berth.version": exchange.model.version}
    if exchange.error is not None:
        attributes["error.type"] = exchange.error.code
    return attributes


@dataclass(frozen=True)
class Recorder:
    """The payload log and the traces of one worker, either of which may be off."""

    slot: str
    payloads: PayloadLog | None = None
    tracing: Tracing | None = None

    @property
    def redacts(self) -> bool:
        """Whether some values must not be written anywhere, in the request log neither."""
        return self.payloads is not None and self.payloads.redacts

    def begin(self, exchange: Exchange) -> None:
        """A request that will predict is known; its body is still to be read."""
        exchange.keeps_body = self.payloads is not None
        if self.tracing is not None:
            headers = {name: value for key, name in _TRACE_HEADERS.items() if (value := exchange.environ.get(key))}
            exchange.span = self.tracing.begin(
                f"{exchange.environ['REQUEST_METHOD']} {exchange.endpoint.rule}", headers
            )
            if exchange.span is not None:
                exchange.trace_id = trace_id_of(exchange.span)

    def finish(self, exchange: Exchange, reply: Reply, seconds: float) -> None:
        """Its reply is about to be sent."""
        self.keep(exchange, reply, seconds)
        self.end_trace(exchange, reply.status)

    def keep(self, exchange: Exchange, reply: Reply, seconds: float) -> None:
        """Put a request, or a piece of one, into the payload log."""
        if self.payloads is not None:
            self.payloads.offer(
                exchange.request_id, reply.status, lambda: describe_payload(exchange, reply, seconds, self.slot)
            )

    def end_trace(self, exchange: Exchange, status: int) -> None:
        """The request is over."""
        if self.tracing is not None and exchange.span is not None:
            self.tracing.finish(exchange.span, status, describe_span(exchange, self.slot), exchange.calls)
