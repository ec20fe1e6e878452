"""What is counted of a request that could predict, when it is about to be processed."""

from __future__ import annotations

from collections.abc import Callable

from berth.telemetry.metrics.registry import Metrics
from berth.web.exchange import Exchange
from berth.web.http_metrics import ObserveHttp
from berth.web.pipeline import Observe


def observe_requests(metrics: Metrics, observe_http: ObserveHttp) -> Observe:
    """What the pipeline calls when a request that could predict is about to be processed."""

    def observe(exchange: Exchange, status: int, seconds: float) -> None:
        endpoint, model = exchange.endpoint, exchange.model
        if exchange.counts:
            name, version = (model.name, model.version) if model else ("", "")
            bound = metrics.bind(name, version)
            bound.observe_request(endpoint.protocol, status, seconds)
            if (decision := exchange.decision) is not None:
                bound.count_unit(decision.experiment, decision.arm.key, decision.sticky)
                decision.count(seconds, status)
        observe_http(exchange.environ["REQUEST_METHOD"], endpoint.rule, status, seconds)

    return observe


def count_rejections(metrics: Metrics) -> Callable[[Exchange, str], None]:
    """What the pipeline calls when a request is turned away."""

    def reject(exchange: Exchange, reason: str) -> None:
        model = exchange.model
        metrics.bind(*((model.name, model.version) if model else ("", ""))).reject(reason)

    return reject
