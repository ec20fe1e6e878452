"""Drift of a scored file: its rows counted into the bins of the model's profile, as the server counts requests."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from berth.models.model import Model
from berth.models.profile import PREDICTION, Profile, decode_profile
from berth.telemetry.drift.report import describe_features
from berth.telemetry.drift.watcher import Watched, count_block, split_counts
from berth.tensors.arrays import Array, Tensors


class RunDrift:
    """The counts of one run so far, [size] int64; those of a run that was killed are where it begins."""

    def __init__(self, model: Model, profile: Profile, begun: Sequence[int]) -> None:
        self._model, self._watched = model, Watched(model.inputs, profile)
        self._counts = np.zeros(self._watched.size, np.int64)
        if len(begun) == len(self._counts):
            self._counts += np.array(begun, np.int64)

    def add(self, tensors: Tensors, outputs: Mapping[str, Array], rows: int) -> None:
        """Count rows that were predicted."""
        self._counts += count_block(self._watched, tensors, outputs, rows)

    @property
    def counts(self) -> tuple[int, ...]:
        """What a killed run goes on from."""
        return tuple(self._counts.tolist())

    def report(self) -> dict[str, Any]:
        """As GET /drift reports a model."""
        rows, features = split_counts(self._watched.profile, self._counts)
        described = describe_features(self._watched.profile, features)
        return {"model": self._model.name, "version": self._model.version, "rows": rows, "features": described}


def begin_drift(model: Model, outputs: Sequence[str], begun: Sequence[int]) -> RunDrift | None:
    """None for a model without a profile. Raises ManifestError for a damaged one."""
    if (profile := decode_profile(model.metadata)) is None:
        return None
    return RunDrift(model, profile if PREDICTION in outputs else Profile(profile.columns), begun)
