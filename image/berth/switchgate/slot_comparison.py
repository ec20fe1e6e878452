"""A canary beside the live slot: figure by figure, pure.

A figure fails where the canary is worse by more than its limit and chance does not explain it: with few requests a
single error is far above any limit.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import Enum

import numpy as np

from berth.switchgate.canary_plan import CanaryLimits
from berth.switchgate.proportions import chance_of_more, find_bucket, interpolate_quantile
from berth.switchgate.slot_traffic import SlotTraffic
from berth.telemetry.drift.psi import LEAST_ROWS, find_threshold, measure_psi
from berth.telemetry.metrics.buckets import SECONDS

# How often chance alone may fail a healthy canary, for each figure.
LEVEL = 0.005
# The same for a look before the time is up: there are many of them.
EARLY_LEVEL = 1e-6
# Fewer responses that failed condemn no canary, however few requests it had.
LEAST_HITS = 3
_SHARE = 0.99


class Finding(Enum):
    """What a figure says of the canary."""

    OK = "ok"
    FAILED = "FAILED"
    TOO_FEW = "too few"
    UNJUDGED = "not judged"


@dataclass(frozen=True, slots=True)
class Figure:
    """One row of the table. `sentence` is the reason for a finding that is not ok."""

    name: str
    live: str
    canary: str
    difference: str
    limit: str
    finding: Finding
    sentence: str = ""


def _share(part: int, whole: int) -> float:
    return part / whole if whole else 0.0


def _compare_requests(live: SlotTraffic, canary: SlotTraffic, limits: CanaryLimits) -> Figure:
    few = [slot for slot in (canary, live) if slot.requests < limits.min_requests]
    counted = " and ".join(f"slot {slot.slot} had {slot.requests} requests" for slot in few)
    return Figure(
        "requests", str(live.requests), str(canary.requests), "", f"at least {limits.min_requests}",
        Finding.TOO_FEW if few else Finding.OK,
        f"{counted}, canary.analysis.minRequests is {limits.min_requests}" if few else "",
    )  # fmt: skip


def _compare_pods(live: SlotTraffic, canary: SlotTraffic) -> Figure:
    """A container that restarts lost what it had in hand, and counted none of it."""
    gone = canary.ready == 0
    failed = gone or canary.restarts > live.restarts
    sentence = f"its containers restarted {canary.restarts} times, those of slot {live.slot} {live.restarts} times"
    return Figure(
        "restarts", str(live.restarts), str(canary.restarts), f"{canary.restarts - live.restarts:+d}", "+0",
        Finding.FAILED if failed else Finding.OK,
        "none of its pods is ready now" if gone else sentence if failed else "",
    )  # fmt: skip


def _compare_shares(name: str, counts: tuple[int, int], requests: tuple[int, int], most: float, level: float) -> Figure:
    """Shares of requests; `counts` and `requests` are of the live slot and of the canary."""
    before, now = map(_share, counts, requests)
    failed = now - before > most and counts[1] >= LEAST_HITS
    failed = failed and chance_of_more(counts[1], requests[1], counts[0], requests[0]) <= level
    shown = f"{before:.2%} ({counts[0]})", f"{now:.2%} ({counts[1]})"
    sentence = (
        f"{name} are {now:.2%} of its requests and {before:.2%} of the live slot's, an increase by "
        f"{now - before:.2%}, and canary.analysis.maxErrorIncrease is {most:g}"
    )
    return Figure(
        name, *shown, f"{now - before:+.2%}", f"{most:+.2%}",
        Finding.FAILED if failed else Finding.OK, sentence if failed else "",
    )  # fmt: skip


def compare_errors(live: SlotTraffic, canary: SlotTraffic, limits: CanaryLimits, level: float = LEVEL) -> list[Figure]:
    """What any number of requests can fail: responses that failed, requests that were rejected, restarts."""
    requests = live.requests, canary.requests
    most = limits.max_error_increase
    return [
        _compare_shares("errors", (live.failed, canary.failed), requests, most, level),
        _compare_shares("rejected", (live.rejected, canary.rejected), requests, most, level),
        _compare_pods(live, canary),
    ]


def _chance_of_slower(live: Sequence[int], canary: Sequence[int]) -> float:
    """How likely chance alone makes the canary's tail this heavy: by its share above the bounds up to its p99."""
    bounds = range(max(find_bucket(live, _SHARE), 1), find_bucket(canary, _SHARE) + 1)
    chances = [chance_of_more(sum(canary[at:]), sum(canary), sum(live[at:]), sum(live)) for at in bounds]
    return min(chances, default=1.0) * len(chances) if chances else 1.0


