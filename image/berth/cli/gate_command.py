"""`berth gate`: what the chart's hooks run before and after an upgrade (docs/hooks.md)."""

from __future__ import annotations

import json
import re
import sys
from typing import Any

import click

from berth.cli.canary_options import canary_options, make_canary_plan
from berth.cli.option_types import COUNT, PORT, SECONDS, api_key_option, split_web_url
from berth.switchgate.analysing import analyse_canary
from berth.switchgate.asking import Caller, key_headers
from berth.switchgate.decide import Outcome, Verdict
from berth.switchgate.inquiry import Inquiry
from berth.switchgate.judging import judge_switch, verify_traffic
from berth.switchgate.plan import SwitchPlan, VerifyPlan

_SWITCH_NEEDS = ("release", "target_url", "fingerprint", "headless_host", "other_mode")
_SWITCH_SECONDS, _VERIFY_SECONDS = 120.0, 60.0


def _url(context: click.Context, option: click.Parameter, value: str | None) -> str | None:
    """A Service's address without a path."""
    if value is None:
        return None
    parts = split_web_url(value)
    if parts is None or parts.username or parts.path.rstrip("/") or parts.query or parts.fragment:
        raise click.BadParameter(f"{value!r}: want http://host:port without a path")
    return value.rstrip("/")


def _fingerprint(context: click.Context, option: click.Parameter, value: str | None) -> str | None:
    if value is not None and not re.fullmatch(r"[0-9a-f]{12}", value):
        raise click.BadParameter(f"{value!r}: want 12 hex digits, as the chart renders them")
    return value


def _request(context: click.Context, option: click.Parameter, value: str | None) -> dict[str, Any] | None:
    if value is None:
        return None
    try:
        body = json.loads(value)
        json.dumps(body, allow_nan=False)
    except ValueError as error:
        raise click.BadParameter(f"not JSON: {error}") from error
    if not isinstance(body, dict):
        raise click.BadParameter("want an object, as POST /predict accepts it")
    return body


def _plan_switch(given: dict[str, Any]) -> SwitchPlan:
    if missing := [name for name in _SWITCH_NEEDS if given[name] is None]:
        raise click.UsageError(f"missing --{missing[0].replace('_', '-')} (required without --verify)")
    return SwitchPlan(**given)


def _conclude(verdict: Verdict) -> None:
    """Print the verdict and end: 0 lets the upgrade go on, 1 refuses it."""
    passed = verdict.outcome is Outcome.PASS
    click.echo(f"berth gate: {'PASSED' if passed else 'REFUSED'}: {verdict.sentence}")
    sys.exit(0 if passed else 1)


@click.command()
@click.option(
    "--verify", is_flag=True, help="After a switch: check that the target slot responds on every fresh connection."
)
@click.option("--release", help="Helm release, for the commands in messages.")
@click.option("--active-url", required=True, callback=_url, help="URL of the active Service, without a path.")
@click.option("--target-url", callback=_url, help="URL of the target slot's own Service, without a path.")
@click.option(
    "--target-slot", required=True, type=click.Choice(["blue", "green"]), help="Slot that is to become active."
)
@click.option("--fingerprint", callback=_fingerprint, help="Fingerprint that /info of the target must report.")
@click.option("--headless-host", help="Host name that resolves to the target's ready pods.")
@click.option(
    "--every-pod-host",
    default="",
    envvar="EVERY_POD_HOST",
    show_default=False,
    help="Host name that resolves to all of its pods, ready or not; also EVERY_POD_HOST.",
)
@click.option("--other-mode", type=click.Choice(["serve", "standby", "absent"]), help="Mode of the other slot.")
@click.option("--min-ready", type=click.IntRange(min=0), default=1, help="Minimum number of ready pods.")
@click.option(
    "--successes", type=click.IntRange(1, 1000), default=5, help="Sample predictions that must succeed in a row."
)
@click.option(
    "--connections", type=click.IntRange(1, 1000), default=20, help="With --verify: fresh connections to check."
)
@click.option("--timeout-seconds", type=SECONDS, help="Time limit [default: 120; with --verify 60].")
@click.option(
    "--bootstrap", type=click.Choice(["allow", "refuse"]), default="allow", help="Whether a first install passes."
)
@click.option("--max-latency-ms", type=COUNT, help="Maximum latency of a sample prediction.")
@click.option(
    "--require-agreement", is_flag=True, help="Refuse a target whose sample prediction differs from the active slot's."
)
@click.option("--max-drift", type=click.FloatRange(min=0, min_open=True), help="Maximum psi, divided by its threshold.")
@click.option("--pod-port", type=PORT, default=8000, help="Port of the pods.")
@click.option("--route-url", callback=_url, help="With --verify: URL of the ingress controller or gateway.")
@click.option("--route-host", default="", show_default=False, help="With --route-url: host name that clients use.")
@click.option(
    "--route-shares", is_flag=True, help="With --route-url: a canary has a share, so either slot may respond."
)
@click.option("--request", callback=_request, metavar="JSON", help="Body for /predict [default: the model's example].")
@canary_options
@api_key_option
def gate(
    verify: bool,
    connections: int,
    timeout_seconds: float | None,
    key: str,
    route_url: str | None,
    route_host: str,
    route_shares: bool,
    **given: Any,
) -> None:
    """Judge a slot before it receives traffic; with --verify, check that traffic reached it.

    \b
    berth gate --release=iris --active-url=http://iris-berth --target-url=http://iris-berth-green \\
      --target-slot=green --fingerprint=cc03860f492d --headless-host=iris-berth-green-pods --other-mode=serve
    berth gate --verify --active-url=http://iris-berth --target-slot=green

    With --canary-host, --verify also compares the other slot, which has a share of the traffic, with the live one.
    """
    seconds = timeout_seconds or (_VERIFY_SECONDS if verify else _SWITCH_SECONDS)
    canary = make_canary_plan(given)
    if canary is not None and not verify:
        raise click.UsageError("--canary-host needs --verify")
    caller = Caller(key_headers(key))
    inquiry = Inquiry(caller, seconds, click.echo)
    if verify:
        through = (route_url or "", route_host, route_shares)
        plan = VerifyPlan(given["active_url"], given["target_slot"], connections, seconds, given["request"], *through)
        verdict = verify_traffic(plan, inquiry)
        if canary is not None and verdict.outcome is Outcome.PASS:
            click.echo(f"ok    {verdict.sentence}")
            verdict = analyse_canary(canary, caller, inquiry, click.echo)
        _conclude(verdict)
    if route_url:
        raise click.UsageError("--route-url is for --verify: a switch is judged before its route changes")
    _conclude(judge_switch(_plan_switch(given | {"timeout_seconds": seconds}), inquiry))


COMMANDS = (gate,)
