"""What /drift says of a model: every feature's expected and observed counts, its psi and its threshold."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from berth.models.profile import CATEGORICAL, ColumnProfile, Profile
from berth.telemetry.drift.psi import LEAST_ROWS, find_threshold, measure_psi
from berth.telemetry.drift.watcher import FeatureCounts
from berth.tensors.arrays import Array


def _describe_bins(column: ColumnProfile) -> dict[str, Any]:
    if column.kind == CATEGORICAL:
        return {"categories": list(column.categories)}
    return {"edges": list(column.edges)}


def describe_feature(
    column: ColumnProfile, counts: Array, columns: int, unusual: Mapping[str, int] | None = None
) -> dict[str, Any]:
    """One feature: `counts` ([B]) of the window; `columns` is the number of features that are tested at once.

    psi, threshold and drifted are null below 100 rows.
    """
    rows, shares = int(counts.sum()), np.array(column.shares)
    known = rows >= LEAST_ROWS
    psi = measure_psi(counts, shares, column.rows) if known else None
    threshold = find_threshold(len(shares), rows, column.rows, columns) if known else None
    return {
        "name": column.name,
        "kind": column.kind,
        **_describe_bins(column),
        "labels": list(column.labels),
        "sample_rows": column.rows,
        "expected": [round(share * column.rows) for share in column.shares],
        "observed": counts.tolist(),
        "psi": psi,
        "threshold": threshold,
        "drifted": None if psi is None or threshold is None else psi > threshold,
        "unusual": dict(unusual or {}),
    }


def describe_features(profile: Profile, counts: Sequence[FeatureCounts]) -> list[dict[str, Any]]:
    """Every feature of a profile, the most drifted first."""
    number = len(profile.features)
    features = [
        describe_feature(column, seen.bins, number, seen.unusual)
        for column, seen in zip(profile.features, counts, strict=True)
    ]
    return sorted(features, key=lambda feature: -(feature["psi"] or 0) / (feature["threshold"] or 1))
