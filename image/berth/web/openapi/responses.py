"""What the routes return: schemas of responses, the one error shape, and what each status means."""

from __future__ import annotations

from typing import Any

from berth.errors import error_codes
from berth.tensors.arrays import DATATYPES

_STRING: dict[str, Any] = {"type": "string"}
_OBJECT: dict[str, Any] = {"type": "object"}
_LIST: dict[str, Any] = {"type": "array", "items": {}}

STATUSES = {
    400: "The request is wrong; the message says what, with the value, and what to do",
    401: "The request has no API key, or an unknown one",
    403: "The API key is valid, but not for this model",
    404: "The route, model or version does not exist",
    408: "The body did not arrive completely in time",
    413: "The body is larger than BERTH_MAX_BODY_BYTES",
    415: "The route does not support this Content-Type or Content-Encoding",
    429: "The worker has as many predictions in flight as it accepts; try again after Retry-After seconds",
    500: "The model failed on values that match its schema",
    503: "Not ready: loading, failed, draining or stuck; the message says which",
    504: "The request exceeded its time limit",
}


def _object(required: dict[str, Any], **optional: Any) -> dict[str, Any]:
    return {"type": "object", "properties": required | optional, "required": list(required)}


def _list_of(items: dict[str, Any]) -> dict[str, Any]:
    return {"type": "array", "items": items}


_TENSOR = _object(
    {"name": _STRING, "datatype": {"type": "string", "enum": list(DATATYPES)}, "shape": _list_of({"type": "integer"})}
)
_STATES = {"type": "string", "enum": ["loading", "ready", "failed"]}
_STATE = _object({"state": _STATES, "reason": _STRING})

ANSWERS: dict[str, dict[str, Any]] = {
    "Object": _OBJECT,
    "Text": _STRING,
    "Status": _object({"status": _STRING}),
    "Error": _object(
        {
            "error": {"type": "string", "description": "What was wrong, with the value, and what to do."},
            "code": {"type": "string", "enum": error_codes(), "description": "Never renamed."},
            "request_id": {"type": "string", "description": "As in the header X-Request-Id and in the server's log."},
        }
    ),
    "Prediction": _object(
        {"model": _STRING, "version": _STRING},
        prediction={**_LIST, "description": "One per row."},
        probabilities={**_LIST, "description": "One list per row, in the order of the labels."},
        outputs={"type": "object", "description": "The predictions by output name, to a request with `inputs`."},
    ),
    "Predictions": _object(
        {"predictions": {"anyOf": [_LIST, _OBJECT]}},
        outputs={"anyOf": [_LIST, _OBJECT], "description": "V1: whole outputs, to a request with `inputs`."},
    ),
    "InferResponse": _object(
        {
            "model_name": _STRING,
            "outputs": _list_of({**_TENSOR, "properties": _TENSOR["properties"] | {"data": _LIST}}),
        },
        model_version=_STRING,
        id=_STRING,
        parameters=_OBJECT,
    ),
    "ServerMetadata": _object({"name": _STRING, "version": _STRING, "extensions": _list_of(_STRING)}),
    "ModelMetadata": _object(
        {"name": _STRING, "inputs": _list_of(_TENSOR), "outputs": _list_of(_TENSOR)},
        versions=_list_of(_STRING),
        platform=_STRING,
    ),
    "V1Status": _object(
        {
            "name": _STRING,
            "ready": {"type": "boolean"},
            "model_version_status": _list_of(_object({"version": _STRING, "state": _STRING, "status": _OBJECT})),
        }
    ),
    "Index": _list_of(_object({"name": _STRING, "version": _STRING, "state": _STRING}, reason=_STRING)),
    "Health": _object({"status": _STRING, "models": {"type": "object", "additionalProperties": _STATE}}),
    "Info": _object(
        {
            "berth": _STRING,
            "slot": _STRING,
            "fingerprint": _STRING,
            "started_at": {"type": "string", "format": "date-time"},
            "libraries": {"type": "object", "additionalProperties": _STRING},
            "models": _list_of(
                _object(
                    {
                        "name": _STRING,
                        "version": _STRING,
                        "sha256": {"type": "string", "pattern": "^[0-9a-f]{64}$"},
                        "format": _STRING,
                        "accelerated": {"type": "boolean"},
                        "inputs": _list_of({"$ref": "#/components/schemas/Signature"}),
                        "outputs": _list_of({"$ref": "#/components/schemas/Signature"}),
                        "example": {"type": "object", "description": "A body for POST /predict that works."},
                    }
                )
            ),
        }
    ),
    "Signature": {
        **_TENSOR,
        "properties": _TENSOR["properties"]
        | {"columns": _list_of(_STRING), "labels": _list_of({"description": "A class."})},
    },
    "Feedback": _object(
        {
            "accepted": {"type": "integer"},
            "rejected": _list_of(_object({"index": {"type": "integer"}, "error": _STRING, "code": _STRING})),
        }
    ),
    "Listing": _object(
        {
            "service": _STRING,
            "status": _STRING,
            "routes": _list_of(_object({"method": _STRING, "path": _STRING, "summary": _STRING})),
            "models": _list_of(_object({"name": _STRING, "version": _STRING, "state": _STATES, "reason": _STRING})),
        }
    ),
}
