"""Ensembles: a version that names others, and combines what they predict.

    ensemble.json   {"combine": "mean", "weights": [1.0, 1.0],
                     "members": [{"model": "forest@3", "sha256": "…"}, {"model": "boost@2", "sha256": "…"}]}

Members are versions of the same store. They are loaded with the ensemble and called once each, one after another, in
this process. A member that is missing, or whose file is another one, is refused.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from berth.errors import BerthError, LoadError, shown
from berth.loaders.combining import COMBINATIONS, VOTE, align, combine_values, count_votes
from berth.loaders.formats import LoadOptions, load
from berth.models.manifest import MANIFEST, Manifest
from berth.models.model import Loaded, PredictFunction
from berth.models.store import Entry, read_manifest, verify_version
from berth.tensors.arrays import DATATYPES, Array, Tensors, TensorSpec

ENSEMBLE, FILE = "ensemble", "ensemble.json"
MOST_MEMBERS = 32
_PREDICTION, _PROBABILITIES = "prediction", "probabilities"
# Loads a member whose files have been checked.
OpenMember: TypeAlias = Callable[[Entry, Manifest], Loaded]


@dataclass(frozen=True)
class Recipe:
    """What ensemble.json says: how to combine, and each member with its digest and weight."""

    combine: str
    members: tuple[tuple[str, str, str], ...]  # name, version, sha256
    weights: tuple[float, ...]


@dataclass(frozen=True)
class Member:
    """A loaded member."""

    key: str
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    predict: PredictFunction

    def find(self, name: str) -> TensorSpec | None:
        """One of its outputs."""
        return next((spec for spec in self.outputs if spec.name == name), None)


def encode_recipe(recipe: Recipe) -> bytes:
    """ensemble.json."""
    members = [{"model": f"{name}@{version}", "sha256": digest} for name, version, digest in recipe.members]
    document = {"combine": recipe.combine, "weights": list(recipe.weights), "members": members}
    return json.dumps(document, indent=2).encode() + b"\n"


def parse_recipe(text: bytes) -> Recipe:
    """ensemble.json. Raises LoadError."""
    try:
        document = json.loads(text)
        words = [tuple(member["model"].split("@")) for member in document["members"]]
        members = tuple((name, version, str(found["sha256"])) for (name, version), found in
                        zip(words, document["members"], strict=True))  # fmt: skip
        recipe = Recipe(document["combine"], members, tuple(map(float, document["weights"])))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise LoadError(f"{FILE} is not what `berth add --ensemble` writes: {error!r}"[:300]) from error
    check_recipe(recipe)
    return recipe


def check_recipe(recipe: Recipe) -> None:
    """That an ensemble can be made of this. Raises LoadError."""
    if recipe.combine not in COMBINATIONS:
        raise LoadError(f"combine must be {', '.join(COMBINATIONS)}, got {shown(recipe.combine)}")
    if not 2 <= len(recipe.members) <= MOST_MEMBERS or len(set(recipe.members)) != len(recipe.members):
        raise LoadError(f"an ensemble has 2 to {MOST_MEMBERS} members, each once; got {len(recipe.members)}")
    good = all(np.isfinite(weight) and weight >= 0 for weight in recipe.weights) and sum(recipe.weights) > 0
    if len(recipe.weights) != len(recipe.members) or not good:
        raise LoadError(
            f"weights must be one number from 0 up for each of {len(recipe.members)} members, got {recipe.weights}"
        )


def _open_member(store: Path, member: tuple[str, str, str], open_member: OpenMember) -> Member:
    name, version, digest = member
    entry = Entry(name, version, store / name / version)
    if not (entry.folder / MANIFEST).is_file():
        raise LoadError(f"its member {entry.key} is not in the store; add it, or pull it with the ensemble")
    try:
        manifest = verify_version(entry)
        if manifest.sha256 != digest:
            raise LoadError(f"it has sha256 {manifest.sha256}, but the ensemble was made with {digest}")
        if manifest.format == ENSEMBLE:
            raise LoadError("it is an ensemble itself; name its members instead")
        loaded = open_member(entry, manifest)
    except BerthError as error:
        raise LoadError(f"its member {entry.key}: {error.message}") from error
    outputs = manifest.outputs or loaded.outputs
    return Member(entry.key, manifest.inputs or loaded.inputs, outputs, loaded.predict)


def member_manifests(directory: Path, manifest: Manifest) -> list[Manifest]:
    """The manifests of an ensemble's members, as far as they can be read; none for other formats."""
    found: list[Manifest] = []
    if manifest.format != ENSEMBLE:
        return found
    with suppress(BerthError, OSError):
        for name, version, _ in parse_recipe((directory / FILE).read_bytes()).members:
            found.append(read_manifest(Entry(name, version, directory.parent.parent / name / version)))
    return found


