"""/invocations: MLflow's scoring format, JSON or CSV, for the default model."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from berth import __version__
from berth.errors import InvalidInput, shown
from berth.models.model import Model
from berth.tensors.arrays import Array
from berth.tensors.codec import decode_json
from berth.tensors.instances import decode_inputs, decode_instances
from berth.tensors.schema import (
    Specs,
    column_names,
    decode_columns,
    decode_matrix,
    decode_records,
    is_frame,
    is_matrix,
    listed,
)
from berth.tensors.tables import parse_csv
from berth.web import wire
from berth.web.access import check_ready, choose_model
from berth.web.exchange import BODY_ERRORS, CSV, JSON, TEXT, Backend, Endpoint, Exchange, Reply
from berth.web.row_requests import check_keys, predict_rows


def _split_columns(split: dict[str, Any]) -> list[str] | None:
    """The columns' names; none where pandas only counted them."""
    columns = split.get("columns")
    if columns is None:
        return None
    if not isinstance(columns, list) or not all(type(name) in (str, int) for name in columns):
        raise InvalidInput(f"dataframe_split: columns must be a list of names, got {shown(columns)}")
    return None if columns and columns == list(range(len(columns))) else [str(name) for name in columns]


def decode_split(split: Any, specs: Specs) -> dict[str, Array]:
    """pandas' `to_dict(orient="split")`. Raises InvalidInput."""
    if not isinstance(split, dict) or not isinstance(split.get("data"), list | np.ndarray):
        raise InvalidInput('dataframe_split must be {"columns": […], "data": [[…], …]}, got ' + shown(split))
    if unknown := sorted(set(split) - {"index", "columns", "data"}):
        raise InvalidInput(f"dataframe_split: unknown key {unknown[0][:60]!r}; it has index, columns and data")
    columns, rows, index = _split_columns(split), split["data"], split.get("index")
    if columns is not None or not is_matrix(specs):
        rows = listed(rows)
    if not len(rows):
        raise InvalidInput("dataframe_split: data is empty; send at least one row")
    if index is not None and (not isinstance(index, list) or len(index) != len(rows)):
        raise InvalidInput(f"dataframe_split: index must be a list of {len(rows)}, one for each row of data")
    if columns is not None and (bad := [row for row in rows if not isinstance(row, list) or len(row) != len(columns)]):
        raise InvalidInput(f"dataframe_split: each row must be a list of {len(columns)} values, got {shown(bad[0])}")
    return decode_matrix(rows, specs, columns)


def decode_dataframe_records(records: Any, specs: Specs) -> dict[str, Array]:
    """pandas' `to_dict(orient="records")`. Raises InvalidInput."""
    if not isinstance(records, list) or not all(isinstance(record, dict) for record in records):
        raise InvalidInput(f"dataframe_records must be a list of objects, got {shown(records)}")
    if not records:
        raise InvalidInput("dataframe_records is empty; send at least one row")
    return decode_records(records, specs)


_FORMS: dict[str, Callable[[Any, Specs], dict[str, Array]]] = {
    "dataframe_split": decode_split,
    "dataframe_records": decode_dataframe_records,
    "instances": decode_instances,
    "inputs": decode_inputs,
}


def decode_csv(body: bytes, specs: Specs, max_rows: int) -> dict[str, Array]:
    """CSV with a header. Raises InvalidInput."""
    if not (is_frame(specs) or is_matrix(specs)):
        raise InvalidInput("the model expects tensors, not a table; send JSON with inputs")
    if (names := column_names(specs)) is None:
        return decode_matrix(parse_csv(body, {}, specs[0].datatype, max_rows).rows(), specs)
    datatypes = [spec.datatype for spec in specs] if is_frame(specs) else [specs[0].datatype] * len(names)
    table = parse_csv(body, dict(zip(names, datatypes, strict=True)), "BYTES", max_rows)
    if len(set(table.columns)) != len(table.columns):
        raise InvalidInput(f"the CSV's header names a column twice: {', '.join(table.columns)[:200]}")
    return decode_columns(dict(zip(table.columns, table.values, strict=True)), specs)


def decode_document(document: Any, specs: Specs) -> dict[str, Array]:
    """A body in JSON. Raises InvalidInput."""
    if not isinstance(document, dict):
        raise InvalidInput(f"the body must be an object with one of {', '.join(_FORMS)}, got {shown(document)}")
    form = check_keys(document, tuple(_FORMS), ("params",))
    if not isinstance(document.get("params") or {}, dict):
        raise InvalidInput(f"params must be an object, got {shown(document['params'])}")
    return _FORMS[form](document[form], specs)


def _decode(body: bytes, media_type: str, model: Model, max_rows: int) -> dict[str, Array]:
    if media_type == CSV:
        return decode_csv(body, model.inputs, max_rows)
    return decode_document(decode_json(body), model.inputs)


def _ping(exchange: Exchange, backend: Backend) -> Reply:
    check_ready(exchange, backend)
    return wire.json_reply({"status": "ready"})


def _version(exchange: Exchange, backend: Backend) -> Reply:
    return Reply(__version__.encode(), content_type="text/plain; charset=utf-8")


def _invocations(exchange: Exchange, backend: Backend) -> Reply:
    model = choose_model(exchange, backend, None)
    media_type = wire.check_media_type(exchange.environ, JSON, CSV)
    tensors = _decode(wire.read_body(exchange, backend.max_body_bytes), media_type, model, backend.max_rows)
    return predict_rows(exchange, backend, model, tensors)


ENDPOINTS = (
    Endpoint("post", "/invocations", "invocations", "mlflow", "MLflow scoring, JSON or CSV, by the default model",
             _invocations, "Predictions", body="invocations", errors=BODY_ERRORS, protocol="mlflow"),
    Endpoint("get", "/ping", "ping", "mlflow", "Readiness as MLflow queries it", _ping, "Status", errors=(503,),
             access="open", probe=True),
    Endpoint("get", "/version", "version", "mlflow", "The server's version", _version, "Text", TEXT),
)  # fmt: skip
