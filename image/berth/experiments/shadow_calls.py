"""The requests that a shadow predicts again, and its call for one or many of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from berth.experiments.arm_counts import ArmPlace
from berth.models.model import Model, joins_rows
from berth.tensors.arrays import Array, Tensors
from berth.tensors.schema import check_tensors

_MOST_ROWS = 1 << 30


class ShadowMetrics(Protocol):
    """What a shadow's metrics take."""

    def count_shadow(self, result: str, requests: int) -> None:
        """Requests were compared, failed or were dropped."""

    def observe_shadow(self, seconds: Sequence[float], differences: Sequence[float]) -> None:
        """The shadow predicted requests, each in so many seconds; with numbers, their largest differences."""


@dataclass(frozen=True, slots=True)
class ShadowJob:
    """One request to predict again: by which model, with what, and what its own model predicted.

    `is_quick`: the model is over before a thread could wait for its turn, whatever a row says (Predictor.is_quick).
    """

    key: str
    is_quick: bool
    find_model: Callable[[], Model]
    tensors: Tensors
    outputs: Mapping[str, Array]
    metrics: ShadowMetrics
    place: ArmPlace | None
    offered: float

    def can_join(self, other: ShadowJob) -> bool:
        """Whether one call can predict both: of the same model, for the same arm, with alike tensors and outputs."""
        return (
            (self.key, self.place) == (other.key, other.place)
            and self.outputs.keys() == other.outputs.keys()
            and self.tensors.keys() == other.tensors.keys()
            and all(_form(array) == _form(other.tensors[name]) for name, array in self.tensors.items())
        )


def _form(array: Array) -> tuple[np.dtype[Any], tuple[int, ...]]:
    return array.dtype, array.shape[1:]


def predict_again(jobs: Sequence[ShadowJob]) -> list[Mapping[str, Array]]:
    """The shadow's outputs for requests that `can_join`: by one call if its rows do not depend on one another.

    Raises whatever the model raises, and ValueError when it does not give one row per row.
    """
    model, names = jobs[0].find_model(), list(jobs[0].outputs)
    if len(jobs) == 1 or not joins_rows(model):
        return [_call(model, job.tensors, names) for job in jobs]
    found = _call(model, {name: np.concatenate([job.tensors[name] for job in jobs]) for name in jobs[0].tensors}, names)
    ends = np.cumsum([len(next(iter(job.tensors.values()))) for job in jobs]).tolist()
    if any(len(array) != ends[-1] for array in found.values()):
        raise ValueError("the model does not return one row per row")
    return [
        {name: array[start:end] for name, array in found.items()} for start, end in zip([0, *ends], ends, strict=False)
    ]


def _call(model: Model, tensors: Tensors, names: Sequence[str]) -> Mapping[str, Array]:
    return model.predict(check_tensors(tensors, model.inputs, _MOST_ROWS, model.batchable), names)
