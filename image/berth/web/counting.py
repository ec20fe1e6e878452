"""What is counted of a request that could predict, when it is about to be processed."""

from __future__ import annotations

import time
from collections.abc import Callable

from berth.experiments.shadowing import ShadowJob, ShadowQueue
from berth.serving.admission import Gate
from berth.serving.catalog import Catalog
from berth.telemetry.metrics.registry import Metrics
from berth.web.exchange import Exchange
from berth.web.http_metrics import ObserveHttp
from berth.web.pipeline import Observe


def make_shadow_job(exchange: Exchange, catalog: Catalog, metrics: Metrics) -> ShadowJob | None:
    """What a shadow has to do for a request that was predicted; None where it has none."""
    found, tensors = exchange.shadowing, exchange.tensors
    if found is None or tensors is None or not exchange.outputs:
        return None
    arm = found.shadow.arm

    return ShadowJob(
        lambda: catalog.resolve(arm.model, arm.version),
        tensors,
        exchange.outputs,
        metrics.bind(arm.model, arm.version),
        found.place,
        time.monotonic(),
    )


def observe_requests(metrics: Metrics, observe_http: ObserveHttp, gate: Gate, catalog: Catalog) -> Observe:
    """What the pipeline calls when a request that could predict is about to be processed."""
    shadows = ShadowQueue(lambda: gate.inside > 0)

    def observe(exchange: Exchange, status: int, seconds: float) -> None:
        endpoint, model = exchange.endpoint, exchange.model
        if exchange.counts:
            name, version = (model.name, model.version) if model else ("", "")
            bound = metrics.bind(name, version)
            bound.observe_request(endpoint.protocol, status, seconds)
            if (decision := exchange.decision) is not None:
                bound.count_unit(decision.experiment, decision.arm.key, decision.sticky)
                decision.count(seconds, status)
            if exchange.shadowing is not None and (job := make_shadow_job(exchange, catalog, metrics)) is not None:
                shadows.offer(job)
        observe_http(exchange.environ["REQUEST_METHOD"], endpoint.rule, status, seconds)

    return observe


def count_rejections(metrics: Metrics) -> Callable[[Exchange, str], None]:
    """What the pipeline calls when a request is turned away."""

    def reject(exchange: Exchange, reason: str) -> None:
        model = exchange.model
        metrics.bind(*((model.name, model.version) if model else ("", ""))).reject(reason)

    return reject
