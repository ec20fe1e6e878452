"""POST /predict: the short format, with names, rows, records and several outputs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, TypeAlias

from berth.errors import InvalidInput, UnsupportedMediaType, shown
from berth.models.model import Model
from berth.tensors.arrays import Array, Tensors
from berth.tensors.schema import choose_outputs, decode_features, decode_tensors
from berth.web import v1, wire
from berth.web.access import choose_model
from berth.web.cloudevents import MARK, answer_binary
from berth.web.drift_report import describe_unusual
from berth.web.exchange import BODY_ERRORS, Backend, Endpoint, Exchange, Reply
from berth.web.other_bodies import answer_other

# What calls a model: the model, its tensors and the wanted outputs -> the outputs.
Predict: TypeAlias = Callable[[Model, Tensors, Sequence[str]], dict[str, Array]]
# (model, tensors, rows) -> what is unusual about each row.
Unusual: TypeAlias = Callable[[Model, Tensors, int], list[list[dict[str, Any]]]]
_PREDICTION = ("prediction",)
_KEYS = frozenset({"features", "inputs", "model", "version", "outputs", "parameters"})


def optional_word(document: dict[str, Any], key: str) -> str | None:
    """A name in the body; a whole number counts as a version. Raises InvalidInput."""
    value = document.get(key)
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    raise InvalidInput(f"{key} must be a string, got {shown(value)}")


def _check_keys(document: dict[str, Any]) -> None:
    if not document.keys() <= _KEYS:
        unknown = sorted(set(document) - _KEYS)
        raise InvalidInput(f"unknown key {unknown[0][:60]!r}; this route accepts {', '.join(sorted(_KEYS))}")
    if ("features" in document) == ("inputs" in document):
        raise InvalidInput("send either features or inputs")
    if "parameters" in document and not isinstance(document["parameters"], dict):
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
    if "features" in document:
        for spec in model.outputs:
            if spec.name == "prediction" and not spec.optional:
                return _PREDICTION
    return tuple(spec.name for spec in model.outputs if not spec.optional)


def wants_unusual(parameters: Mapping[str, Any] | None) -> bool:
    """Whether a request wants to know what is unusual about its rows. Raises InvalidInput."""
    wanted = (parameters or {}).get("unusual", False)
    if not isinstance(wanted, bool):
        raise InvalidInput(f"parameters.unusual must be true or false, got {shown(wanted)}")
    return wanted


def answer_request(
    document: dict[str, Any], model: Model, predict: Predict, unusual: Unusual | None = None
) -> dict[str, Any]:
    """The response to a /predict body; the command line gives the same one. Raises RequestError, ServerError."""
    _check_keys(document)
    tensors = _decode(document, model)
    answer = predict(model, tensors, _wanted(document, model))
    named: dict[str, Any] = dict(answer) if "features" in document else {"outputs": answer}
    if unusual is not None and "parameters" in document and wants_unusual(document["parameters"]):
        named["unusual"] = unusual(model, tensors, len(next(iter(tensors.values()))))
    return {**named, "model": model.name, "version": model.version}


def _unusual(
    exchange: Exchange, backend: Backend, model: Model, tensors: Tensors, rows: int
) -> list[list[dict[str, Any]]]:
    return describe_unusual(backend, exchange.model or model, tensors, rows)


def _answer_document(exchange: Exchange, backend: Backend, document: dict[str, Any]) -> Reply:
    name, version = optional_word(document, "model"), optional_word(document, "version")
    model = choose_model(exchange, backend, name, version)
    if "instances" in document:  # Vertex AI calls any path with V1's bodies
        return v1.answer_instances(exchange, backend, model, document)
    answer = answer_request(document, model, partial(backend.predict, exchange), partial(_unusual, exchange, backend))
    if exchange.model is not None and exchange.model is not model:  # an arm that its decoded unit chose
        answer |= {"model": exchange.model.name, "version": exchange.model.version}
    return wire.json_reply(answer)


def _answer(exchange: Exchange, backend: Backend) -> Reply:
    if MARK in exchange.environ:
        return answer_binary(exchange, backend, _answer_document)
    try:
        document = wire.read_json_object(exchange, backend.max_body_bytes)
    except UnsupportedMediaType as error:
        return answer_other(exchange, backend, error, _answer_document)
    return _answer_document(exchange, backend, document)


ENDPOINTS = (
    Endpoint("post", "/predict", "predict", "predict", "Predict a row, rows, records or named tensors", _answer,
             "Prediction", body="predict", errors=(404, *BODY_ERRORS), protocol="predict"),
)  # fmt: skip
