"""GET /openapi.json: OpenAPI 3.1 made from the loaded models, so that every request in it works here."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from berth.models.model import Model
from berth.tensors.codec import encode_json
from berth.web.access import stand_ins, visible_models
from berth.web.exchange import BINARY, HTML, JSON, LENGTH_HEADER, ApiFacts, Backend, Endpoint, Exchange, Reply
from berth.web.ndjson import NDJSON
from berth.web.openapi.bodies import BODIES
from berth.web.openapi.model_schemas import model_components
from berth.web.openapi.responses import ANSWERS, STATUSES

_TAGS = {
    "predict": ("Predict", "The short format: features in, prediction out."),
    "v2": ("Open Inference V2", "The protocol of KServe, Triton and MLServer."),
    "v1": ("KServe V1", "The protocol of KServe V1 and TensorFlow Serving."),
    "mlflow": ("MLflow", "MLflow's scoring protocol."),
    "operate": ("Operate", "Probes, state, metrics and this document."),
}
_SECURITY = {
    "bearer": {"type": "http", "scheme": "bearer", "description": "Authorization: Bearer KEY"},
    "key": {"type": "apiKey", "in": "header", "name": "X-Api-Key"},
}


_HEADERS = {"X-Request-Id": {"$ref": "#/components/headers/RequestId"}}


def _path_parameter(name: str, values: Sequence[str]) -> dict[str, Any]:
    known = {"enum": list(dict.fromkeys(values))} if values else {"minLength": 1}
    return {"name": name, "in": "path", "required": True, "schema": {"type": "string", **known}}


def _parameters(endpoint: Endpoint, models: Sequence[Model]) -> list[dict[str, Any]]:
    parameters = []
    if "{model}" in endpoint.path:
        parameters.append(_path_parameter("model", [model.name for model in models]))
    if "{version}" in endpoint.path:
        parameters.append(_path_parameter("version", [model.version for model in models]))
    if "{name}" in endpoint.path:
        parameters.append(_path_parameter("name", []))
    if endpoint.protocol:
        parameters.append({"$ref": "#/components/parameters/Timeout"})
    if endpoint.body == "infer":
        parameters.append({"$ref": "#/components/parameters/HeaderLength"})
    return parameters


def _success(endpoint: Endpoint) -> dict[str, Any]:
    content: dict[str, dict[str, Any]] = {
        endpoint.media: {"schema": {"$ref": f"#/components/schemas/{endpoint.response}"}}
    }
    if endpoint.page is not None:
        content[HTML] = {"schema": {"type": "string"}}
    if endpoint.body == "predict":
        content[NDJSON] = {"schema": {"type": "string"}}
    if endpoint.body == "infer":
        content[BINARY] = {"schema": {"type": "string", "format": "binary"}}
    answer: dict[str, Any] = {"description": endpoint.summary, "headers": _HEADERS, "content": content}
    return answer


def _responses(endpoint: Endpoint, keyed: bool) -> dict[str, Any]:
    statuses = set(endpoint.errors) - {207} | ({401} if keyed else set())
    if keyed and (endpoint.protocol or "{model}" in endpoint.path):
        statuses.add(403)
    errors: dict[str, Any] = {str(status): {"$ref": f"#/components/responses/{status}"} for status in sorted(statuses)}
    if endpoint.response in ("Health", "V1Status"):  # not ready comes with the states as well
        both = [{"$ref": "#/components/schemas/Error"}, {"$ref": f"#/components/schemas/{endpoint.response}"}]
        errors["503"] = {"description": STATUSES[503], "content": {JSON: {"schema": {"allOf": both}}}}
    some = {"207": _success(endpoint)} if 207 in endpoint.errors else {}  # some of a list, and why not the others
    return {"200": _success(endpoint), **some, **errors}


def _request_body(endpoint: Endpoint, models: Sequence[Model]) -> dict[str, Any]:
    if endpoint.body == "index":
        return {"content": {JSON: {"schema": {"type": "object", "properties": {"ready": {"type": "boolean"}}}}}}
    return {"required": True, "content": BODIES[endpoint.body](models)}


def _operation(endpoint: Endpoint, models: Sequence[Model], facts: ApiFacts) -> dict[str, Any]:
    keyed = facts.needs_key(endpoint)
    operation: dict[str, Any] = {"operationId": endpoint.id, "tags": [endpoint.tag], "summary": endpoint.summary}
    if parameters := _parameters(endpoint, models):
        operation["parameters"] = parameters
    if endpoint.body:
        operation["requestBody"] = _request_body(endpoint, models)
    operation["responses"] = _responses(endpoint, keyed)
    if facts.secured:
        operation["security"] = [{name: []} for name in _SECURITY] if keyed else []
    return operation


def _error_response(description: str) -> dict[str, Any]:
    content = {JSON: {"schema": {"$ref": "#/components/schemas/Error"}}}
    return {"description": description, "headers": _HEADERS, "content": content}


def _header(name: str, schema: dict[str, Any], description: str) -> dict[str, Any]:
    return {"name": name, "in": "header", "schema": schema, "description": description}


def _components(models: Sequence[Model], facts: ApiFacts) -> dict[str, Any]:
    schemas = dict(ANSWERS)
    for model in models:
        schemas |= model_components(model)
    whole = {"type": "integer", "minimum": 1, "maximum": 999_999_999}
    return {
        "schemas": schemas,
        "responses": {str(status): _error_response(text) for status, text in STATUSES.items()},
        "headers": {"RequestId": {"schema": {"type": "string"}, "description": "The client's id if it is sane."}},
        "parameters": {
            "Timeout": _header("X-Request-Timeout-Ms", whole, "Give up after so many milliseconds, with 504."),
            "HeaderLength": _header(
                LENGTH_HEADER,
                {"type": "integer", "minimum": 0},
                "How many bytes of the body are JSON, when binary tensors follow it.",
            ),
        },
        **({"securitySchemes": _SECURITY} if facts.secured else {}),
    }


def openapi_document(models: Sequence[Model], facts: ApiFacts, endpoints: Sequence[Endpoint]) -> dict[str, Any]:
    """The document for these models, of which the first is the default."""
    paths: dict[str, dict[str, Any]] = {}
    for endpoint in endpoints:
        paths.setdefault(endpoint.path, {})[endpoint.method] = _operation(endpoint, models, facts)
    served = ", ".join(f"{model.name}@{model.version}" for model in models) or "no model that is ready"
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Berth",
            "version": facts.version,
            "description": f"This server has {served}. Every error, on every route, has one shape, Error; "
            "a method that a path does not list gets 405 in it.",
        },
        "tags": [{"name": name, "description": text, "x-displayName": title} for name, (title, text) in _TAGS.items()],
        "paths": paths,
        "components": _components(models, facts),
    }


# The last documents made, by the models in them: callers with different keys see different models.
_MOST_KEPT = 16
_made: dict[tuple[object, ...], tuple[Sequence[Model], bytes]] = {}
_lock = threading.Lock()


def _answer(exchange: Exchange, backend: Backend) -> Reply:
    """The document; it is made again when another model has become ready."""
    models = visible_models(exchange, backend)
    public = stand_ins(exchange, backend)
    key = (
        backend.api,
        *map(id, models),
        *((name, id(model)) for name, model in public.items()),
    )  # the models are kept beside it, so that no other has the same id
    with _lock:
        if key not in _made:
            if len(_made) >= _MOST_KEPT:
                _made.clear()
            everything = [*models, *(replace(model, name=name) for name, model in public.items())]
            _made[key] = everything, encode_json(openapi_document(everything, backend.api, backend.endpoints))
        return Reply(_made[key][1])


ENDPOINTS = (Endpoint("get", "/openapi.json", "openapi", "operate", "This document", _answer),)
