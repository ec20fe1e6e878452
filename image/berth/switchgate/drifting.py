"""Whether the requests that a slot has had still match the sample of its model, over all of its pods."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from berth.switchgate.decide import Patience, Verdict, goes_on, refuses
from berth.switchgate.heard import Heard
from berth.switchgate.plan import SwitchPlan
from berth.telemetry.drift.report import add_reports


def _add_models(reports: Sequence[Heard]) -> list[dict[str, Any]]:
    """The pods' reports, added up for each model. Raises ValueError, KeyError, TypeError."""
    models: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    for heard in reports:
        for report in heard.document["models"]:
            models.setdefault((report["model"], report["version"]), []).append(report)
    return [add_reports(each) for each in models.values()]


def _rate(feature: Mapping[str, Any]) -> float:
    """How many times its threshold a feature's psi is; 0 where there are too few rows."""
    return feature["psi"] / feature["threshold"] if feature["psi"] is not None else 0.0


def decide_drift(reports: Sequence[Heard], plan: SwitchPlan, most: float) -> Verdict:
    """The rule, from what /drift of each pod of the slot brought; `most` is gate.maxDrift."""
    slot = plan.target_slot
    for heard in reports:
        if heard.status != 200:
            return refuses(f"slot {slot} does not report its drift: {heard.request} {heard.told}", Patience.SHORT)
    try:
        models = _add_models(reports)
        judged = [(_rate(feature), model, feature) for model in models for feature in model["features"]]
        rows = sum(model["rows"] for model in models)
    except (ValueError, KeyError, TypeError) as error:
        return refuses(
            f"the drift of slot {slot} cannot be added up over its pods ({error}); wait until its rollout has ended",
            Patience.SHORT,
        )
    if not judged:
        return goes_on(f"slot {slot} has no profile to compare requests with, so gate.maxDrift judges nothing")
    rate, model, feature = max(judged, key=lambda found: found[0])
    if rate > most:
        return refuses(
            f"{feature['name']} of {model['model']}@{model['version']} has drifted in slot {slot}: its psi "
            f"{feature['psi']:.3f} is {rate:.1f} times its threshold, but gate.maxDrift allows {most:g}; see "
            f"`berth drift --headless-host={plan.headless_host}`, or raise gate.maxDrift"
        )
    if not rate:
        return goes_on(f"slot {slot} has had {rows} rows, too few for a figure, so gate.maxDrift judges nothing")
    return goes_on(f"the psi of slot {slot} is at most {rate:.1f} times its threshold")
