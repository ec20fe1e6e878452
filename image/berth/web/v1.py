"""/v1: KServe's and TensorFlow Serving's form, `instances` in and `predictions` out."""

from __future__ import annotations

from typing import Any

from flask import Blueprint, Response

from berth.errors import ServerError
from berth.serving.catalog import Catalog
from berth.serving.lifecycle import LOADING, READY, Lifecycle
from berth.serving.predictor import Predictor
from berth.web import wire
from berth.web.exchange import choose_model, current, predicts
from berth.web.row_requests import check_keys, decode_inputs, decode_instances, predict_rows

_FORMS = {"instances": decode_instances, "inputs": decode_inputs}
# What clients of either server send besides, without effect here.
_MORE = ("parameters", "signature_name")
# TensorFlow Serving's words; a version that could not be loaded has come to its end.
_STATES = {READY: "AVAILABLE", LOADING: "LOADING"}


def describe_status(catalog: Catalog, lifecycle: Lifecycle, name: str, version: str | None) -> list[dict[str, Any]]:
    """The versions' states, as TensorFlow Serving tells them."""
    status = []
    for entry in catalog.entries:
        if entry.name == name and version in (None, entry.version):
            state = _STATES.get(lifecycle.states[entry.key].state, "END")
            told = {"error_code": "UNKNOWN", "error_message": "could not be loaded; /health tells why"}
            good = {"error_code": "OK", "error_message": ""}
            status.append({"version": entry.version, "state": state, "status": told if state == "END" else good})
    return status


def v1_blueprint(catalog: Catalog, predictor: Predictor, lifecycle: Lifecycle, max_body_bytes: int) -> Blueprint:
    """The routes under /v1, over the models of `catalog`."""
    routes = Blueprint("v1", __name__)

    @routes.get("/v1/models")
    def models() -> Response:
        return wire.json_response({"models": list(dict.fromkeys(entry.name for entry in catalog.entries))})

    @routes.get("/v1/models/<name>")
    @routes.get("/v1/models/<name>/versions/<version>")
    def model(name: str, version: str | None = None) -> Response:
        entry = catalog.find(name, version)
        status = describe_status(catalog, lifecycle, name, version)
        try:
            choose_model(catalog.resolve(name, version))
        except ServerError as error:
            current().error = error
            return wire.error_response(error, name=entry.name, ready=False, model_version_status=status)
        return wire.json_response({"name": entry.name, "ready": True, "model_version_status": status})

    @routes.post("/v1/models/<name>:predict")
    @routes.post("/v1/models/<name>/versions/<version>:predict")
    @predicts("v1")
    def predict(name: str, version: str | None = None) -> Response:
        found = choose_model(catalog.resolve(name, version))
        document = wire.read_json_object(max_body_bytes)
        form = check_keys(document, tuple(_FORMS), _MORE)
        return wire.json_response(predict_rows(found, _FORMS[form](document[form], found), predictor))

    return routes
