"""Probes, state and metrics: what operators and Kubernetes query."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from berth.errors import NotReady, Stuck
from berth.models.manifest import encode_spec
from berth.models.model import Model
from berth.serving.lifecycle import FAILED
from berth.serving.predictor import Predictor
from berth.web import wire
from berth.web.access import check_ready, report_ready, visible_entries, visible_metrics, visible_models
from berth.web.examples import example_request
from berth.web.exchange import TEXT, Backend, Endpoint, Exchange, Reply


def _worst_states(exchange: Exchange, backend: Backend) -> dict[str, dict[str, str]]:
    """Each model's state over all workers: failed if it failed in one, else loading if it loads in one."""
    order = ["ready", "loading", FAILED]
    worst: dict[str, dict[str, str]] = {}
    for states in [dict(backend.lifecycle.states), *backend.lifecycle.all_states()]:
        for entry in visible_entries(exchange, backend):
            state = states.get(entry.key)
            if state is None:
                continue
            have = worst.get(entry.key)
            if have is None or order.index(state.state) > order.index(have["state"]):
                worst[entry.key] = {"state": state.state, "reason": state.reason}
    return worst


def _describe(model: Model, predictor: Predictor) -> dict[str, Any]:
    """What /info says about one model."""
    return {
        "name": model.name,
        "version": model.version,
        "sha256": model.sha256,
        "format": model.format,
        "accelerated": model.accelerated,
        "batching": asdict(predictor.choice(model)),
        "inputs": [encode_spec(spec) for spec in model.inputs],
        "outputs": [encode_spec(spec) for spec in model.outputs],
        "example": example_request(model),
    }


def _livez(exchange: Exchange, backend: Backend) -> Reply:
    if stuck := backend.lifecycle.stuck_workers():
        raise Stuck(f"a prediction does not end in worker {', '.join(stuck)}; restart the server")
    return wire.json_reply({"status": "live"})


def _experiment_file(exchange: Exchange, backend: Backend) -> dict[str, str]:
    """Whether the experiment file is in force; why not is for those who see every model that it may name."""
    live = backend.experiments
    if live is None or not live.fault:
        return {} if live is None else {"experiment_file": "ok"}
    sees_all = len(visible_entries(exchange, backend)) == len(backend.catalog.entries)
    reason = f": {live.fault}" if sees_all else ""
    return {"experiment_file": f"rejected; the experiments read before stay in force{reason}"}


def _health(exchange: Exchange, backend: Backend) -> Reply:
    models = _worst_states(exchange, backend)
    try:
        check_ready(exchange, backend)
    except NotReady as error:
        return wire.error_reply(error, exchange.request_id, status="not ready", models=models)
    return wire.json_reply({"status": "ready", "models": models, **_experiment_file(exchange, backend)})


def _info(exchange: Exchange, backend: Backend) -> Reply:
    models = [_describe(model, backend.predictor) for model in visible_models(exchange, backend)]
    return wire.json_reply({**backend.facts, "models": models})


def _metrics(exchange: Exchange, backend: Backend) -> Reply:
    return Reply(visible_metrics(exchange, backend), content_type="text/plain; version=0.0.4; charset=utf-8")


ENDPOINTS = (
    Endpoint("get", "/livez", "livez", "operate", "200 while the process turns", _livez, "Status", errors=(503,),
             access="open", probe=True),
    Endpoint("get", "/readyz", "readyz", "operate", "200 when every model is ready and the server does not drain",
             report_ready, "Status", errors=(503,), access="open", probe=True),
    Endpoint("get", "/health", "health", "operate", "As /readyz, with each model's state", _health, "Health",
             errors=(503,), access="open", probe=True),
    Endpoint("get", "/info", "info", "operate", "The slot, the models with digests and signatures, the libraries",
             _info, "Info"),
    Endpoint("get", "/metrics", "metrics", "operate", "Prometheus text, exact over all workers", _metrics, "Text",
             TEXT, access="metrics"),
)  # fmt: skip
