"""What one model accepts, as JSON Schema: one value, a row, a record, rows, and tensors by name."""

from __future__ import annotations

from typing import Any

import numpy as np

from berth.models.model import Model
from berth.tensors.arrays import DATATYPES, TensorSpec
from berth.tensors.schema import column_names, is_frame, is_matrix

_NAMED_IN_TEXT = 20
JsonSchema = dict[str, Any]


def value_schema(datatype: str) -> JsonSchema:
    """One value of a datatype; null is a missing number."""
    dtype = DATATYPES[datatype]
    if dtype.kind in "iu":
        return {"type": "integer", "minimum": int(np.iinfo(dtype).min), "maximum": int(np.iinfo(dtype).max)}
    return {"type": {"f": ["number", "null"], "b": "boolean", "O": ["string", "null"]}[dtype.kind]}


def _list_of(items: JsonSchema, size: int, least: int = 0) -> JsonSchema:
    """A list of `size` items; -1 is any number from `least` on."""
    return {
        "type": "array",
        "items": items,
        **({"minItems": least} if size < 0 and least else {}),
        **({"minItems": size, "maxItems": size} if size >= 0 else {}),
    }


def tensor_schema(spec: TensorSpec) -> JsonSchema:
    """A tensor as nested lists, at least one row."""
    schema = value_schema(spec.datatype)
    for size in reversed(spec.shape[1:]):
        schema = _list_of(schema, size)
    return _list_of(schema, spec.shape[0], least=1)


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
        return schema | _list_of(value_schema(spec.datatype), spec.shape[1])
    values = list(_column_schemas(model).values())
    return schema | {"type": "array", "prefixItems": values, "minItems": len(values), "maxItems": len(values)}


def _record_schema(columns: dict[str, JsonSchema]) -> JsonSchema:
    return {"type": "object", "properties": columns, "required": list(columns), "additionalProperties": False}


def _inputs_schema(model: Model) -> JsonSchema:
    tensors = {spec.name: tensor_schema(spec) for spec in model.inputs}
    by_name = _record_schema(tensors)
    if not (is_matrix(model.inputs) and model.inputs[0].columns):
        return by_name
    lists = {name: _list_of(schema, -1, least=1) for name, schema in _column_schemas(model).items()}
    return {"anyOf": [by_name, _record_schema(lists)]}


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
        kinds = [_list_of(reference(model, "row"), -1, least=1)]
        if columns := _column_schemas(model):
            parts["record"] = _record_schema(columns)
            kinds.append(_list_of(reference(model, "record"), -1, least=1))
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
