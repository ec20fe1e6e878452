"""GET /quality: what labels have shown of each model's predictions, over all workers since the server started."""

from __future__ import annotations

from typing import Any

from berth.web import wire
from berth.web.access import visible_reports
from berth.web.exchange import Backend, Endpoint, Exchange, Reply

NO_LABELS = "no labels yet: send them to POST /feedback"


def _quality(exchange: Exchange, backend: Backend) -> Reply:
    chosen = visible_reports(exchange, backend, backend.read_quality())
    document: dict[str, Any] = {"slot": backend.facts["slot"], "models": chosen}
    if not chosen:
        document["reason"] = NO_LABELS
    return wire.json_reply(document)


ENDPOINTS = (
    Endpoint("get", "/quality", "quality", "operate", "What labels have shown of each model", _quality, "Object",
             errors=(400, 403, 404)),
)  # fmt: skip
