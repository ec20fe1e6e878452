"""/v2: the Open Inference Protocol, with Triton's binary tensors and its index of the models."""

from __future__ import annotations

from typing import Any

from flask import Blueprint, Response

from berth import __version__
from berth.errors import InvalidInput, NotReady, Stuck, UnsupportedMediaType, shown
from berth.models.model import Model
from berth.serving.catalog import Catalog
from berth.serving.lifecycle import LOADING, READY, Lifecycle
from berth.serving.predictor import Predictor
from berth.tensors.arrays import TensorSpec
from berth.tensors.schema import bind_tensors
from berth.web import wire
from berth.web.exchange import choose_model, current, predicts
from berth.web.infer import decode_body, encode_answer, wanted_outputs

_LENGTH_HEADER = "Inference-Header-Content-Length"
_BINARY = "application/octet-stream"
_EXTENSIONS = ["binary_tensor_data", "model_repository"]
_PLATFORMS = {
    "joblib": "sklearn_joblib",
    "pickle": "sklearn_pickle",
    "skops": "sklearn_skops",
    "onnx": "onnx_onnxv1",
    "torchscript": "pytorch_torchscript",
    "torch-export": "pytorch_export",
    "safetensors": "pytorch_safetensors",
    "xgboost": "xgboost_native",
    "lightgbm": "lightgbm_native",
}
# Triton's words for the states in its index.
_STATES = {READY: "READY", LOADING: "LOADING"}


def _describe_tensor(spec: TensorSpec) -> dict[str, Any]:
    known = {"columns": spec.columns, "labels": spec.labels}
    more = {name: list(value) for name, value in known.items() if value is not None}
    tensor = {"name": spec.name, "datatype": spec.datatype, "shape": list(spec.shape)}
    return {**tensor, "parameters": more} if more else tensor


def describe_model(model: Model, versions: list[str]) -> dict[str, Any]:
    """A model's metadata, as the protocol words it."""
    return {
        "name": model.name,
        "versions": versions,
        "platform": _PLATFORMS.get(model.format, model.format),
        "inputs": [_describe_tensor(spec) for spec in model.inputs],
        "outputs": [_describe_tensor(spec) for spec in model.outputs],
    }


def describe_index(catalog: Catalog, lifecycle: Lifecycle, ready_only: bool) -> list[dict[str, str]]:
    """Every version with its state, as Triton's repository index lists them."""
    index = []
    for entry in catalog.entries:
        state = lifecycle.states[entry.key]
        word = _STATES.get(state.state, "UNAVAILABLE")
        if word == "READY" or not ready_only:
            index.append({"name": entry.name, "version": entry.version, "state": word, "reason": state.reason})
    return index


def _read_ready_only(max_body_bytes: int) -> bool:
    """What an index request wants; its body may be empty. Raises InvalidInput."""
    body = wire.read_body(max_body_bytes)
    document = wire.decode_json(body) if body else {}
    if not isinstance(document, dict) or not isinstance(document.get("ready", False), bool):
        raise InvalidInput(f'send nothing or {{"ready": true}}, got {shown(document)}')
    return document.get("ready", False) is True


def _check_type(header_length: str | None) -> None:
    if wire.check_media_type(wire.JSON, _BINARY) == _BINARY and header_length is None:
        raise UnsupportedMediaType(f"Content-Type {_BINARY} needs the header {_LENGTH_HEADER}")


def _reply(document: dict[str, Any], tail: bytes | None) -> wire.Reply:
    if tail is None:
        return wire.json_reply(document)
    head = wire.encode_json(document)
    return wire.Reply(head + tail, content_type=_BINARY, headers={_LENGTH_HEADER: str(len(head))})


def _add_health(routes: Blueprint, lifecycle: Lifecycle) -> None:
    @routes.get("/v2/health/live")
    def live() -> Response:
        if lifecycle.stuck_workers():
            raise Stuck("a prediction does not end; restart the server")
        return wire.json_response({"live": True})

    @routes.get("/v2/health/ready")
    def ready() -> Response:
        readiness = lifecycle.readiness()
        if not readiness.ready:
            raise NotReady(readiness.reason)
        return wire.json_response({"ready": True})


def _add_models(routes: Blueprint, catalog: Catalog, lifecycle: Lifecycle, max_body_bytes: int) -> None:
    @routes.get("/v2")
    def server() -> Response:
        return wire.json_response({"name": "berth", "version": __version__, "extensions": _EXTENSIONS})

    @routes.get("/v2/models")
    def models() -> Response:
        return wire.json_response({"models": list(dict.fromkeys(entry.name for entry in catalog.entries))})

    @routes.post("/v2/repository/index")
    def index() -> Response:
        return wire.json_response(describe_index(catalog, lifecycle, _read_ready_only(max_body_bytes)))

    @routes.get("/v2/models/<name>")
    @routes.get("/v2/models/<name>/versions/<version>")
    def model(name: str, version: str | None = None) -> Response:
        found = choose_model(catalog.resolve(name, version))
        return wire.json_response(describe_model(found, catalog.versions(name)))

    @routes.get("/v2/models/<name>/ready")
    @routes.get("/v2/models/<name>/versions/<version>/ready")
    def model_ready(name: str, version: str | None = None) -> Response:
        found = choose_model(catalog.resolve(name, version))
        return wire.json_response({"name": found.name, "ready": True})


def answer(
    catalog: Catalog, predictor: Predictor, max_body_bytes: int, name: str, version: str | None = None
) -> wire.Reply:
    """What the infer route does; the express path does the same."""
    model = choose_model(catalog.resolve(name, version))
    header_length = current().environ.get("HTTP_INFERENCE_HEADER_CONTENT_LENGTH")
    _check_type(header_length)
    asked = decode_body(wire.read_body(max_body_bytes), header_length, model.inputs)
    tensors, wanted = bind_tensors(asked.inputs, model.inputs), wanted_outputs(asked, model)
    outputs = predictor.predict(model, tensors, wanted, current().deadline)
    return _reply(*encode_answer(asked, model, {name: outputs[name] for name in wanted}))


def v2_blueprint(catalog: Catalog, predictor: Predictor, lifecycle: Lifecycle, max_body_bytes: int) -> Blueprint:
    """The routes under /v2, over the models of `catalog`."""
    routes = Blueprint("v2", __name__)
    _add_health(routes, lifecycle)
    _add_models(routes, catalog, lifecycle, max_body_bytes)

    @routes.post("/v2/models/<name>/infer")
    @routes.post("/v2/models/<name>/versions/<version>/infer")
    @predicts("v2")
    def infer(name: str, version: str | None = None) -> Response:
        return wire.respond(answer(catalog, predictor, max_body_bytes, name, version))

    return routes
