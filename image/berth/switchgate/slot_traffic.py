"""What the pods of a slot counted between two moments, whatever pods came, went or restarted meanwhile."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from berth.telemetry.metrics.buckets import SECONDS
from berth.telemetry.metrics.metrics_text import Samples, Series

REQUESTS, DURATIONS = "berth_requests_total", "berth_request_duration_seconds_bucket"
CLASSES, VALUES = "berth_predictions_total", "berth_prediction_value_bucket"
COUNTED = frozenset({REQUESTS, DURATIONS, CLASSES, VALUES})
_OVERLOADED = 429


@dataclass(frozen=True, slots=True)
class SlotTraffic:
    """A slot's share of the traffic.

    `failed` are responses of 500 and above and 429, `rejected` the other ones of 400 and above. `durations` ([B]) are
    requests by bucket of SECONDS and one beyond, `predictions` are rows by model and by class or bucket of the value.
    """

    slot: str
    requests: int = 0
    failed: int = 0
    rejected: int = 0
    durations: tuple[int, ...] = (0,) * (len(SECONDS) + 1)
    predictions: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    pods: int = 0
    ready: int = 0
    restarts: int = 0


def find_growth(before: Samples, now: Samples) -> tuple[dict[Series, float], bool]:
    """What counters grew by, and whether they were reset: a server that restarts counts from 0 again."""
    restarted = any(value > now.get(series, 0.0) for series, value in before.items())
    base = {} if restarted else before
    return {series: value - base.get(series, 0.0) for series, value in now.items()}, restarted


def add_growth(growths: Iterable[Samples]) -> dict[Series, float]:
    """The sum, series by series."""
    total: defaultdict[Series, float] = defaultdict(float)
    for growth in growths:
        for series, value in growth.items():
            total[series] += value
    return total


class PodCounters:
    """One pod: the sum of what its counters grew by since the first look, over restarts."""

    def __init__(self, first: Samples) -> None:
        self._last = first
        self.growth: Samples = {}
        self.restarts = 0

    def advance(self, now: Samples) -> None:
        """Another look."""
        growth, restarted = find_growth(self._last, now)
        self.growth = add_growth((self.growth, growth))
        self.restarts += restarted
        self._last = now


def _split_buckets(cumulative: Mapping[float, float]) -> dict[float, int]:
    """The counts of the buckets alone, by upper bound."""
    counts, below = {}, 0.0
    for bound in sorted(cumulative):
        counts[bound] = round(cumulative[bound] - below)
        below = cumulative[bound]
    return counts


def _sum_durations(growth: Mapping[Series, float]) -> tuple[int, ...]:
    cumulative: defaultdict[float, float] = defaultdict(float)
    for (name, labels), grown in growth.items():
        if name == DURATIONS:
            cumulative[float(dict(labels)["le"])] += grown
    counts = _split_buckets(cumulative)
    return tuple(max(counts.get(bound, 0), 0) for bound in (*SECONDS, float("inf")))


def _sum_predictions(growth: Mapping[Series, float]) -> dict[str, dict[str, int]]:
    """Rows by model and label; numbers by the upper bound of their bucket."""
    models: defaultdict[str, Counter[str]] = defaultdict(Counter)
    numbers: defaultdict[str, defaultdict[float, float]] = defaultdict(lambda: defaultdict(float))
    for (name, pairs), grown in growth.items():
        labels = dict(pairs)
        if name == CLASSES:
            models[labels["model"]][labels["label"]] += round(grown)
        elif name == VALUES:
            numbers[labels["model"]][float(labels["le"])] += grown
    for model, cumulative in numbers.items():
        models[model].update({f"up to {bound:g}": rows for bound, rows in _split_buckets(cumulative).items()})
    return {model: {label: rows for label, rows in counts.items() if rows > 0} for model, counts in models.items()}


def _is_failure(status: int) -> bool:
    return status >= 500 or status == _OVERLOADED


def sum_traffic(slot: str, pods: Sequence[PodCounters], ready: int) -> SlotTraffic:
    """The slot's traffic, over its pods; `ready` of them can be reached now."""
    growth = add_growth([pod.growth for pod in pods])
    statuses: Counter[int] = Counter()
    for (name, labels), grown in growth.items():
        if name == REQUESTS:
            statuses[int(dict(labels)["status"])] += round(grown)
    failed = sum(count for status, count in statuses.items() if _is_failure(status))
    rejected = sum(count for status, count in statuses.items() if status >= 400 and not _is_failure(status))
    return SlotTraffic(
        slot,
        statuses.total(),
        failed,
        rejected,
        _sum_durations(growth),
        _sum_predictions(growth),
        len(pods),
        ready,
        sum(pod.restarts for pod in pods),
    )
