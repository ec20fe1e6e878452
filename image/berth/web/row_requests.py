"""What the V1 and MLflow forms share: rows or columns in, one prediction a row out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from berth.errors import InvalidInput
from berth.models.model import Model
from berth.tensors.arrays import Array
from berth.web.exchange import Backend, Exchange, Reply
from berth.web.wire import json_reply

_PREDICTION = "prediction"


def check_keys(document: Mapping[str, Any], forms: tuple[str, ...], more: tuple[str, ...]) -> str:
    """The one key of `forms` that a body has; besides it only those of `more` may be there. Raises InvalidInput."""
    if unknown := sorted(set(document) - set(forms) - set(more)):
        raise InvalidInput(f"unknown key {unknown[0][:60]!r}; this route reads {', '.join(forms + more)}")
    given = [form for form in forms if form in document]
    if len(given) != 1:
        raise InvalidInput(f"send exactly one of {', '.join(forms)}, got {', '.join(given) or 'none'}")
    return given[0]


def predict_rows(exchange: Exchange, backend: Backend, model: Model, tensors: Mapping[str, Array]) -> Reply:
    """`{"predictions": […]}`: `prediction` or the only output, one value a row; else one object of outputs a row."""
    names = tuple(spec.name for spec in model.outputs if not spec.optional)
    wanted = (_PREDICTION,) if _PREDICTION in names else names
    answer = backend.predict(exchange, model, tensors, wanted)
    if len(wanted) == 1:
        return json_reply({"predictions": answer[wanted[0]]})
    columns = [answer[name].tolist() for name in wanted]
    return json_reply({"predictions": [dict(zip(wanted, row, strict=True)) for row in zip(*columns, strict=True)]})
