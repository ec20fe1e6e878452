"""Probes, state and metrics: what operators and Kubernetes ask."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any, TypeAlias

from flask import Blueprint, Flask, Request, Response, request

from berth.errors import NotReady, Stuck
from berth.models.manifest import encode_spec
from berth.models.model import Model
from berth.serving.catalog import Catalog
from berth.serving.lifecycle import FAILED, Lifecycle
from berth.serving.predictor import Predictor
from berth.telemetry.metrics.updates import observe_shared
from berth.web import wire
from berth.web.examples import example_request

_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})


def _worst_states(catalog: Catalog, lifecycle: Lifecycle) -> dict[str, dict[str, str]]:
    """Each model's state over all workers: failed if it failed in one, else loading if it loads in one."""
    order = ["ready", "loading", FAILED]
    worst: dict[str, dict[str, str]] = {}
    for states in [dict(lifecycle.states), *lifecycle.all_states()]:
        for entry in catalog.entries:
            state = states.get(entry.key)
            if state is None:
                continue
            have = worst.get(entry.key)
            if have is None or order.index(state.state) > order.index(have["state"]):
                worst[entry.key] = {"state": state.state, "reason": state.reason}
    return worst


def url_rule(asked: Request) -> str:
    """The label that groups HTTP metrics: the route's rule, never the path a client made up."""
    return asked.url_rule.rule if asked.url_rule else "unmatched"


def _skip_made_up_methods() -> None:
    if request.method not in _METHODS:  # a label per made-up method would be a series per attack
        request.prom_do_not_track = True  # type: ignore[attr-defined]


# (method, rule, status, when the request began as `time.monotonic()`)
ObserveHttp: TypeAlias = Callable[[str, str, int, float], None]


def export_http_metrics(app: Flask, registry: Any, buckets: Sequence[float]) -> ObserveHttp:
    """Count and time every HTTP request as `flask_http_*`, in `registry`; /metrics itself is the blueprint's.

    What is returned does the same for a request that Flask does not see.
    """
    from prometheus_flask_exporter import PrometheusMetrics

    app.before_request(_skip_made_up_methods)
    PrometheusMetrics(app, path=None, group_by=url_rule, registry=registry, buckets=tuple(buckets))
    # The exporter keeps its two metrics to itself; the registry has them under their names.
    collectors = registry._names_to_collectors
    total, duration = collectors["flask_http_request_total"], collectors["flask_http_request_duration_seconds"]
    children: dict[tuple[str, str, int], tuple[Any, Any]] = {}

    def observe(method: str, rule: str, status: int, began: float) -> None:
        found = children.get((method, rule, status))
        if found is None:
            timed = duration.labels(method=method, url_rule=rule, status=status)
            found = children[method, rule, status] = total.labels(method=method, status=status), timed
        found[0].inc()
        observe_shared(found[1], time.monotonic() - began)

    return observe


def _describe(model: Model, predictor: Predictor) -> dict[str, Any]:
    """What /info tells of one model."""
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


def ops_blueprint(
    catalog: Catalog, predictor: Predictor, lifecycle: Lifecycle, facts: dict[str, Any], render: Callable[[], bytes]
) -> Blueprint:
    """The probes, /health, /info and /metrics; `facts` are what /info tells besides the models."""
    routes = Blueprint("ops", __name__)

    @routes.get("/livez")
    def livez() -> Response:
        if stuck := lifecycle.stuck_workers():
            raise Stuck(f"a prediction does not end in worker {', '.join(stuck)}; restart the server")
        return wire.json_response({"status": "live"})

    @routes.get("/readyz")
    def readyz() -> Response:
        readiness = lifecycle.readiness()
        if not readiness.ready:
            raise NotReady(readiness.reason)
        return wire.json_response({"status": "ready"})

    @routes.get("/health")
    def health() -> Response:
        readiness = lifecycle.readiness()
        models = _worst_states(catalog, lifecycle)
        if not readiness.ready:
            return wire.error_response(NotReady(readiness.reason), status="not ready", models=models)
        return wire.json_response({"status": "ready", "models": models})

    @routes.get("/info")
    def info() -> Response:
        return wire.json_response({**facts, "models": [_describe(model, predictor) for model in catalog.models()]})

    @routes.get("/metrics")
    def metrics() -> Response:
        return Response(render(), content_type="text/plain; version=0.0.4; charset=utf-8")

    return routes
