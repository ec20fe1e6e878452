"""GET /drift: each model's recent requests beside the sample that it was added with; a browser gets a page."""

from __future__ import annotations

from typing import Any

from berth.errors import InvalidInput
from berth.models.model import Model
from berth.telemetry.drift.watcher import list_unusual
from berth.tensors.arrays import Tensors
from berth.web.access import reply_reports
from berth.web.console import VARY, page_for_browsers
from berth.web.exchange import Backend, Endpoint, Exchange, Reply

NO_PROFILE = "no profile: add the model with --sample"


def _drift(exchange: Exchange, backend: Backend) -> Reply:
    reports, empty = ([], "BERTH_WATCH_MINUTES is 0") if backend.drift is None else (backend.drift.report(), NO_PROFILE)
    return reply_reports(exchange, backend, reports, empty)._replace(headers=VARY)


def describe_unusual(backend: Backend, model: Model, tensors: Tensors, rows: int) -> list[list[dict[str, Any]]]:
    """What is unusual about each row of a request that requested it. Raises InvalidInput without a profile."""
    watched = None if backend.drift is None else backend.drift.find((model.name, model.version))
    if watched is None:
        raise InvalidInput(f"parameters.unusual: {model.name}@{model.version} is not watched ({NO_PROFILE})")
    return list_unusual(watched, tensors, rows)


ENDPOINTS = (
    Endpoint("get", "/drift", "drift", "operate", "Recent requests beside the sample of each model", _drift, "Object",
             errors=(400, 403, 404), page=page_for_browsers("drift.html")),
)  # fmt: skip
