"""What each protocol's request body may be, with one example per loaded model that really works."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Sequence
from typing import Any

from berth.models.model import Model
from berth.telemetry.feedback.tally import find_labels
from berth.tensors.arrays import DATATYPES
from berth.tensors.codec import encode_json
from berth.tensors.schema import column_names
from berth.web.examples import example_request, example_rows, example_tensors
from berth.web.exchange import BINARY, CSV, JSON
from berth.web.ndjson import NDJSON
from berth.web.openapi.model_schemas import (
    LIST,
    OBJECT,
    STRING,
    JsonSchema,
    exact_object,
    features_schema,
    list_of,
    open_object,
    reference,
    takes_rows,
)

Models = Sequence[Model]
_LINES: JsonSchema = {**STRING, "description": "A row a line, as an element of `features`; a response line each."}
_BYTES: JsonSchema = {"schema": {"type": "string", "format": "binary"}}


def _any_of(schemas: list[JsonSchema]) -> JsonSchema:
    return schemas[0] if len(schemas) == 1 else {"anyOf": schemas} if schemas else OBJECT


def _outputs(model: Model) -> JsonSchema:
    names = {"type": "string", "enum": [spec.name for spec in model.outputs]}
    return list_of(names, minItems=1, uniqueItems=True)


def addressing(models: Models, model: Model) -> dict[str, str]:
    """What a request must say so that it reaches `model`: nothing for the default, its version for a later one."""
    first = next(other for other in models if other.name == model.name)
    if model is models[0]:
        return {}
    return {"model": model.name} if model is first else {"model": model.name, "version": model.version}


def _examples(models: Models, make: Callable[[Model], Any]) -> dict[str, JsonSchema]:
    made = {f"{model.name}@{model.version}": make(model) for model in models}
    return {key: {"summary": f"one row for {key}", "value": value} for key, value in made.items() if value is not None}


def _content(schema: JsonSchema, examples: dict[str, JsonSchema]) -> JsonSchema:
    return {"schema": schema, **({"examples": examples} if examples else {})}


def _word(value: str, needed: bool) -> JsonSchema:
    """A name in a body: also as a whole number where it is one, and null where it may be left out."""
    kinds: list[JsonSchema] = [{"type": "string", "enum": [value]}]
    if value.isascii() and value.isdigit() and str(int(value)) == value:
        kinds.append({"type": "integer", "enum": [int(value)]})
    return _any_of(kinds if needed else [*kinds, {"type": "null"}])


def predict_content(models: Models) -> JsonSchema:
    """POST /predict: `features` or `inputs`, and which model."""
    kinds = []
    for model in models:
        # Without a name it is the default model, of whatever version.
        needed = [key for key in addressing(models, model) if key != "model" or model.name != models[0].name]
        common: dict[str, JsonSchema] = {
            "model": _word(model.name, "model" in needed),
            "version": _word(model.version, "version" in needed),
            "outputs": _outputs(model),
            "parameters": OBJECT,
        }
        if (features := features_schema(model)) is not None:
            kinds.append(exact_object(common | {"features": features}, ["features", *needed]))
        kinds.append(exact_object(common | {"inputs": reference(model, "inputs")}, ["inputs", *needed]))
    return {
        JSON: _content(_any_of(kinds), _examples(models, lambda m: example_request(m) | addressing(models, m))),
        NDJSON: _content(_LINES, _examples(models[:1], _example_lines)),
    }


def _example_lines(model: Model) -> str | None:
    rows = example_rows(model) if model.batchable else None
    return None if rows is None else "".join(encode_json(row).decode() + "\n" for row in rows)


def _example_infer(model: Model) -> dict[str, Any]:
    tensors = example_tensors(model)
    inputs = [
        {"name": spec.name, "shape": _shape(tensors[spec.name]), "datatype": spec.datatype, "data": tensors[spec.name]}
        for spec in model.inputs
    ]
    return {"id": "1", "inputs": inputs, "outputs": [{"name": spec.name} for spec in model.outputs]}


def _shape(value: Any) -> list[int]:
    shape = []
    while isinstance(value, list):
        shape.append(len(value))
        value = value[0] if value else None
    return shape


def infer_content(models: Models) -> JsonSchema:
    """POST …/infer of the Open Inference Protocol, its tensors in JSON or, behind the JSON, in binary."""
    tensor = open_object(
        {
            "name": STRING,
            "shape": list_of({"type": "integer", "minimum": 0}, minItems=1),
            "datatype": {"type": "string", "enum": list(DATATYPES)},
        },
        data={**LIST, "description": "Flat or nested, row by row."},
        parameters=OBJECT,
    )
    wanted = list_of(open_object({"name": STRING}, parameters=OBJECT))
    schema = open_object({"inputs": list_of(tensor, minItems=1)}, id=STRING, parameters=OBJECT, outputs=wanted)
    return {JSON: _content(schema, _examples(models, _example_infer)), BINARY: _BYTES}


def instances_content(models: Models) -> JsonSchema:
    """POST …:predict of KServe V1: a list of `instances`, or `inputs` as columns."""
    kinds = []
    for model in models:
        more: dict[str, JsonSchema] = {"parameters": {}, "signature_name": {}, "outputs": _outputs(model)}
        if takes_rows(model):
            kinds.append(exact_object(more | {"instances": reference(model, "rows")}, ["instances"]))
        kinds.append(exact_object(more | {"inputs": reference(model, "inputs")}, ["inputs"]))
    return {JSON: _content(_any_of(kinds), _examples(models, _example_instances))}


def _example_instances(model: Model) -> dict[str, Any]:
    rows = example_rows(model)
    return {"inputs": example_tensors(model)} if rows is None else {"instances": rows}


def _cells(row: Any) -> list[Any]:
    if isinstance(row, dict):
        return list(row.values())
    return row if isinstance(row, list) else [row]


def _example_csv(model: Model) -> str | None:
    names, rows = column_names(model.inputs), example_rows(model)
    if names is None or rows is None:
        return None
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(names)
    table.writerows(_cells(row) for row in rows)
    return text.getvalue()


def _table_forms(models: Models) -> dict[str, JsonSchema]:
    """MLflow's four forms for the default model."""
    columns, data = list_of({"type": ["string", "integer"]}), list_of(LIST, minItems=1)
    rows = [reference(model, "rows") for model in models if takes_rows(model)]
    named = [reference(model, "record") for model in models if column_names(model.inputs)]
    return {
        "dataframe_split": exact_object({"columns": columns, "index": LIST, "data": data}, ["data"]),
        "dataframe_records": list_of(_any_of(named), minItems=1),
        "instances": _any_of(rows) if rows else LIST,
        "inputs": {"anyOf": [OBJECT, LIST]},
    }