def _compare_latency(live: SlotTraffic, canary: SlotTraffic, limits: CanaryLimits) -> Figure:
    before, now = (interpolate_quantile(slot.durations, SECONDS, _SHARE) for slot in (live, canary))
    most = limits.max_latency_ratio
    limit = f"x{most:g}" if most else "none"
    shown = _milliseconds(before), _milliseconds(now)
    if before is None or now is None:
        return Figure("p99", *shown, "-", limit, Finding.UNJUDGED)
    ratio = now / before
    failed = bool(most) and ratio > most and _chance_of_slower(live.durations, canary.durations) <= LEVEL
    sentence = (
        f"its p99 is {shown[1]} and that of the live slot {shown[0]}, {ratio:.2f} times as long, and "
        f"canary.analysis.maxLatencyRatio is {most:g}"
    )
    finding = Finding.FAILED if failed else Finding.OK if most else Finding.UNJUDGED
    return Figure("p99", *shown, f"x{ratio:.2f}", limit, finding, sentence if failed else "")


def _milliseconds(seconds: float | None) -> str:
    return "-" if seconds is None else f"{seconds * 1000:.3g} ms"


def pair_models(live: SlotTraffic, canary: SlotTraffic) -> list[tuple[str, Mapping[str, int], Mapping[str, int]]]:
    """The models to compare, by name; a slot's only model is compared with the other slot's only one."""
    names = sorted(set(live.predictions) & set(canary.predictions))
    if not names and len(live.predictions) == len(canary.predictions) == 1:
        (before,), (now,) = live.predictions, canary.predictions
        return [(now, live.predictions[before], canary.predictions[now])]
    return [(name, live.predictions[name], canary.predictions[name]) for name in names]


def _compare_predictions(
    name: str, live: Mapping[str, int], canary: Mapping[str, int], most: float, models: int
) -> Figure:
    """The shares of the predictions, by class or bucket: a psi beside the threshold that chance does not reach."""
    title = f"psi of {name}"
    labels = sorted({label for counts in (live, canary) for label, rows in counts.items() if rows})
    before, now = (np.array([counts.get(label, 0) for label in labels]) for counts in (live, canary))
    rows, sample = int(now.sum()), int(before.sum())
    shown = f"{sample} rows", f"{rows} rows"
    if min(rows, sample) < LEAST_ROWS:
        return Figure(title, *shown, "-", f"{most:g} thresholds" if most else "none", Finding.UNJUDGED)
    psi = measure_psi(now, before / sample, sample)
    threshold = find_threshold(len(labels), rows, sample, models)
    failed = bool(most) and psi > most * threshold
    sentence = (
        f"the predictions of {name} are shifted: their psi {psi:.3f} is {psi / threshold:.1f} times its threshold, "
        f"and canary.analysis.maxDrift is {most:g}"
    )
    finding = Finding.FAILED if failed else Finding.OK if most else Finding.UNJUDGED
    limit = f"{most * threshold:.3f}" if most else "none"
    return Figure(title, *shown, f"{psi:.3f}", limit, finding, sentence if failed else "")


def compare_slots(live: SlotTraffic, canary: SlotTraffic, limits: CanaryLimits) -> list[Figure]:
    """All figures, in the order of the table. Below minRequests only errors, rejections and restarts can fail."""
    requests = _compare_requests(live, canary, limits)
    pairs = pair_models(live, canary)
    others = [_compare_latency(live, canary, limits)]
    others += [_compare_predictions(*pair, limits.max_drift, len(pairs)) for pair in pairs]
    if requests.finding is Finding.TOO_FEW:
        others = [replace(each, finding=Finding.UNJUDGED, sentence="") for each in others]
    return [requests, *compare_errors(live, canary, limits), *others]
