"""Drift of all models of a worker: what is offered is counted, what all workers counted is reported."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from berth.telemetry.drift.report import describe_features
from berth.telemetry.drift.ring import CountRing, sum_rings
from berth.telemetry.drift.watcher import Offer, Watched, Watcher, split_counts
from berth.telemetry.logs import log

Key = tuple[str, str]


class DriftMonitor:
    """Counts and reports for the models that have a profile, by (name, version). Safe for any thread.

    Every worker must be given the same models in the same order. Nothing is written before `start`.
    """

    def __init__(
        self,
        folder: Path,
        watched: Mapping[Key, Watched],
        minutes: float,
        rows_per_second: int,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._folder = folder
        self._watched = dict(watched)
        self._minutes = minutes
        self._rows_per_second = rows_per_second
        self._now = now
        # What counts a model's predictions, soon: it never waits and never raises. Empty before `start`.
        self.offers: Mapping[Key, Offer] = {}

    @property
    def keys(self) -> Sequence[Key]:
        """The models that have a profile."""
        return tuple(self._watched)

    def start(self) -> None:
        """Open this process's counts, after the fork. A disk that is full costs the counts, not the predictions."""
        if not self._watched or self._minutes <= 0:
            return
        try:
            ring = CountRing(self._folder / f"{os.getpid()}.counts", self._sizes(), self._minutes, self._now)
        except OSError as error:
            log("drift is not watched: its counts cannot be written", level=logging.WARNING, error=str(error))
            return
        watcher = Watcher(list(self._watched.values()), ring, self._rows_per_second)
        self.offers = {key: watcher.offers(at) for at, key in enumerate(self._watched)}
        watcher.start()

    def _sizes(self) -> list[int]:
        return [watched.size for watched in self._watched.values()]

    def find(self, key: Key) -> Watched | None:
        """A model's profile and inputs; None for one without a profile."""
        return self._watched.get(key)

    def report(self) -> list[dict[str, Any]]:
        """Every watched model's window over all workers."""
        if self._minutes <= 0:
            return []
        sums = sum_rings(self._folder, self._sizes(), self._minutes, self._now())
        models = []
        for ((name, version), watched), counts in zip(self._watched.items(), sums, strict=True):
            rows, features = split_counts(watched.profile, counts)
            models.append(
                {
                    "model": name,
                    "version": version,
                    "window_seconds": self._minutes * 60,
                    "rows": rows,
                    "features": describe_features(watched.profile, features),
                }
            )
        return models
