"""POST /predict: the article's form, with names, rows, records and several outputs."""

from __future__ import annotations

from typing import Any

from flask import Blueprint, Response

from berth.errors import InvalidInput, shown
from berth.models.model import Model
from berth.serving.catalog import Catalog
from berth.serving.predictor import Predictor
from berth.tensors.arrays import Array
from berth.tensors.schema import choose_outputs, decode_features, decode_tensors
from berth.web import wire
from berth.web.exchange import choose_model, current, predicts

_KEYS = frozenset({"features", "inputs", "model", "version", "outputs", "parameters"})


def optional_word(document: dict[str, Any], key: str) -> str | None:
    """A name in the body; a whole number is taken for a version. Raises InvalidInput."""
    value = document.get(key)
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    raise InvalidInput(f"{key} must be a string, got {shown(value)}")


def _check_keys(document: dict[str, Any]) -> None:
    if unknown := sorted(set(document) - _KEYS):
        raise InvalidInput(f"unknown key {unknown[0][:60]!r}; this route reads {', '.join(sorted(_KEYS))}")
    if ("features" in document) == ("inputs" in document):
        raise InvalidInput("send either features or inputs")
    if not isinstance(document.get("parameters", {}), dict):
        raise InvalidInput("parameters must be an object")


def _decode(document: dict[str, Any], model: Model) -> dict[str, Array]:
    if "features" in document:
        return decode_features(document["features"], model.inputs)
    if not isinstance(document["inputs"], dict):
        raise InvalidInput("inputs must be an object of arrays by name")
    return decode_tensors(document["inputs"], model.inputs)


def _wanted(document: dict[str, Any], model: Model) -> tuple[str, ...]:
    if "outputs" in document:
        return choose_outputs(document["outputs"], model.outputs)
    names = tuple(spec.name for spec in model.outputs if not spec.optional)
    return ("prediction",) if "features" in document and "prediction" in names else names


def answer_request(document: dict[str, Any], model: Model, predictor: Predictor, deadline: float) -> dict[str, Any]:
    """The answer to a /predict body; the command line gives the same one. Raises RequestError, ServerError."""
    _check_keys(document)
    tensors = _decode(document, model)
    answer = predictor.predict(model, tensors, _wanted(document, model), deadline)
    named: dict[str, Any] = answer if "features" in document else {"outputs": answer}
    return {**named, "model": model.name, "version": model.version}


def answer(catalog: Catalog, predictor: Predictor, max_body_bytes: int) -> wire.Reply:
    """What the route does; the express path does the same."""
    document = wire.read_json_object(max_body_bytes)
    model = choose_model(catalog.resolve(optional_word(document, "model"), optional_word(document, "version")))
    return wire.json_reply(answer_request(document, model, predictor, current().deadline))


def predict_blueprint(catalog: Catalog, predictor: Predictor, max_body_bytes: int) -> Blueprint:
    """The route, over the models of `catalog`."""
    routes = Blueprint("predict", __name__)

    @routes.post("/predict")
    @predicts("predict")
    def predict() -> Response:
        return wire.respond(answer(catalog, predictor, max_body_bytes))

    return routes
