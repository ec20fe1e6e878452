"""What can go wrong, as one tree; each class knows its HTTP status and its code.

    BerthError
    ├── RequestError                  the client can fix it (4xx)
    │   ├── MalformedJson             400 the body is not valid JSON
    │   ├── InvalidInput              400 valid JSON, but not what the model accepts
    │   ├── InvalidReceipt            400 the receipt of the feedback was not issued here, or was changed
    │   ├── DuplicateFeedback         400 the feedback has already been counted
    │   ├── UnknownOutput             400 the model has no output of this name
    │   ├── RejectedByModel           400 the model itself rejected the values
    │   ├── Unauthenticated           401 no key, or an unknown one
    │   ├── Forbidden                 403 the key is not for this model
    │   ├── RouteNotFound             404 the path does not exist
    │   ├── ModelNotFound             404 the model or version does not exist
    │   ├── MethodNotAllowed          405 the path does not support this method
    │   ├── BodyTimeout               408 the body did not arrive completely in time
    │   ├── BodyTooLarge              413 larger than BERTH_MAX_BODY_BYTES
    │   ├── UnsupportedMediaType      415 an unsupported Content-Type or Content-Encoding
    │   └── Overloaded                429 the worker has as many predictions in flight as it accepts
    ├── ServerError                   the operator can fix it (5xx)
    │   ├── PredictionFailed          500 the model failed on values that match its schema
    │   ├── NotReady                  503 the model is still loading, or the server is draining
    │   ├── Stuck                     503 a prediction does not end
    │   ├── ModelFailed               503 the model could not be loaded
    │   └── DeadlineExceeded          504 the request exceeded its time limit
    └── OperatorError                 reported on the command line or in the log, not over HTTP
        ├── SettingsError             a BERTH_* variable is unknown or has a bad value
        ├── ManifestError             model.json does not match its schema
        ├── StoreError                a model, version or folder is missing, or exists already
        ├── IntegrityError            a file does not match its recorded digest
        ├── UnsafeArtifact            loading the file would run code that is not allowed
        ├── LoadError                 the file is intact, but no model can be made of it
        └── BrokerError               a message broker rejects what a consumer sends, or is unreachable

Codes are part of the interface: they are listed in the README and never renamed.
"""

from __future__ import annotations

from typing import Any, ClassVar

_SHOWN_CHARACTERS = 60
_SHOWN_BITS = 200


def shown(value: Any) -> str:
    """A JSON value as an error shows it: one short line, however long or deep the value is."""
    if isinstance(value, dict):
        return "an object"
    if isinstance(value, list):
        return f"a list of {len(value)}"
    if value is None or isinstance(value, bool):
        return str(value).lower().replace("none", "null")
    if isinstance(value, int) and value.bit_length() > _SHOWN_BITS:
        return f"a whole number of {value.bit_length()} bits"
    return repr(value[:_SHOWN_CHARACTERS]) if isinstance(value, str) else str(value)[:_SHOWN_CHARACTERS]


class BerthError(Exception):
    """The server failed unexpectedly; its log has the reason. Subclasses have a more precise status.

    `message` says what was wrong, with the value, and what to do.
    """

    status: ClassVar[int] = 500
    code: ClassVar[str] = "internal_error"

    def __init__(self, message: str, headers: dict[str, str] | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.headers = headers or {}


class RequestError(BerthError):
    """The request is wrong; the client can fix it."""

    status = 400
    code = "bad_request"


class MalformedJson(RequestError):
    """The body is not valid JSON."""

    code = "malformed_json"


class InvalidInput(RequestError):
    """The body is valid JSON, but does not match what the model accepts."""

    code = "invalid_input"


class InvalidReceipt(RequestError):
    """The receipt of the feedback was not issued here, was changed, or belongs to another file of the model."""

    code = "invalid_receipt"


class DuplicateFeedback(RequestError):
    """Feedback for this receipt has already been counted."""

    code = "duplicate_feedback"


class UnknownOutput(RequestError):
    """The request names an output that the model does not have."""

    code = "unknown_output"


class RejectedByModel(RequestError):
    """The values match the schema, but the model itself rejected them."""

    code = "rejected_by_model"


class Unauthenticated(RequestError):
    """The request has no API key, or an unknown one."""

    status = 401
    code = "unauthenticated"


class Forbidden(RequestError):
    """The API key is valid, but not for this model."""

    status = 403
    code = "forbidden"


class RouteNotFound(RequestError):
    """The path does not exist."""

    status = 404
    code = "not_found"


class ModelNotFound(RequestError):
    """The model, or this version of it, does not exist."""

    status = 404
    code = "model_not_found"


class MethodNotAllowed(RequestError):
    """The path does not support this method."""

    status = 405
    code = "method_not_allowed"


class BodyTimeout(RequestError):
    """The body did not arrive completely in time."""

    status = 408
    code = "body_timeout"


class BodyTooLarge(RequestError):
    """The body is larger than BERTH_MAX_BODY_BYTES, as sent or unpacked."""

    status = 413
    code = "body_too_large"


class UnsupportedMediaType(RequestError):
    """The route does not support this Content-Type or Content-Encoding."""

    status = 415
    code = "unsupported_media_type"


class Overloaded(RequestError):
    """The worker has as many predictions in flight as it accepts; try again after `Retry-After` seconds."""

    status = 429
    code = "overloaded"


class ServerError(BerthError):
    """The server cannot respond; the operator can fix it."""


class PredictionFailed(ServerError):
    """The model failed on values that match its schema."""

    code = "prediction_failed"


class NotReady(ServerError):
    """The model is still loading, or the server is draining."""

    status = 503
    code = "not_ready"


class Stuck(ServerError):
    """A prediction has been running for longer than BERTH_STUCK_SECONDS; the process should be restarted."""

    status = 503
    code = "stuck"


class ModelFailed(ServerError):
    """The model could not be loaded; /health says why."""

    status = 503
    code = "model_failed"


class DeadlineExceeded(ServerError):
    """The request exceeded its time limit."""

    status = 504
    code = "deadline_exceeded"


class OperatorError(BerthError):
    """Reported on the command line or in the log."""


class SettingsError(OperatorError):
    """A BERTH_* variable is unknown or has a bad value."""

    code = "settings_error"


class ManifestError(OperatorError):
    """model.json does not match its schema."""

    code = "manifest_error"


class StoreError(OperatorError):
    """A model, version or folder is missing, or exists already."""

    code = "store_error"


class IntegrityError(OperatorError):
    """A file does not match its recorded digest."""

    code = "integrity_error"


class UnsafeArtifact(OperatorError):
    """Loading the file would run code that is not allowed."""

    code = "unsafe_artifact"


class LoadError(OperatorError):
    """The file is intact, but no model can be made of it."""

    code = "load_error"


class BrokerError(OperatorError):
    """A message broker rejects what a consumer sends, or is unreachable until the consumer must stop."""

    code = "broker_error"


def error_codes() -> list[str]:
    """Every code that may stand in a response."""
    found = {BerthError.code}
    waiting: list[type[BerthError]] = [RequestError, ServerError]
    while waiting:
        error = waiting.pop()
        found.add(error.code)
        waiting.extend(error.__subclasses__())
    return sorted(found)
