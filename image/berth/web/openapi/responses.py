"""What the routes return: schemas of responses, the one error shape, and what each status means."""

from __future__ import annotations

from typing import Any

from berth.errors import error_codes
from berth.tensors.arrays import DATATYPES
from berth.web.openapi.model_schemas import LIST, OBJECT, STRING, list_of, open_object

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


_TENSOR = open_object(
    {"name": STRING, "datatype": {"type": "string", "enum": list(DATATYPES)}, "shape": list_of({"type": "integer"})}
)
_STATES = {"type": "string", "enum": ["loading", "ready", "failed"]}
_STATE = open_object({"state": _STATES, "reason": STRING})

ANSWERS: dict[str, dict[str, Any]] = {
    "Object": OBJECT,
    "Text": STRING,
    "Status": open_object({"status": STRING}),
    "Error": open_object(
        {
            "error": {"type": "string", "description": "What was wrong, with the value, and what to do."},
            "code": {"type": "string", "enum": error_codes(), "description": "Never renamed."},
            "request_id": {"type": "string", "description": "As in the header X-Request-Id and in the server's log."},
        }
    ),
    "Prediction": open_object(
        {"model": STRING, "version": STRING},
        prediction={**LIST, "description": "One per row."},
        probabilities={**LIST, "description": "One list per row, in the order of the labels."},
        outputs={"type": "object", "description": "The predictions by output name, to a request with `inputs`."},
    ),
    "Predictions": open_object(
        {"predictions": {"anyOf": [LIST, OBJECT]}},
        outputs={"anyOf": [LIST, OBJECT], "description": "V1: whole outputs, to a request with `inputs`."},
    ),
    "InferResponse": open_object(
        {
            "model_name": STRING,
            "outputs": list_of({**_TENSOR, "properties": _TENSOR["properties"] | {"data": LIST}}),
        },
        model_version=STRING,
        id=STRING,
        parameters=OBJECT,
    ),
    "ServerMetadata": open_object({"name": STRING, "version": STRING, "extensions": list_of(STRING)}),
    "ModelMetadata": open_object(
        {"name": STRING, "inputs": list_of(_TENSOR), "outputs": list_of(_TENSOR)},
        versions=list_of(STRING),
        platform=STRING,
    ),
    "V1Status": open_object(
        {
            "name": STRING,
            "ready": {"type": "boolean"},
            "model_version_status": list_of(open_object({"version": STRING, "state": STRING, "status": OBJECT})),
        }
    ),
    "Index": list_of(open_object({"name": STRING, "version": STRING, "state": STRING}, reason=STRING)),
    "Health": open_object({"status": STRING, "models": {"type": "object", "additionalProperties": _STATE}}),
    "Info": open_object(
        {
            "berth": STRING,
            "slot": STRING,
            "fingerprint": STRING,
            "started_at": {"type": "string", "format": "date-time"},
            "libraries": {"type": "object", "additionalProperties": STRING},
            "models": list_of(
                open_object(
                    {
                        "name": STRING,
                        "version": STRING,
                        "sha256": {"type": "string", "pattern": "^[0-9a-f]{64}$"},
                        "format": STRING,
                        "accelerated": {"type": "boolean"},
                        "inputs": list_of({"$ref": "#/components/schemas/Signature"}),
                        "outputs": list_of({"$ref": "#/components/schemas/Signature"}),
                        "example": {"type": "object", "description": "A body for POST /predict that works."},
                    }
                )
            ),
        }
    ),
    "Signature": {
        **_TENSOR,
        "properties": _TENSOR["properties"]
        | {"columns": list_of(STRING), "labels": list_of({"description": "A class."})},
    },
    "Feedback": open_object(
        {
            "accepted": {"type": "integer"},
            "rejected": list_of(open_object({"index": {"type": "integer"}, "error": STRING, "code": STRING})),
        }
    ),
    "Listing": open_object(
        {
            "service": STRING,
            "status": STRING,
            "routes": list_of(open_object({"method": STRING, "path": STRING, "summary": STRING})),
            "models": list_of(open_object({"name": STRING, "version": STRING, "state": _STATES, "reason": STRING})),
        }
    ),
}
