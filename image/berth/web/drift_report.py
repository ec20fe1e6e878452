"""GET /drift: each model's recent requests beside the sample that it was added with; a browser gets a page."""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qs

from berth.errors import InvalidInput
from berth.models.model import Model
from berth.telemetry.drift.watcher import list_unusual
from berth.tensors.arrays import Tensors
from berth.web import wire
from berth.web.access import find_entry, is_visible
from berth.web.console import VARY, page_for_browsers
from berth.web.exchange import Backend, Endpoint, Exchange, Reply

NO_PROFILE = "no profile: add the model with --sample"


def _query(exchange: Exchange, name: str) -> str | None:
    values = parse_qs(exchange.environ.get("QUERY_STRING", "")[:2000]).get(name)
    return values[0] if values else None


def _drift(exchange: Exchange, backend: Backend) -> Reply:
    name, version = _query(exchange, "model"), _query(exchange, "version")
    if version is not None and name is None:
        raise InvalidInput("version is given without model; send ?model=NAME&version=VERSION")
    if name is not None:
        find_entry(exchange, backend, name, version)
    reports = [] if backend.drift is None else backend.drift.report()
    chosen = [
        report
        for report in reports
        if is_visible(exchange, backend, report["model"])
        and name in (None, report["model"])
        and version in (None, report["version"])
    ]
    document: dict[str, Any] = {"slot": backend.facts["slot"], "models": chosen}
    if not chosen:
        document["reason"] = "BERTH_WATCH_MINUTES is 0" if backend.drift is None else NO_PROFILE
    return wire.json_reply(document)._replace(headers=VARY)


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
