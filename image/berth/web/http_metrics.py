"""`flask_http_*`: every HTTP request counted and timed by route, as prometheus-flask-exporter does it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

from flask import Flask, Request, request

from berth.telemetry.metrics.updates import make_observer, make_shared_adder

_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
# (method, rule, status, seconds)
ObserveHttp: TypeAlias = Callable[[str, str, int, float], None]


def url_rule(asked: Request) -> str:
    """The label that groups HTTP metrics: the route's rule, never the path a client made up."""
    return asked.url_rule.rule if asked.url_rule else "unmatched"


def _skip_made_up_methods() -> None:
    if request.method not in _METHODS:  # a label per made-up method would be a series per attack
        request.prom_do_not_track = True  # type: ignore[attr-defined]


def export_http_metrics(app: Flask, registry: Any, buckets: Sequence[float]) -> ObserveHttp:
    """Count and time every HTTP request as `flask_http_*`, in `registry`; /metrics itself is an endpoint.

    What is returned does the same for a prediction, whether or not Flask sees it.
    """
    from prometheus_flask_exporter import PrometheusMetrics

    app.before_request(_skip_made_up_methods)
    PrometheusMetrics(
        app,
        path=None,
        group_by=url_rule,
        registry=registry,
        buckets=tuple(buckets),
    )
    # The exporter keeps its two metrics to itself; the registry has them under their names.
    collectors = registry._names_to_collectors
    total, duration = collectors["flask_http_request_total"], collectors["flask_http_request_duration_seconds"]
    # No other code observes the durations of these routes (Flask's views of them opt out); the counter is shared.
    children: dict[tuple[str, str, int], tuple[Callable[[float], None], Callable[[float], None]]] = {}

    def observe(method: str, rule: str, status: int, seconds: float) -> None:
        found = children.get((method, rule, status))
        if found is None:
            timed = make_observer(duration.labels(method=method, url_rule=rule, status=status))
            found = children[method, rule, status] = (
                make_shared_adder(total.labels(method=method, status=status)),
                timed,
            )
        found[0](1)
        found[1](seconds)

    return observe
