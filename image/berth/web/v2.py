"""/v2: the Open Inference Protocol, with Triton's binary tensors and its index of the models."""

from __future__ import annotations

from typing import Any

from berth import __version__
from berth.errors import InvalidInput, Stuck, UnsupportedMediaType, shown
from berth.models.model import Model
from berth.serving.lifecycle import LOADING, READY
from berth.tensors.arrays import TensorSpec
from berth.tensors.binding import bind_tensors
from berth.tensors.codec import decode_json, encode_json
from berth.web import wire
from berth.web.access import check_ready, choose_named, list_models, visible_entries
from berth.web.drift_report import describe_unusual
from berth.web.exchange import BINARY, BODY_ERRORS, JSON, LENGTH_HEADER, Backend, Endpoint, Exchange, Reply
from berth.web.infer import decode_body, encode_answer, wanted_outputs

# Only what is there in full: of Triton's `model_repository` there is the index, without load and unload, and its
# `statistics` are in /metrics.
_EXTENSIONS = ["binary_tensor_data"]
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


def _read_ready_only(exchange: Exchange, max_body_bytes: int) -> bool:
    """What an index request wants; its body may be empty. Raises InvalidInput."""
    body = wire.read_body(exchange, max_body_bytes)
    document = decode_json(body) if body else {}
    if not isinstance(document, dict) or not isinstance(document.get("ready", False), bool):
        raise InvalidInput(f'send nothing or {{"ready": true}}, got {shown(document)}')
    return document.get("ready", False) is True


def _index(exchange: Exchange, backend: Backend) -> Reply:
    """Every version with its state, as Triton's repository index lists them."""
    ready_only, index = _read_ready_only(exchange, backend.max_body_bytes), []
    for entry in visible_entries(exchange, backend):
        state = backend.lifecycle.states[entry.key]
        word = _STATES.get(state.state, "UNAVAILABLE")
        if word == "READY" or not ready_only:
            index.append({"name": entry.name, "version": entry.version, "state": word, "reason": state.reason})
    return wire.json_reply(index)


def _check_type(exchange: Exchange, header_length: str | None) -> None:
    if wire.check_media_type(exchange.environ, JSON, BINARY) == BINARY and header_length is None:
        raise UnsupportedMediaType(f"Content-Type {BINARY} needs the header {LENGTH_HEADER}")


def _reply(document: dict[str, Any], tail: bytes | None, values: int) -> Reply:
    if tail is None:
        return wire.json_reply(document, values)
    head = encode_json(document)
    return Reply(head + tail, content_type=BINARY, headers={LENGTH_HEADER: str(len(head))})


def _live(exchange: Exchange, backend: Backend) -> Reply:
    if backend.lifecycle.stuck_workers():
        raise Stuck("a prediction does not end; restart the server")
    return wire.json_reply({"live": True})


def _ready(exchange: Exchange, backend: Backend) -> Reply:
    check_ready(exchange, backend)
    return wire.json_reply({"ready": True})


def _server(exchange: Exchange, backend: Backend) -> Reply:
    return wire.json_reply({"name": "berth", "version": __version__, "extensions": _EXTENSIONS})


def _model(exchange: Exchange, backend: Backend) -> Reply:
    model = choose_named(exchange, backend)
    name = exchange.args["name"]
    return wire.json_reply(describe_model(model, backend.catalog.versions(name)) | {"name": name})


def _model_ready(exchange: Exchange, backend: Backend) -> Reply:
    choose_named(exchange, backend)
    return wire.json_reply({"name": exchange.args["name"], "ready": True})


def _infer(exchange: Exchange, backend: Backend) -> Reply:
    model = choose_named(exchange, backend)
    header_length = exchange.environ.get("HTTP_INFERENCE_HEADER_CONTENT_LENGTH")
    _check_type(exchange, header_length)
    asked = decode_body(wire.read_body(exchange, backend.max_body_bytes), header_length, model.inputs)
    tensors, wanted = bind_tensors(asked.inputs, model.inputs, asked.frame), wanted_outputs(asked.outputs, model)
    outputs = backend.predict(exchange, model, tensors, tuple(wanted.values()))
    model = exchange.model or model  # an experiment has chosen one of its arms
    document, tail = encode_answer(asked, model, outputs, wanted)
    if asked.unusual:
        rows = len(next(iter(tensors.values())))
        document["parameters"] = {"unusual": describe_unusual(backend, model, tensors, rows)}
    return _reply(document, tail, sum([array.size for array in outputs.values()]))


_ONE, _VERSION = "/v2/models/{model}", "/v2/models/{model}/versions/{version}"
ENDPOINTS = (
    Endpoint("get", "/v2", "v2_server", "v2", "The server's name, version and extensions", _server, "ServerMetadata"),
    Endpoint("get", "/v2/health/live", "v2_live", "v2", "Liveness", _live, errors=(503,), access="open", probe=True),
    Endpoint("get", "/v2/health/ready", "v2_ready", "v2", "Readiness", _ready, errors=(503,), access="open",
             probe=True),
    Endpoint("get", "/v2/models", "v2_models", "v2", "The models' names", list_models),
    Endpoint("get", _ONE, "v2_model", "v2", "A model's inputs and outputs", _model, "ModelMetadata",
             errors=(404, 503)),
    Endpoint("get", _VERSION, "v2_model_version", "v2", "A version's inputs and outputs", _model, "ModelMetadata",
             errors=(404, 503)),
    Endpoint("get", f"{_ONE}/ready", "v2_model_ready", "v2", "Whether a model is ready", _model_ready,
             errors=(404, 503)),
    Endpoint("get", f"{_VERSION}/ready", "v2_version_ready", "v2", "Whether a version is ready", _model_ready,
             errors=(404, 503)),
    Endpoint("post", f"{_ONE}/infer", "v2_infer", "v2", "Predict tensors", _infer, "InferResponse",
             body="infer", errors=(404, *BODY_ERRORS), protocol="v2"),
    Endpoint("post", f"{_VERSION}/infer", "v2_version_infer", "v2", "Predict tensors by a version", _infer,
             "InferResponse", body="infer", errors=(404, *BODY_ERRORS), protocol="v2"),
    Endpoint("post", "/v2/repository/index", "v2_index", "v2", "Every version and its state", _index, "Index",
             body="index", errors=(400, 408, 413, 415)),
)  # fmt: skip
