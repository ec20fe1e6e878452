"""That the arms of an experiment are served, and take and give the same: any of them may get any request."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from berth.errors import BerthError, SettingsError
from berth.experiments.experiment_file import FIELD, Arm, Experiment
from berth.models.manifest import Manifest
from berth.models.store import Entry, read_manifest
from berth.tensors.arrays import TensorSpec
from berth.tensors.schema import column_names, is_frame, is_matrix

Specs = Sequence[TensorSpec]
# What is served, by NAME@VERSION; None where model.json cannot be read, which /health reports.
Manifests = Mapping[str, Manifest | None]
_PARTS = ("datatype", "shape", "columns", "labels", "optional")


def read_manifests(entries: Sequence[Entry]) -> Manifests:
    """The manifests of the served versions."""
    found: dict[str, Manifest | None] = {}
    for entry in entries:
        try:
            found[entry.key] = read_manifest(entry)
        except BerthError:
            found[entry.key] = None
    return found


def find_difference(kind: str, ours: Specs, theirs: Specs) -> str:
    """The first difference between two lists of inputs or outputs, in words; empty where there is none."""
    names = [spec.name for spec in ours], [spec.name for spec in theirs]
    if names[0] != names[1]:
        return f"the {kind}s are {', '.join(names[0])} and {', '.join(names[1])}"
    for one, other in zip(ours, theirs, strict=True):
        for part in _PARTS:
            if (here := getattr(one, part)) != (there := getattr(other, part)):
                return f"the {part} of {kind} {one.name!r} is {_words(here)} and {_words(there)}"
    return ""


def _words(value: object) -> str:
    text = ", ".join(map(str, value)) if isinstance(value, tuple) else str(value)
    return "none" if value is None else text if len(text) <= 100 else f"{text[:100]}…"


def _find_manifest(experiment: Experiment, arm: Arm, manifests: Manifests) -> Manifest | None:
    if arm.key not in manifests:
        served = ", ".join(manifests) or "none"
        raise SettingsError(
            f"experiment {experiment.name!r}: {arm.key} is not served; add it to BERTH_MODELS (served: {served})"
        )
    return manifests[arm.key]


def _check_field(experiment: Experiment, inputs: Specs) -> None:
    names = column_names(inputs) if is_frame(inputs) or is_matrix(inputs) else None
    if inputs and experiment.unit.name not in (names or ()):
        known = ", ".join((names or ())[:20]) or "none with a name"
        raise SettingsError(
            f"experiment {experiment.name!r}: unit field:{experiment.unit.name} is no column of its arms; "
            f"columns are {known}"
        )


def _check_pair(experiment: Experiment, arms: tuple[Arm, Arm], manifests: Manifests) -> None:
    one, other = (_find_manifest(experiment, arm, manifests) for arm in arms)
    if one is None or other is None:
        return
    pairs = (("input", one.inputs, other.inputs), ("output", one.outputs, other.outputs))
    for kind, ours, theirs in pairs:
        if ours and theirs and (difference := find_difference(kind, ours, theirs)):
            raise SettingsError(
                f"experiment {experiment.name!r}: {arms[0].key} and {arms[1].key} differ: {difference}; "
                "arms need the same inputs and outputs"
            )


def _default_version(experiment: Experiment, manifests: Manifests) -> Arm:
    """The version that an experiment's public name stands for without it."""
    for key in manifests:
        name, _, version = key.partition("@")
        if name == experiment.model:
            return Arm(name, version)
    raise SettingsError(f"experiment {experiment.name!r}: no version of {experiment.model!r} is served")


def check_arms(experiments: Sequence[Experiment], manifests: Manifests) -> None:
    """That every arm is served and has the signature of the first one. Raises SettingsError.

    A shadow without arms is compared with the version that its experiment's name stands for.
    """
    for experiment in experiments:
        first = experiment.arms[0] if experiment.arms else _default_version(experiment, manifests)
        for arm in experiment.versions:
            _check_pair(experiment, (first, arm), manifests)
        known = _find_manifest(experiment, first, manifests)
        if experiment.unit.kind == FIELD and known is not None:
            _check_field(experiment, known.inputs)
