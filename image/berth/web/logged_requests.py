"""Requests of a payload log as the tensors that their routes made of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from berth.errors import InvalidInput
from berth.tensors.arrays import Array
from berth.tensors.binding import bind_tensors
from berth.tensors.schema import Specs, check_tensors, decode_features, decode_tensors
from berth.web.infer import decode_request
from berth.web.invocations import decode_document
from berth.web.table_forms import decode_csv
from berth.web.v1 import decode_rows

_MOST_ROWS = 1 << 20


def _decode_predict(document: dict[str, Any], specs: Specs) -> dict[str, Array]:
    if "features" in document:
        return decode_features(document["features"], specs)
    return decode_tensors(document["inputs"], specs)


def _decode_v2(document: dict[str, Any], specs: Specs) -> dict[str, Array]:
    request = decode_request(document)
    return bind_tensors(request.inputs, specs, request.frame)


def _decode_message(document: dict[str, Any], specs: Specs) -> dict[str, Array]:
    return decode_rows(document, specs) if "instances" in document else _decode_predict(document, specs)


_PROTOCOLS: dict[str, Callable[[dict[str, Any], Specs], dict[str, Array]]] = {
    "predict": _decode_predict,
    "v2": _decode_v2,
    "v1": decode_rows,
    "mlflow": decode_document,
    "stream": decode_rows,
    "message": _decode_message,
}


def decode_logged(protocol: str, request: Any, specs: Specs) -> dict[str, Array]:
    """The tensors of one request. Raises InvalidInput where the log does not hold them: too long, hidden, in binary."""
    if protocol == "mlflow" and isinstance(request, str):
        tensors = decode_csv(request.encode(), specs, _MOST_ROWS)
    elif protocol in _PROTOCOLS and isinstance(request, dict):
        try:
            tensors = _PROTOCOLS[protocol](request, specs)
        except KeyError as error:
            raise InvalidInput(f"the logged request has no {error}") from None
    else:
        raise InvalidInput(f"the logged request of {protocol} holds no values")
    return check_tensors(tensors, specs, _MOST_ROWS)
