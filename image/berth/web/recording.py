"""What is kept of a prediction request for others to look at: its payload, if that log is on, and its span."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from flask import Response, request
from werkzeug.datastructures import Headers

from berth.telemetry.logs import timestamp
from berth.telemetry.payloads.payload_log import Body, PayloadEntry, PayloadLog
from berth.telemetry.tracing import Tracing, trace_id_of
from berth.web.exchange import Exchange
from berth.web.wire import media_type

_LENGTH_HEADER = "Inference-Header-Content-Length"


def _json_bytes(headers: Headers) -> int | None:
    """How much of a body is JSON, where tensors follow it."""
    text = headers.get(_LENGTH_HEADER, "")
    return int(text) if text.isascii() and text.isdigit() and len(text) < 19 else None


def describe_payload(exchange: Exchange, response: Response, seconds: float, slot: str) -> PayloadEntry:
    """An exchange as the payload log takes it: the bytes as they are."""
    model, asked = exchange.model, exchange.body
    fields: dict[str, Any] = {
        "ts": timestamp(),
        "request_id": exchange.request_id,
        "trace_id": exchange.trace_id,
        "protocol": exchange.protocol,
        "model": model.name if model else "",
        "version": model.version if model else "",
        "slot": slot,
        "status": response.status_code,
        "ms": round(seconds * 1000, 3),
    }
    if exchange.error is not None:
        fields |= {"code": exchange.error.code, "error": exchange.error.message}
    return PayloadEntry(
        fields,
        None if asked is None else Body(asked, media_type(), _json_bytes(request.headers)),
        Body(response.get_data(), response.mimetype or "", _json_bytes(response.headers)),
        None if model is None else model.inputs,
    )


def describe_span(exchange: Exchange, rule: str, slot: str) -> dict[str, Any]:
    """A span's attributes, beside its status."""
    attributes: dict[str, Any] = {
        "http.request.method": request.method,
        "http.route": rule,
        "berth.protocol": exchange.protocol,
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

    def begin(self, exchange: Exchange) -> None:
        """A request that will predict is known; its body is not read yet."""
        exchange.keeps_body = self.payloads is not None
        if self.tracing is not None:
            rule = request.url_rule.rule if request.url_rule else ""
            headers = {key.lower(): value for key, value in request.headers.items()}
            exchange.span = self.tracing.begin(f"{request.method} {rule}", headers)
            if exchange.span is not None:
                exchange.trace_id = trace_id_of(exchange.span)

    def finish(self, exchange: Exchange, response: Response, seconds: float) -> None:
        """Its answer is about to be sent."""
        if self.payloads is not None:
            self.payloads.offer(
                exchange.request_id,
                response.status_code,
                lambda: describe_payload(exchange, response, seconds, self.slot),
            )
        if self.tracing is not None and exchange.span is not None:
            rule = request.url_rule.rule if request.url_rule else ""
            attributes = describe_span(exchange, rule, self.slot)
            self.tracing.finish(exchange.span, response.status_code, attributes, exchange.calls)
