"""What several loaders need: the one file they read, and the outputs a silent artifact turns out to have."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from berth.errors import LoadError, RequestError
from berth.loaders.endings import recognise_content
from berth.models.manifest import Manifest
from berth.tensors.arrays import DATATYPES, Array, Tensors, TensorSpec, datatype_of
from berth.tensors.schema import check_tensors, decode_tensors

# Two, not one: torch.export treats a dimension of one as a special case.
_PROBE_SIZE = 2


def find_artifact(directory: Path, manifest: Manifest, suffixes: Sequence[str]) -> Path:
    """The version's only file, or the only one with one of the endings. Raises LoadError."""
    names = [name for name in manifest.artifacts if name.lower().endswith(tuple(suffixes))]
    if not names:  # model.bst: it was recognised by its content
        names = [name for name in manifest.artifacts if recognise_content(directory / name) == manifest.format]
    if len(names) != 1:
        found = ", ".join(names or manifest.artifacts)
        raise LoadError(
            f"the format {manifest.format} wants exactly one file ending in {' or '.join(suffixes)}; found {found}"
        )
    return directory / names[0]


def example_of(manifest: Manifest) -> dict[str, Array] | None:
    """The first row of a version's example; None where it has none that fits its inputs."""
    if not manifest.example or not manifest.inputs:
        return None
    try:
        rows = decode_tensors(manifest.example["inputs"], manifest.inputs)
        checked = check_tensors(rows, manifest.inputs, 1 << 30, manifest.batchable)
    except RequestError:  # the check of the example says what is wrong with it
        return None
    return {name: array[:1] for name, array in checked.items()}


def zeros_for(inputs: Sequence[TensorSpec]) -> dict[str, Array]:
    """Inputs that fit the specs: zeros or empty strings, two wherever a dimension is free."""
    return {
        spec.name: np.full(
            [_PROBE_SIZE if size < 0 else size for size in spec.shape],
            "" if spec.datatype == "BYTES" else 0,
            dtype=DATATYPES[spec.datatype],
        )
        for spec in inputs
    }


def spec_of(name: str, array: Array) -> TensorSpec:
    """The spec that `array`, an output for some rows, suggests. Raises KeyError for a dtype without a name."""
    return TensorSpec(name, datatype_of(array.dtype), (-1, *array.shape[1:]))


def learn_outputs(run: Callable[[Tensors], dict[str, Array]], inputs: Sequence[TensorSpec]) -> tuple[TensorSpec, ...]:
    """What `run` returns for zeros; nothing when the inputs are unknown or the model refuses zeros."""
    if not inputs:
        return ()
    try:
        answers = run(zeros_for(inputs))
    except Exception:  # the model's own code may raise anything, and then the outputs must be declared
        return ()
    return tuple(spec_of(name, array) for name, array in answers.items() if array.ndim)
