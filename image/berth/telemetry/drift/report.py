"""What /drift says of a model: every feature's expected and observed counts, its psi and its threshold."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from berth.models.profile import CATEGORICAL, ColumnProfile, Profile
from berth.telemetry.drift.psi import LEAST_ROWS, find_threshold, measure_psi
from berth.telemetry.drift.watcher import FeatureCounts

# What two reports on one model's feature must agree on, or they are of different samples.
_SAME = ("kind", "labels", "expected")


def _judge(feature: Mapping[str, Any], columns: int) -> dict[str, Any]:
    """The feature with psi, threshold and drifted, which are null below 100 rows."""
    observed, expected = np.array(feature["observed"]), np.array(feature["expected"])
    rows, sample_rows = int(observed.sum()), int(expected.sum())
    if rows < LEAST_ROWS:
        return {**feature, "psi": None, "threshold": None, "drifted": None}
    psi = measure_psi(observed, expected / max(sample_rows, 1), sample_rows)
    threshold = find_threshold(len(observed), rows, sample_rows, columns)
    return {**feature, "psi": psi, "threshold": threshold, "drifted": psi > threshold}


def _rank(features: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    judged = [_judge(feature, len(features)) for feature in features]
    return sorted(judged, key=lambda feature: -(feature["psi"] or 0) / (feature["threshold"] or 1))


def _describe_feature(column: ColumnProfile, seen: FeatureCounts) -> dict[str, Any]:
    bins = {"categories": list(column.categories)} if column.kind == CATEGORICAL else {"edges": list(column.edges)}
    return {
        "name": column.name,
        "kind": column.kind,
        **bins,
        "labels": list(column.labels),
        "expected": [round(share * column.rows) for share in column.shares],
        "observed": seen.bins.tolist(),
        "unusual": dict(seen.unusual),
    }


def describe_features(profile: Profile, counts: Sequence[FeatureCounts]) -> list[dict[str, Any]]:
    """Every feature of a profile, the one with the largest drift first."""
    return _rank([_describe_feature(column, seen) for column, seen in zip(profile.features, counts, strict=True)])


def _add(one: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, Any]:
    if any(one[key] != other[key] for key in _SAME):
        raise ValueError(f"the reports on {one['name']!r} come from different samples")
    observed = [here + there for here, there in zip(one["observed"], other["observed"], strict=True)]
    return {**one, "observed": observed, "unusual": dict(Counter(one["unusual"]) + Counter(other["unusual"]))}


def add_reports(reports: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The reports of several pods on one model as one. Raises ValueError for reports that do not go together."""
    first, *others = reports
    features = {feature["name"]: feature for feature in first["features"]}
    for report in others:
        if {feature["name"] for feature in report["features"]} != set(features):
            raise ValueError(f"the reports on {first['model']}@{first['version']} have different features")
        features = {each["name"]: _add(features[each["name"]], each) for each in report["features"]}
    return {**first, "rows": sum(report["rows"] for report in reports), "features": _rank(list(features.values()))}
