"""What is counted of a request that could predict, when it is about to be processed."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress

from berth.errors import BerthError, Overloaded
from berth.experiments.shadowing import ShadowJob, ShadowQueue
from berth.serving.catalog import Catalog
from berth.serving.predictor import Predictor
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


def make_shadow_job(exchange: Exchange, catalog: Catalog, predictor: Predictor, metrics: Metrics) -> ShadowJob | None:
    """What a shadow has to do for a request that was predicted; None where it has none."""
    found, tensors = exchange.shadowing, exchange.tensors
    if found is None or tensors is None or not exchange.outputs:
        return None
    arm = found.shadow.arm

    return ShadowJob(
        arm.key,
        predictor.is_quick(arm.model, arm.version, exchange.rows),
        lambda: catalog.resolve(arm.model, arm.version),
        tensors,
        exchange.outputs,
        metrics.bind(arm.model, arm.version),
        found.place,
        time.monotonic(),
    )


def shadow_with(
    queue: ShadowQueue, catalog: Catalog, predictor: Predictor, metrics: Metrics
) -> Callable[[Exchange], None]:
    """What queues the second prediction of a request that an experiment shadows; nothing starts before there is one."""

    def offer(exchange: Exchange) -> None:
        if (job := make_shadow_job(exchange, catalog, predictor, metrics)) is not None:
            queue.offer(job)

    return offer


def observe_requests(
    bind: Callable[[Exchange], ModelMetrics], observe_http: ObserveHttp, offer_shadow: Callable[[Exchange], None]
) -> Observe:
    """What the pipeline calls when a request that could predict is about to be processed."""

    def observe(exchange: Exchange, status: int, seconds: float) -> None:
        endpoint = exchange.endpoint
        if exchange.counts:
            bind(exchange).observe_request(endpoint.protocol, status, seconds)
            if (decision := exchange.decision) is not None:
                decision.count_response(seconds, status)
            for each, line_status in exchange.line_decisions:
                each.count_response(seconds, line_status)
            if exchange.shadowing is not None:
                offer_shadow(exchange)
        observe_http(exchange.environ["REQUEST_METHOD"], endpoint.rule, status, seconds)

    return observe
