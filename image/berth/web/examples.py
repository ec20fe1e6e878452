"""What to send to a model so that it predicts: its own example, else blank rows."""

from __future__ import annotations

import math
from typing import Any

from berth.models.model import Model
from berth.tensors.schema import blank_inputs, decode_tensors, is_frame, is_matrix


def _without_nan(value: Any) -> Any:
    """Nested lists in which NaN is null, as every route accepts and returns it."""
    if isinstance(value, list):
        return [_without_nan(item) for item in value]
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    return None if isinstance(value, float) and not math.isfinite(value) else value


def example_tensors(model: Model, rows: int = 1) -> dict[str, list[Any]]:
    """At most `rows` rows for every input of the model, by name, as nested lists."""
    known = model.example["inputs"] if model.example else None
    tensors = blank_inputs(model.inputs, 1) if known is None else decode_tensors(known, model.inputs)
    return {name: _without_nan(array[:rows].tolist()) for name, array in tensors.items()}


def example_rows(model: Model, rows: int = 1) -> list[Any] | None:
    """The same as `instances`: lists of values, records for a frame; None where only names distinguish the tensors."""
    tensors = example_tensors(model, rows)
    if is_matrix(model.inputs) or len(model.inputs) == 1:
        return tensors[model.inputs[0].name]
    if not is_frame(model.inputs):
        return None
    return [dict(zip(tensors, values, strict=True)) for values in zip(*tensors.values(), strict=True)]


def example_request(model: Model) -> dict[str, Any]:
    """One row as `POST /predict` accepts it, without the model's name."""
    rows = example_rows(model)
    if rows is None or not (is_matrix(model.inputs) or is_frame(model.inputs)):
        return {"inputs": example_tensors(model)}
    return {"features": rows[0] if isinstance(rows[0], list | dict) else {model.inputs[0].name: rows[0]}}
