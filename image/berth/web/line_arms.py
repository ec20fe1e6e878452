"""The arms of an experiment for the lines of a stream: each line is assigned as a request of its own would be.

Only where the unit is a header that the request carries, one arm has the whole stream, and none of this is used.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from berth.experiments.experiment_file import FIELD
from berth.experiments.live import Decision, Running
from berth.experiments.units import read_units
from berth.models.model import Model
from berth.tensors.arrays import Array, Tensors, TensorSpec


@dataclass(frozen=True)
class LineArms:
    """What assigns lines: the experiment as it is now, what finds an arm's model, and the request's id."""

    find_running: Callable[[], Running]
    resolve: Callable[[str, str], Model]
    request_id: str

    def decide(self, inputs: Sequence[TensorSpec], tensors: Tensors, numbers: Sequence[int]) -> list[Decision]:
        """The arm of each line; `numbers` are theirs in the stream."""
        running = self.find_running()
        unit = running.experiment.unit
        units = read_units(inputs, tensors, unit.name) if unit.kind == FIELD else [None] * len(numbers)
        return [
            running.decide(found, f"{self.request_id}/{number}") for found, number in zip(units, numbers, strict=True)
        ]


@dataclass
class ArmPart:
    """The lines of a chunk that one version predicts: their places, why, and its last call's tensors and outputs."""

    model: Model
    decisions: dict[int, Decision] = field(default_factory=dict)
    tensors: Tensors = field(default_factory=dict)
    outputs: Mapping[str, Array] = field(default_factory=dict)


def group_places(decisions: Sequence[Decision]) -> dict[str, list[int]]:
    """The places of each arm's lines, by its key."""
    groups: dict[str, list[int]] = {}
    for at, decision in enumerate(decisions):
        groups.setdefault(decision.arm.key, []).append(at)
    return groups


def choose_rows(tensors: Tensors, places: Sequence[int]) -> Tensors:
    """The rows of some lines."""
    chosen = list(places)
    return {name: array[chosen] for name, array in tensors.items()}


def put_back(columns: Mapping[str, list[Any]], found: Mapping[str, Sequence[Any]], places: Sequence[int]) -> None:
    """An arm's values in the places of their lines."""
    for name, values in found.items():
        for at, value in zip(places, values, strict=True):
            columns[name][at] = value
