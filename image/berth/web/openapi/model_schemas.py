"""What one model accepts, as JSON Schema: one value, a row, a record, rows, and tensors by name."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from berth.models.model import Model
from berth.tensors.arrays import DATATYPES, TensorSpec
from berth.tensors.schema import column_names, is_frame, is_matrix

_NAMED_IN_TEXT = 20
JsonSchema = dict[str, Any]
STRING: JsonSchema = {"type": "string"}
OBJECT: JsonSchema = {"type": "object"}
# Generators of clients want to know the items of every list, and one type for every alternative.
LIST: JsonSchema = {"type": "array", "items": {}}


def open_object(required: dict[str, JsonSchema], **optional: JsonSchema) -> JsonSchema:
    """An object with these properties, and maybe others."""
    return {"type": "object", "properties": required | optional, "required": list(required)}


def exact_object(properties: dict[str, JsonSchema], required: Sequence[str]) -> JsonSchema:
    """An object with these properties and no others."""
    return {"type": "object", "properties": properties, "required": list(required), "additionalProperties": False}


def list_of(items: JsonSchema, **limits: Any) -> JsonSchema:
    """A list with so many items (`minItems`, `maxItems`)."""
    return {"type": "array", "items": items, **limits}


def value_schema(datatype: str) -> JsonSchema:
    """One value of a datatype; null is a missing number."""
    dtype = DATATYPES[datatype]
    if dtype.kind in "iu":
        return {"type": "integer", "minimum": int(np.iinfo(dtype).min), "maximum": int(np.iinfo(dtype).max)}
    return {"type": {"f": ["number", "null"], "b": "boolean", "O": ["string", "null"]}[dtype.kind]}


def _sized(items: JsonSchema, size: int) -> JsonSchema:
    """A list of `size` items; -1 is any number."""
    return list_of(items) if size < 0 else list_of(items, minItems=size, maxItems=size)


def _some(items: JsonSchema) -> JsonSchema:
    return list_of(items, minItems=1)


def tensor_schema(spec: TensorSpec) -> JsonSchema:
    """A tensor as nested lists, at least one row."""
    schema = value_schema(spec.datatype)
    for size in reversed(spec.shape[1:]):
        schema = _sized(schema, size)
    return _some(schema) if spec.shape[0] < 0 else _sized(schema, spec.shape[0])


def _column_schemas(model: Model) -> dict[str, JsonSchema]:
    """Each named column's values; empty where the model names none."""
    if is_matrix(model.inputs):
        return dict.fromkeys(model.inputs[0].columns or (), value_schema(model.inputs[0].datatype))
    return {spec.name: value_schema(spec.datatype) for spec in model.inputs} if is_frame(model.inputs) else {}


def _row_schema(model: Model) -> JsonSchema:
    names = column_names(model.inputs) or ()
    told = ", ".join(names[:_NAMED_IN_TEXT]) + (", …" if len(names) > _NAMED_IN_TEXT else "")
    schema: JsonSchema = {"description": f"In this order: {told}."} if names else {}
    if is_matrix(model.inputs):
        spec = model.inputs[0]
        return schema | _sized(value_schema(spec.datatype), spec.shape[1])
    values = list(_column_schemas(model).values())
    return schema | {"type": "array", "prefixItems": values, "minItems": len(values), "maxItems": len(values)}


def _inputs_schema(model: Model) -> JsonSchema:
    tensors = {spec.name: tensor_schema(spec) for spec in model.inputs}
    by_name = exact_object(tensors, list(tensors))
    if not (is_matrix(model.inputs) and model.inputs[0].columns):
        return by_name
    lists = {name: _some(schema) for name, schema in _column_schemas(model).items()}
    return {"anyOf": [by_name, exact_object(lists, list(lists))]}


def component_name(model: Model, part: str) -> str:
    """The name of one of the model's schemas among the document's components."""
    return f"{model.name}-{model.version}-{part}"


def reference(model: Model, part: str) -> JsonSchema:
    """A reference to one of the model's schemas."""
    return {"$ref": f"#/components/schemas/{component_name(model, part)}"}


def takes_rows(model: Model) -> bool:
    """Whether rows alone say what to predict: a matrix, a frame, or a single tensor."""
    return is_matrix(model.inputs) or is_frame(model.inputs) or len(model.inputs) == 1


def model_components(model: Model) -> dict[str, JsonSchema]:
    """The model's schemas by component name: `row`, `record` and `rows` where it accepts such, and `inputs`."""
    parts = {"inputs": _inputs_schema(model)}
    if is_matrix(model.inputs) or is_frame(model.inputs):
        parts["row"] = _row_schema(model)
        kinds = [_some(reference(model, "row"))]
        if columns := _column_schemas(model):
            parts["record"] = exact_object(columns, list(columns))
            kinds.append(_some(reference(model, "record")))
        parts["rows"] = {"anyOf": kinds}
    elif takes_rows(model):
        parts["rows"] = tensor_schema(model.inputs[0])
    return {component_name(model, part): schema for part, schema in parts.items()}


def features_schema(model: Model) -> JsonSchema | None:
    """What `features` may be: one row or record, or a list of them; None where only `inputs` will do."""
    if not takes_rows(model):
        return None
    parts = ("row", "record", "rows")
    known = model_components(model)
    return {"anyOf": [reference(model, part) for part in parts if component_name(model, part) in known]}