def _signature(specs: Sequence[TensorSpec]) -> list[tuple[Any, ...]]:
    return [(spec.name, spec.datatype, spec.shape, spec.columns) for spec in specs]


def _labels(member: Member) -> tuple[Any, ...] | None:
    spec = member.find(_PROBABILITIES)
    return None if spec is None else spec.labels


def _check_members(members: Sequence[Member], how: str) -> None:
    """That members take the same and can be combined so. Raises LoadError naming the first difference."""
    first, *others = members
    for other in others:
        if _signature(first.inputs) != _signature(other.inputs):
            raise LoadError(
                f"its members {first.key} and {other.key} have different inputs; an ensemble needs the same"
            )
        known = _labels(first), _labels(other)
        if (known[0] is None) != (known[1] is None) and how != VOTE:
            raise LoadError(f"of {first.key} and {other.key} only one has probabilities; combine them by vote")
        if known[0] is not None and known[1] is not None and {*known[0]} != {*known[1]}:
            raise LoadError(
                f"its members {first.key} and {other.key} have different classes: {known[0]} and {known[1]}"
            )
    for member in members:
        spec = member.find(_PREDICTION)
        if spec is None or len(spec.shape) != 1:
            raise LoadError(f"its member {member.key} has no output {_PREDICTION!r} with one value a row")
        if how != VOTE and _labels(member) is None and not spec.datatype.startswith(("FP", "INT", "UINT")):
            raise LoadError(f"its member {member.key} has neither probabilities nor numbers; combine by vote")


def _describe_outputs(members: Sequence[Member], how: str) -> tuple[TensorSpec, ...]:
    first = members[0]
    prediction, probabilities = first.find(_PREDICTION), first.find(_PROBABILITIES)
    assert prediction is not None  # noqa: S101 - checked before
    if how == VOTE:
        return (TensorSpec(_PREDICTION, prediction.datatype, (-1,)),)
    if probabilities is None or probabilities.labels is None:
        return (TensorSpec(_PREDICTION, "FP64", (-1,)),)
    width = len(probabilities.labels)
    likely = TensorSpec(_PROBABILITIES, "FP64", (-1, width), labels=probabilities.labels)
    return TensorSpec(_PREDICTION, prediction.datatype, (-1,)), likely


def make_predict(members: Sequence[Member], how: str, weights: Sequence[float]) -> PredictFunction:
    """The function that calls each member once and combines what they predict."""
    outputs = {spec.name: spec for spec in _describe_outputs(members, how)}
    labels = _labels(members[0])
    dtype = DATATYPES[outputs[_PREDICTION].datatype]

    def ask(tensors: Tensors, name: str) -> list[Array]:
        return [member.predict(tensors, [name])[name] for member in members]

    def predict(tensors: Tensors, wanted: Sequence[str]) -> dict[str, Array]:
        if _PROBABILITIES not in outputs or labels is None:
            said = ask(tensors, _PREDICTION)
            found = count_votes(said) if how == VOTE else combine_values(how, said, weights)
            return {_PREDICTION: found.astype(dtype, copy=False)}
        aligned = [
            align(part, _labels(member) or (), labels)
            for member, part in zip(members, ask(tensors, _PROBABILITIES), strict=True)
        ]
        joined = combine_values(how, aligned, weights)
        classes = np.array(labels, dtype)
        answers = {_PROBABILITIES: joined, _PREDICTION: classes[np.argmax(joined, axis=1)]}
        return {name: answers[name] for name in wanted}

    return predict


def load_ensemble(
    directory: Path, manifest: Manifest, options: LoadOptions, open_member: OpenMember | None = None
) -> Loaded:
    """An ensemble with its members; without `open_member` they are loaded as they are, not accelerated.

    Raises LoadError, UnsafeArtifact.
    """
    recipe = parse_recipe((directory / FILE).read_bytes())
    store, built_with = directory.parent.parent, dict[str, str]()

    def open_native(entry: Entry, member: Manifest) -> Loaded:
        return load(entry.folder, member, options)

    def open_one(entry: Entry, member: Manifest) -> Loaded:
        built_with.update(member.built_with)
        return (open_member or open_native)(entry, member)

    members = [_open_member(store, member, open_one) for member in recipe.members]
    _check_members(members, recipe.combine)
    weights = recipe.weights if recipe.combine == "weighted" else (1.0,) * len(members)
    predict = make_predict(members, recipe.combine, weights)
    return Loaded(predict, members[0].inputs, _describe_outputs(members, recipe.combine), built_with)
