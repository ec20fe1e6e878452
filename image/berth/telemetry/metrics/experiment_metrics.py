"""The figures of experiments, computed from the counts when they are scraped: a request pays for one count alone.

What alerts read is of all pods; requests by arm are those of this pod, as every other counter.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from prometheus_client import Metric
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

_LABELS = ["slot", "experiment"]
# Experiment, model and version of the arm, whether the requests had a unit, and their number.
ArmRequests = tuple[str, str, str, bool, float]


class ExperimentCollector(Collector):
    """What `report` says of each experiment, and the requests of `read_requests`, as metrics."""

    def __init__(
        self,
        report: Callable[[], Sequence[dict[str, Any]]],
        slot: str,
        read_requests: Callable[[], Sequence[ArmRequests]] = tuple,
    ) -> None:
        self._report = report
        self._read_requests = read_requests
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
        return iter((split, difference, share, self._collect_requests()))

    def _collect_requests(self) -> Metric:
        labels = ["model", "version", *_LABELS, "arm", "sticky"]
        family = CounterMetricFamily(
            "berth_experiment_units", "Requests by arm; sticky ones had a unit.", labels=labels
        )
        for experiment, model, version, sticky, count in self._read_requests():
            values = (model, version, self._slot, experiment, f"{model}@{version}", "yes" if sticky else "no")
            family.add_metric(values, count)
        return family
