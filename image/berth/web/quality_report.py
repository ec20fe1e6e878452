"""GET /quality: what labels have shown of each model's predictions, over all workers since the server started."""

from __future__ import annotations

from berth.web.access import reply_reports
from berth.web.exchange import Backend, Endpoint, Exchange, Reply

NO_LABELS = "no labels yet: send them to POST /feedback"


def _quality(exchange: Exchange, backend: Backend) -> Reply:
    return reply_reports(exchange, backend, backend.read_quality(), NO_LABELS)


ENDPOINTS = (
    Endpoint("get", "/quality", "quality", "operate", "What labels have shown of each model", _quality, "Object",
             errors=(400, 403, 404)),
)  # fmt: skip
