"""GET /openapi.json: OpenAPI 3.1 made from the loaded models, so that every request in it works here."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from flask import Blueprint, Response

from berth.models.model import Model
from berth.web import wire
from berth.web.openapi.bodies import BODIES
from berth.web.openapi.model_schemas import model_components
from berth.web.openapi.responses import ANSWERS, STATUSES
from berth.web.openapi.routes import HTML, JSON, ROUTES, Route

_TAGS = {
    "predict": ("Predict", "The short form: features in, prediction out."),
    "v2": ("Open Inference V2", "The protocol of KServe, Triton and MLServer."),
    "v1": ("KServe V1", "The protocol of KServe V1 and TensorFlow Serving."),
    "mlflow": ("MLflow", "MLflow's scoring protocol."),
    "operate": ("Operate", "Probes, state, metrics and this document."),
}
_SECURITY = {
    "bearer": {"type": "http", "scheme": "bearer", "description": "Authorization: Bearer KEY"},
    "key": {"type": "apiKey", "in": "header", "name": "X-Api-Key"},
}


@dataclass(frozen=True, slots=True)
class ApiFacts:
    """What the document tells beside the models. `secured`: keys are on; `protect_metrics`: for /metrics too."""

    version: str
    secured: bool = False
    protect_metrics: bool = False

    def needs_key(self, route: Route) -> bool:
        """Whether a caller of `route` must send a key."""
        return self.secured and route.keyed and (self.protect_metrics or route.path != "/metrics")


_HEADERS = {"X-Request-Id": {"$ref": "#/components/headers/RequestId"}}


def _path_parameter(name: str, values: Sequence[str]) -> dict[str, Any]:
    known = {"enum": list(dict.fromkeys(values))} if values else {"minLength": 1}
    return {"name": name, "in": "path", "required": True, "schema": {"type": "string", **known}}


def _parameters(route: Route, models: Sequence[Model]) -> list[dict[str, Any]]:
    parameters = []
    if "{model}" in route.path:
        parameters.append(_path_parameter("model", [model.name for model in models]))
    if "{version}" in route.path:
        parameters.append(_path_parameter("version", [model.version for model in models]))
    if "{name}" in route.path:
        parameters.append(_path_parameter("name", []))
    if route.predicts:
        parameters.append({"$ref": "#/components/parameters/Timeout"})
    if route.body == "infer":
        parameters.append({"$ref": "#/components/parameters/HeaderLength"})
    return parameters


def _answer(route: Route) -> dict[str, Any]:
    content: dict[str, dict[str, Any]] = {route.media: {"schema": {"$ref": f"#/components/schemas/{route.answer}"}}}
    if route.path == "/":
        content[HTML] = {"schema": {"type": "string"}}
    if route.body == "infer":
        content["application/octet-stream"] = {}
    answer: dict[str, Any] = {"description": route.summary, "headers": _HEADERS, "content": content}
    return answer


def _responses(route: Route, keyed: bool) -> dict[str, Any]:
    statuses = set(route.errors) | ({401} if keyed else set())
    if keyed and (route.predicts or "{model}" in route.path):
        statuses.add(403)
    errors: dict[str, Any] = {str(status): {"$ref": f"#/components/responses/{status}"} for status in sorted(statuses)}
    if route.answer in ("Health", "V1Status"):  # not ready is told with the states as well
        both = [{"$ref": "#/components/schemas/Error"}, {"$ref": f"#/components/schemas/{route.answer}"}]
        errors["503"] = {"description": STATUSES[503], "content": {JSON: {"schema": {"allOf": both}}}}
    return {"200": _answer(route), **errors}


def _request_body(route: Route, models: Sequence[Model]) -> dict[str, Any]:
    if route.body == "index":
        return {"content": {JSON: {"schema": {"type": "object", "properties": {"ready": {"type": "boolean"}}}}}}
    return {"required": True, "content": BODIES[route.body](models)}


def _operation(route: Route, models: Sequence[Model], facts: ApiFacts) -> dict[str, Any]:
    keyed = facts.needs_key(route)
    operation: dict[str, Any] = {"operationId": route.id, "tags": [route.tag], "summary": route.summary}
    if parameters := _parameters(route, models):
        operation["parameters"] = parameters
    if route.body:
        operation["requestBody"] = _request_body(route, models)
    operation["responses"] = _responses(route, keyed)
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
                "Inference-Header-Content-Length",
                {"type": "integer", "minimum": 0},
                "How many bytes of the body are JSON, when binary tensors follow it.",
            ),
        },
        **({"securitySchemes": _SECURITY} if facts.secured else {}),
    }


def openapi_document(models: Sequence[Model], facts: ApiFacts) -> dict[str, Any]:
    """The document for these models, of which the first is the default."""
    paths: dict[str, dict[str, Any]] = {}
    for route in ROUTES:
        paths.setdefault(route.path, {})[route.method] = _operation(route, models, facts)
    served = ", ".join(f"{model.name}@{model.version}" for model in models) or "no model that is ready"
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Berth",
            "version": facts.version,
            "description": f"This server has {served}. Every error, on every route, has one shape, Error; "
            "a method that a path does not list is answered 405 in it.",
        },
        "tags": [{"name": name, "description": text, "x-displayName": title} for name, (title, text) in _TAGS.items()],
        "paths": paths,
        "components": _components(models, facts),
    }


def openapi_blueprint(ready_models: Callable[[], list[Model]], facts: ApiFacts) -> Blueprint:
    """The route; the document is made again when another model has become ready."""
    routes = Blueprint("openapi", __name__)
    lock = threading.Lock()
    made: dict[tuple[str, ...], bytes] = {}

    @routes.get("/openapi.json")
    def openapi() -> Response:
        models = ready_models()
        key = tuple(f"{model.name}@{model.version}" for model in models)
        with lock:
            if key not in made:
                made.clear()
                made[key] = wire.encode_json(openapi_document(models, facts))
            return Response(made[key], content_type=wire.JSON)

    return routes
