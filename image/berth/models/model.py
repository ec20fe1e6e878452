"""A model that is ready to predict: what it accepts and returns, and the function in between."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from berth.tensors.arrays import Array, Tensors, TensorSpec

# (inputs by name, wanted output names in order) -> exactly those outputs, by name.
# Rows stand in the first dimension of every tensor. Raises ValueError or TypeError for values that
# the model refuses; anything else is the model's own fault.
PredictFunction: TypeAlias = Callable[[Tensors, Sequence[str]], dict[str, Array]]


@dataclass(frozen=True)
class Loaded:
    """What a loader makes of a folder.

    `inputs` and `outputs` are what the artifact itself says about its signature; empty where it
    says nothing (a TorchScript file), in which case the manifest must. `estimator` is the scikit-learn
    object behind `predict`, where there is one; `module` the TorchScript one, `arguments` its inputs in order.
    `guessed` are the columns whose datatypes it does not know.
    """

    predict: PredictFunction
    inputs: tuple[TensorSpec, ...] = ()
    outputs: tuple[TensorSpec, ...] = ()
    built_with: Mapping[str, str] = field(default_factory=dict)
    estimator: Any = None
    module: Any = None
    arguments: tuple[str, ...] = ()
    guessed: tuple[str, ...] = ()


@dataclass(frozen=True)
class Model:
    """A verified, warmed model under its name and version."""

    name: str
    version: str
    format: str
    sha256: str
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    predict: PredictFunction
    accelerated: bool = False
    metadata: Mapping[str, Any] = field(default_factory=dict)
    example: Mapping[str, Any] | None = None
    load_seconds: float = 0.0
    batchable: bool = True
