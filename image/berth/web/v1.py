"""/v1: KServe's and TensorFlow Serving's format, `instances` in and `predictions` out."""

from __future__ import annotations

from typing import Any

from berth.errors import ServerError
from berth.models.model import Model
from berth.serving.catalog import Catalog
from berth.serving.lifecycle import LOADING, READY, Lifecycle
from berth.tensors.arrays import Array
from berth.tensors.instances import decode_inputs, decode_instances
from berth.tensors.output_names import name_outputs
from berth.tensors.schema import Specs, usual_outputs
from berth.web import wire
from berth.web.access import choose_named, find_entry, list_models
from berth.web.exchange import BODY_ERRORS, Backend, Endpoint, Exchange, Reply
from berth.web.row_requests import by_output, by_row, check_keys

_FORMS = {"instances": decode_instances, "inputs": decode_inputs}
# What a body may have besides; `parameters` and `signature_name`, which clients of either server send, have no effect.
_MORE = ("outputs", "parameters", "signature_name")
# TensorFlow Serving's words; a version that could not be loaded has come to its end.
_STATES = {READY: "AVAILABLE", LOADING: "LOADING"}


def describe_status(catalog: Catalog, lifecycle: Lifecycle, name: str, version: str | None) -> list[dict[str, Any]]:
    """The versions' states, as TensorFlow Serving reports them."""
    status = []
    for entry in catalog.entries:
        if entry.name == name and version in (None, entry.version):
            state = _STATES.get(lifecycle.states[entry.key].state, "END")
            told = {"error_code": "UNKNOWN", "error_message": "could not be loaded; /health says why"}
            good = {"error_code": "OK", "error_message": ""}
            status.append({"version": entry.version, "state": state, "status": told if state == "END" else good})
    return status


def _model(exchange: Exchange, backend: Backend) -> Reply:
    name, version = exchange.args["name"], exchange.args.get("version")
    entry = find_entry(exchange, backend, name, version)
    shown = name if backend.catalog.versions(name) else entry.name  # the public name of an experiment has no versions
    status = describe_status(backend.catalog, backend.lifecycle, shown, version)
    try:
        choose_named(exchange, backend)
    except ServerError as error:
        exchange.error = error
        told = {"name": name, "ready": False, "model_version_status": status}
        return wire.error_reply(error, exchange.request_id, **told)
    return wire.json_reply({"name": name, "ready": True, "model_version_status": status})


def decode_rows(document: dict[str, Any], specs: Specs) -> dict[str, Array]:
    """A body as the model's tensors. Raises InvalidInput."""
    form = check_keys(document, tuple(_FORMS), _MORE)
    return _FORMS[form](document[form], specs)


def _predict(exchange: Exchange, backend: Backend) -> Reply:
    model = choose_named(exchange, backend)
    return answer_instances(exchange, backend, model, wire.read_json_object(exchange, backend.max_body_bytes))


def answer_instances(exchange: Exchange, backend: Backend, model: Model, document: dict[str, Any]) -> Reply:
    """The response to a V1 body. Raises RequestError, ServerError."""
    tensors = decode_rows(document, model.inputs)
    if (named := document.get("outputs")) is None:
        wanted = usual_outputs(model.outputs)
    else:
        wanted = tuple(name_outputs(named, model.outputs).values())
    outputs = backend.predict(exchange, model, tensors, wanted)
    reply = {"predictions": by_row(outputs, wanted)}
    # TensorFlow Serving's clients read `outputs` where they sent `inputs`, KServe's read `predictions` all the same.
    return wire.json_reply(reply | {"outputs": by_output(outputs, wanted)} if "inputs" in document else reply)


_MODEL, _VERSION = "/v1/models/{model}", "/v1/models/{model}/versions/{version}"
ENDPOINTS = (
    Endpoint("get", "/v1/models", "v1_models", "v1", "The models' names", list_models),
    Endpoint("get", _MODEL, "v1_model", "v1", "A model's state", _model, "V1Status", errors=(404, 503)),
    Endpoint("get", _VERSION, "v1_model_version", "v1", "A version's state", _model, "V1Status", errors=(404, 503)),
    Endpoint("post", f"{_MODEL}:predict", "v1_predict", "v1", "Predict instances or columns", _predict,
             "Predictions", body="instances", errors=(404, *BODY_ERRORS), protocol="v1"),
    Endpoint("post", f"{_VERSION}:predict", "v1_version_predict", "v1", "Predict by a version", _predict,
             "Predictions", body="instances", errors=(404, *BODY_ERRORS), protocol="v1"),
)  # fmt: skip
