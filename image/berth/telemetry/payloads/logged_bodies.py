"""A payload log that is read again: its lines, and what requests and responses of every protocol hold in them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from math import prod
from pathlib import Path
from typing import Any

import orjson

from berth.errors import OperatorError

_PREDICTION = "prediction"
_FIELDS = frozenset({"request_id", "status", "request", "response"})
Line = Mapping[str, Any]


def read_payloads(path: Path) -> Iterator[Line]:
    """The lines of a log. A last one without its end, of a writer that was killed, is left out.

    Raises OperatorError for a file that is no payload log.
    """
    with path.open("rb") as file:
        for number, text in enumerate(file, 1):
            if text.isspace():
                continue
            try:
                line = orjson.loads(text)
            except orjson.JSONDecodeError as error:
                if not text.endswith(b"\n"):
                    return
                raise OperatorError(f"{path.name}, line {number}: not JSON ({error}); is it a payload log?") from None
            if not isinstance(line, dict) or not {"request_id", "status", "response"} <= line.keys():
                raise OperatorError(
                    f"{path.name}, line {number}: no request_id, status and response; is it a payload log?"
                )
            yield line


def _nest(data: Sequence[Any], shape: Sequence[int]) -> list[Any]:
    """The values of a V2 tensor, one element a row."""
    if len(shape) < 2 or prod(shape) != len(data):
        return list(data)
    width = prod(shape[1:])
    return [_nest(data[at : at + width], shape[1:]) for at in range(0, len(data), max(width, 1))]


def _split_tensors(tensors: Any) -> dict[str, list[Any]]:
    """V2 tensors by name; those in binary are not in the log."""
    named = [each for each in tensors if isinstance(each, dict) and isinstance(each.get("data"), list)]
    return {str(each.get("name")): _nest(each["data"], each.get("shape") or ()) for each in named}


def _split_rows(rows: Sequence[Any]) -> dict[str, list[Any]]:
    """Objects of columns, one a row, as columns; nothing for other rows."""
    if not rows or not all(isinstance(row, dict) for row in rows):
        return {}
    return {str(name): [row.get(name) for row in rows] for name in rows[0]}


def _split_object(columns: Mapping[str, Any]) -> dict[str, list[Any]]:
    """Columns by name, or one row whose values stand for a column each."""
    return {str(name): values if isinstance(values, list) else [values] for name, values in columns.items()}


def find_outputs(line: Line) -> dict[str, list[Any]]:
    """What was predicted: each output's values, one a row; empty where the line does not hold it."""
    response = line["response"]
    if not isinstance(response, dict):
        return {}
    predictions, outputs = response.get("predictions"), response.get("outputs")
    if isinstance(predictions, list):
        return _split_rows(predictions) or {_PREDICTION: predictions}
    if isinstance(outputs, list):
        return _split_tensors(outputs)
    found = outputs if isinstance(outputs, dict) else response
    return {name: values for name, values in found.items() if isinstance(values, list) and name != "unusual"}


def find_columns(line: Line) -> dict[str, list[Any]]:
    """What was sent, for columns that the request names: each one's values, one a row."""
    request = line.get("request")
    if not isinstance(request, dict):
        return {}
    split = request.get("dataframe_split")
    if isinstance(split, dict) and isinstance(split.get("columns"), list) and isinstance(split.get("data"), list):
        return {str(name): [row[at] for row in split["data"]] for at, name in enumerate(split["columns"])}
    for key in ("inputs", "features", "instances", "dataframe_records"):
        given = request.get(key)
        if isinstance(given, dict):
            return _split_object(given)
        if isinstance(given, list):
            return _split_rows(given) if key != "inputs" or "name" not in (given or [{}])[0] else _split_tensors(given)
    return {}
