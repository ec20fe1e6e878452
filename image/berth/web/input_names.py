"""The name of a model's only input, which clients of MLServer choose themselves: it never reads it."""

from __future__ import annotations

from collections.abc import Mapping

from berth.models.model import Model
from berth.tensors.arrays import Array


def name_only_input(given: Mapping[str, Array], model: Model) -> Mapping[str, Array]:
    """The one tensor of a request under the name of the model's one input, where the version was imported for that."""
    if len(given) != 1 or len(model.inputs) != 1 or not model.metadata.get("any_input_name"):
        return given
    spec, array = model.inputs[0], next(iter(given.values()))
    # A column sent by its name is a column, not the matrix.
    return given if set(given) & set(spec.columns or ()) and len(spec.columns or ()) > 1 else {spec.name: array}