def invocations_content(models: Models) -> JsonSchema:
    """POST /invocations of MLflow: exactly one of four forms, to the default model; or CSV with a header."""
    first = models[:1]
    kinds = [exact_object({form: schema, "params": OBJECT}, [form]) for form, schema in _table_forms(first).items()]
    return {
        JSON: _content({"oneOf": kinds}, _examples(first, _example_instances)),
        CSV: _content(STRING, _examples(first, _example_csv)),
    }


def _example_feedback(model: Model) -> dict[str, Any]:
    value = next(iter(find_labels(model)), 1.0)
    return {"model": model.name, "version": model.version, "prediction": value, "truth": value}


def feedback_content(models: Models) -> JsonSchema:
    """POST /feedback: one item or a list of them."""
    value: JsonSchema = {"anyOf": [STRING, {"type": "number"}, {"type": "boolean"}, LIST]}
    receipt, reward = STRING, {"type": "number", "minimum": 0, "maximum": 1}
    named = {"model": STRING, "version": STRING, "prediction": value, "truth": value}
    item = {
        "oneOf": [
            exact_object({"receipt": receipt, "truth": value}, ["receipt", "truth"]),
            exact_object({"receipt": receipt, "reward": reward}, ["receipt", "reward"]),
            exact_object(named, list(named)),
        ]
    }
    many = list_of(item, minItems=1, maxItems=10_000)
    return {JSON: _content({"anyOf": [item, many]}, _examples(models, _example_feedback))}


BODIES: dict[str, Callable[[Models], JsonSchema]] = {
    "predict": predict_content,
    "infer": infer_content,
    "instances": instances_content,
    "invocations": invocations_content,
    "feedback": feedback_content,
}
