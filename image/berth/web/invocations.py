"""/invocations: MLflow's scoring format, JSON or CSV, for the default model."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from berth import __version__
from berth.errors import InvalidInput, shown
from berth.models.model import Model
from berth.tensors.arrays import Array
from berth.tensors.codec import decode_json, decode_python_json
from berth.tensors.output_names import name_outputs
from berth.tensors.schema import Specs, usual_outputs
from berth.web import wire
from berth.web.access import choose_model, report_ready
from berth.web.exchange import BODY_ERRORS, CSV, JSON, TEXT, Backend, Endpoint, Exchange, Reply
from berth.web.row_requests import by_output, by_row, check_keys
from berth.web.table_forms import (
    decode_column_inputs,
    decode_csv,
    decode_dataframe_records,
    decode_row_instances,
    decode_split,
)

_FORMS: dict[str, Callable[[Any, Specs], dict[str, Array]]] = {
    "dataframe_split": decode_split,
    "dataframe_records": decode_dataframe_records,
    "instances": decode_row_instances,
    "inputs": decode_column_inputs,
}
# For a data frame MLflow's flavours with several outputs return a data frame, which is sent as records.
_FRAMES = ("dataframe_split", "dataframe_records")


def read_form(document: Any) -> str:
    """The form of a body in JSON. Raises InvalidInput."""
    if not isinstance(document, dict):
        raise InvalidInput(f"the body must be an object with one of {', '.join(_FORMS)}, got {shown(document)}")
    if not isinstance(document.get("params") or {}, dict):
        raise InvalidInput(f"params must be an object, got {shown(document['params'])}")
    return check_keys(document, tuple(_FORMS), ("params",))


def decode_document(document: Any, specs: Specs) -> dict[str, Array]:
    """A body in JSON. Raises InvalidInput."""
    form = read_form(document)
    return _FORMS[form](document[form], specs)


def wanted_by_params(params: Mapping[str, Any] | None, model: Model) -> tuple[str, ...]:
    """The outputs that `params` select: `outputs` is a list of names, `predict_fn` a method as MLmodel names it.

    Parameters that the model does not have are ignored, as MLflow ignores them. Raises UnknownOutput, InvalidInput.
    """
    params = params or {}
    method = params.get("predict_fn", params.get("predict_method"))
    if method is None and "outputs" not in params:
        return usual_outputs(model.outputs)
    return tuple(name_outputs(params.get("outputs", [method]), model.outputs).values())


def _version(exchange: Exchange, backend: Backend) -> Reply:
    return Reply(__version__.encode(), content_type="text/plain; charset=utf-8")


def _invocations(exchange: Exchange, backend: Backend) -> Reply:
    model = choose_model(exchange, backend, None)
    media_type = wire.check_media_type(exchange.environ, JSON, CSV)
    body = wire.read_body(exchange, backend.max_body_bytes)
    if media_type == CSV:
        header = wire.media_parameter(exchange.environ, "header")
        tensors, wanted = decode_csv(body, model.inputs, backend.max_rows, header), usual_outputs(model.outputs)
        form = _FRAMES[0]
    else:
        document = decode_python_json(body) if b"NaN" in body else decode_json(body)
        form = read_form(document)
        tensors = _FORMS[form](document[form], model.inputs)
        wanted = wanted_by_params(document.get("params"), model)
    outputs = backend.predict(exchange, model, tensors, wanted)
    arrange = by_row if form in _FRAMES else by_output
    return wire.json_reply({"predictions": arrange(outputs, wanted)})


ENDPOINTS = (
    Endpoint("post", "/invocations", "invocations", "mlflow", "MLflow scoring, JSON or CSV, by the default model",
             _invocations, "Predictions", body="invocations", errors=BODY_ERRORS, protocol="mlflow"),
    Endpoint("get", "/ping", "ping", "mlflow", "Readiness as MLflow queries it", report_ready, "Status", errors=(503,),
             access="open", probe=True),
    Endpoint("get", "/version", "version", "mlflow", "The server's version", _version, "Text", TEXT),
)  # fmt: skip
