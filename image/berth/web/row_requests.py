"""What the V1 and MLflow forms share: rows or columns in, one prediction a row out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from berth.errors import InvalidInput, shown
from berth.models.model import Model
from berth.serving.predictor import Predictor
from berth.tensors.arrays import Array
from berth.tensors.schema import decode_features, decode_tensors, is_frame, is_matrix
from berth.web.exchange import current

_PREDICTION = "prediction"


def check_keys(document: Mapping[str, Any], forms: tuple[str, ...], more: tuple[str, ...]) -> str:
    """The one key of `forms` that a body has; besides it only those of `more` may be there. Raises InvalidInput."""
    if unknown := sorted(set(document) - set(forms) - set(more)):
        raise InvalidInput(f"unknown key {unknown[0][:60]!r}; this route reads {', '.join(forms + more)}")
    given = [form for form in forms if form in document]
    if len(given) != 1:
        raise InvalidInput(f"send exactly one of {', '.join(forms)}, got {', '.join(given) or 'none'}")
    return given[0]


def decode_instances(value: Any, model: Model) -> dict[str, Array]:
    """A list with one element a row: a list of values, an object of columns, or an object of tensors.

    Raises InvalidInput.
    """
    specs = model.inputs
    if not isinstance(value, list) or not value:
        raise InvalidInput(f"send a list with one element a row, at least one, got {shown(value)}")
    names = {spec.name for spec in specs}
    if not is_frame(specs) and all(isinstance(row, dict) and row.keys() == names for row in value):
        return decode_tensors({name: [row[name] for row in value] for name in names}, specs)
    if (is_matrix(specs) or len(specs) > 1) and not isinstance(value[0], list | dict):
        raise InvalidInput(f"each row must be a list or an object, got {shown(value[0])}; put one row into a list too")
    return decode_features(value, specs)


def decode_inputs(value: Any, model: Model) -> dict[str, Array]:
    """An object of whole columns or tensors by name; or rows, as in `decode_instances`. Raises InvalidInput."""
    if isinstance(value, dict):
        return decode_tensors(value, model.inputs)
    return decode_instances(value, model)


def predict_rows(model: Model, tensors: Mapping[str, Array], predictor: Predictor) -> dict[str, Any]:
    """`{"predictions": […]}`: `prediction` or the only output, one value a row; else one object of outputs a row."""
    names = tuple(spec.name for spec in model.outputs if not spec.optional)
    wanted = (_PREDICTION,) if _PREDICTION in names else names
    answer = predictor.predict(model, tensors, wanted, current().deadline)
    if len(wanted) == 1:
        return {"predictions": answer[wanted[0]]}
    columns = [answer[name].tolist() for name in wanted]
    return {"predictions": [dict(zip(wanted, row, strict=True)) for row in zip(*columns, strict=True)]}
