"""The options with which `berth gate --verify` analyses a canary."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

import click

from berth.cli.option_types import COUNT, SECONDS, with_options
from berth.switchgate.canary_plan import CanaryLimits, CanaryPlan
from berth.switchgate.plan import namespace_of

_PREFIX = "canary_"
# make_canary_plan takes them out of the keywords again.
canary_options = with_options(
    click.option("--canary-host", help="With --verify: host name of the canary's pods, to compare with the live ones."),
    click.option("--live-host", help="Host name that resolves to the live slot's ready pods."),
    click.option("--canary-fingerprint", help="Fingerprint that /info of the canary's pods must report."),
    click.option(
        "--canary-seconds", type=SECONDS, default=120,
        help="Seconds of traffic to compare."
    ),
    click.option(
        "--canary-min-requests", type=COUNT, default=500,
        help="Requests that each slot must have had."
    ),
    click.option(
        "--canary-max-error-increase", type=click.FloatRange(0, 1), default=0.005,
        help="Maximum increase of the share of failed responses, and of rejected ones."
    ),
    click.option(
        "--canary-max-latency-ratio", type=click.FloatRange(min=0), default=1.3,
        help="Maximum ratio of the p99 latencies; 0 for no limit."
    ),
    click.option(
        "--canary-max-drift", type=click.FloatRange(min=0), default=0,
        help="Maximum psi of the predictions, divided by its threshold; 0 for no limit."
    ),
    click.option(
        "--canary-inconclusive", type=click.Choice(["fail", "pass"]), default="fail",
        help="Result of an inconclusive analysis."
    ),
)  # fmt: skip


def make_canary_plan(given: dict[str, Any]) -> CanaryPlan | None:
    """The plan, None without --canary-host; what belongs to it leaves `given`. Raises click.UsageError."""
    own = {name.removeprefix(_PREFIX): given.pop(name) for name in list(given) if name.startswith(_PREFIX)}
    own["live_host"] = given.pop("live_host")
    host = own.pop("host")
    if host is None:
        return None
    for name, option in (("live_host", "--live-host"), ("fingerprint", "--canary-fingerprint")):
        if own[name] is None:
            raise click.UsageError(f"missing {option}, which --canary-host needs")
    limits = ("min_requests", "max_error_increase", "max_latency_ratio", "max_drift")
    return CanaryPlan(
        release=given["release"] or "",
        live_slot=given["target_slot"],
        canary_host=host,
        limits=CanaryLimits(**{name: own.pop(name) for name in limits}),
        pod_port=given["pod_port"],
        namespace=namespace_of(urlsplit(given["active_url"]).hostname or ""),
        **own,
    )
