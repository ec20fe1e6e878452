"""The figures of experiments that alerts read, computed from the counts of all pods when they are scraped."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from prometheus_client import Metric
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

_LABELS = ["slot", "experiment"]


class ExperimentCollector(Collector):
    """What `report` says of each experiment, as metrics."""

    def __init__(self, report: Callable[[], Sequence[dict[str, Any]]], slot: str) -> None:
        self._report = report
        self._slot = slot

    def collect(self) -> Iterator[Metric]:
        """The families; an interval that is infinite is left out."""
        split = GaugeMetricFamily(
            "berth_experiment_split_p", "Probability that chance alone splits the units so.", labels=_LABELS
        )
        difference = GaugeMetricFamily(
            "berth_experiment_difference",
            "Mean reward of an arm minus that of the first one, and the ends of its 95 % interval.",
            labels=[*_LABELS, "arm", "bound"],
        )
        share = GaugeMetricFamily("berth_experiment_share", "Share of the units.", labels=[*_LABELS, "arm"])
        for each in self._report():
            common = (self._slot, each["name"])
            if each["split_p"] is not None:
                split.add_metric(common, each["split_p"])
            for arm in each["arms"]:
                share.add_metric((*common, arm["arm"]), arm["share"])
            for compared in each["comparisons"]:
                low, high = compared["interval"]
                for bound, value in (("low", low), ("mean", compared["difference"]), ("high", high)):
                    if low is not None:
                        difference.add_metric((*common, compared["arm"], bound), value)
        return iter((split, difference, share))
