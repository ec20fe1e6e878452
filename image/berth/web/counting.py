"""What is counted of a request that could predict, when it is about to be processed."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

from berth.errors import BerthError, Overloaded
from berth.serving.catalog import Catalog
from berth.telemetry.metrics.registry import Metrics, ModelMetrics
from berth.web.exchange import Exchange
from berth.web.http_metrics import ObserveHttp
from berth.web.pipeline import Observe


def bind_model(metrics: Metrics, catalog: Catalog) -> Callable[[Exchange], ModelMetrics]:
    """The metrics that a request counts under: its model's.

    Before that is known, those of the model in its path, or of the only one there is; without either, the empty name's.
    """

    def bind(exchange: Exchange) -> ModelMetrics:
        name, version = exchange.args.get("name"), exchange.args.get("version")
        if exchange.model is not None:
            return metrics.bind(exchange.model.name, exchange.model.version)
        if isinstance(exchange.error, Overloaded) and (name or len(catalog.entries) == 1):
            with suppress(BerthError):
                entry = catalog.find(name, version)
                return metrics.bind(entry.name, entry.version)
        return metrics.bind("", "")

    return bind


def observe_requests(bind: Callable[[Exchange], ModelMetrics], observe_http: ObserveHttp) -> Observe:
    """What the pipeline calls when a request that could predict is about to be processed."""

    def observe(exchange: Exchange, status: int, seconds: float) -> None:
        endpoint = exchange.endpoint
        if exchange.counts:
            bound = bind(exchange)
            bound.observe_request(endpoint.protocol, status, seconds)
            if (decision := exchange.decision) is not None:
                bound.count_unit(decision.experiment, decision.arm.key, decision.sticky)
                decision.count(seconds, status)
        observe_http(exchange.environ["REQUEST_METHOD"], endpoint.rule, status, seconds)

    return observe
