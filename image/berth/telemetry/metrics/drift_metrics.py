"""The drift's metrics, computed from the counts of all workers when they are scraped.

A gauge that each worker sets for itself would keep the value of its last scrape; these cannot be stale.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from prometheus_client import Metric
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

# Of the features that drifted the furthest; a model may have thousands.
MOST_FEATURES = 50
_COMMON = ("model", "version", "slot")


class DriftCollector(Collector):
    """What `report` (DriftMonitor.report) says, as metrics."""

    def __init__(self, report: Callable[[], Sequence[dict[str, Any]]], slot: str) -> None:
        self._report = report
        self._slot = slot

    def collect(self) -> Iterator[Metric]:
        """The families, each with the models that have figures."""
        psi = GaugeMetricFamily(
            "berth_drift_psi", "Population stability index against the sample.", labels=[*_COMMON, "feature"]
        )
        threshold = GaugeMetricFamily(
            "berth_drift_threshold", "The index above which a feature has drifted.", labels=[*_COMMON, "feature"]
        )
        rows = GaugeMetricFamily("berth_drift_rows", "Rows in the window.", labels=list(_COMMON))
        features = GaugeMetricFamily("berth_drift_features", "Features by state.", labels=[*_COMMON, "state"])
        for model in self._report():
            common = (model["model"], model["version"], self._slot)
            rows.add_metric(common, model["rows"])
            known = [feature for feature in model["features"] if feature["psi"] is not None]
            drifted = sum(feature["drifted"] for feature in known)
            features.add_metric((*common, "ok"), len(known) - drifted)
            features.add_metric((*common, "drifted"), drifted)
            for feature in known[:MOST_FEATURES]:
                psi.add_metric((*common, feature["name"]), feature["psi"])
                threshold.add_metric((*common, feature["name"]), feature["threshold"])
        return iter((psi, threshold, rows, features))
