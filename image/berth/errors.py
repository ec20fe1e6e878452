"""What can go wrong, as one tree; each class knows its HTTP status and its code.

    BerthError
    ├── RequestError                  the client can fix it (4xx)
    │   ├── MalformedJson             400 the body is not the JSON we can read
    │   ├── InvalidInput              400 the body is JSON, but not what the model accepts
    │   ├── InvalidReceipt            400 feedback for a receipt that was not made here, or was changed
    │   ├── DuplicateFeedback         400 feedback that was counted before
    │   ├── UnknownOutput             400 an output was requested that the model does not have
    │   ├── RejectedByModel           400 the model itself refused the values
    │   ├── Unauthenticated           401 no key, or an unknown one
    │   ├── Forbidden                 403 a key that is not for this model
    │   ├── RouteNotFound             404 no such path
    │   ├── ModelNotFound             404 no such model or version
    │   ├── MethodNotAllowed          405 the path exists, the method does not
    │   ├── BodyTimeout               408 the client stopped in the middle of the body
    │   ├── BodyTooLarge              413 longer than BERTH_MAX_BODY_BYTES
    │   ├── UnsupportedMediaType      415 a Content-Type or Content-Encoding we do not read
    │   └── Overloaded                429 more in flight than this worker accepts
    ├── ServerError                   the operator can fix it (5xx)
    │   ├── PredictionFailed          500 the model broke on values that its schema allows
    │   ├── NotReady                  503 the model is still loading, or the server drains
    │   ├── Stuck                     503 a prediction does not end
    │   ├── ModelFailed               503 the model could not be loaded
    │   └── DeadlineExceeded          504 the request's time ran out
    └── OperatorError                 said on the command line or in the log, not over HTTP
        ├── SettingsError             a BERTH_* variable is unknown or has a bad value
        ├── ManifestError             model.json is not what section 2 of the contract says
        ├── StoreError                a model, version or folder is missing or already there
        ├── IntegrityError            a file is not the one whose digest was recorded
        ├── UnsafeArtifact            loading the file would run code that is not allowed
        ├── LoadError                 the file is intact but cannot be made into a model
        └── BrokerError               a message broker refuses what a consumer sends, or stays away

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
    """A mistake of the server's own, unless a subclass says otherwise; its log has the reason.

    `message` says what was wrong, with the value, and what to do.
    """

    status: ClassVar[int] = 500
    code: ClassVar[str] = "internal_error"

    def __init__(self, message: str, headers: dict[str, str] | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.headers = headers or {}


class RequestError(BerthError):
    """The client can fix it."""

    status = 400
    code = "bad_request"


class MalformedJson(RequestError):
    """The body is not the JSON we can read."""

    code = "malformed_json"


class InvalidInput(RequestError):
    """The body is JSON, but not what the model accepts."""

    code = "invalid_input"


class InvalidReceipt(RequestError):
    """Feedback for a receipt that was not made here, was changed, or is from another file of the model."""

    code = "invalid_receipt"


class DuplicateFeedback(RequestError):
    """Feedback for a receipt whose feedback was counted before."""

    code = "duplicate_feedback"


class UnknownOutput(RequestError):
    """An output was requested that the model does not have."""

    code = "unknown_output"


class RejectedByModel(RequestError):
    """The schema allowed the values; the model itself refused them."""

    code = "rejected_by_model"


class Unauthenticated(RequestError):
    """No key was sent, or an unknown one."""

    status = 401
    code = "unauthenticated"


class Forbidden(RequestError):
    """The key is known, but not for this model."""

    status = 403
    code = "forbidden"


class RouteNotFound(RequestError):
    """No such path."""

    status = 404
    code = "not_found"


class ModelNotFound(RequestError):
    """No such model, or no such version of it."""

    status = 404
    code = "model_not_found"


class MethodNotAllowed(RequestError):
    """The path exists, the method does not."""

    status = 405
    code = "method_not_allowed"


class BodyTimeout(RequestError):
    """The client stopped in the middle of the body."""

    status = 408
    code = "body_timeout"


class BodyTooLarge(RequestError):
    """The body is longer than BERTH_MAX_BODY_BYTES, sent or unpacked."""

    status = 413
    code = "body_too_large"


class UnsupportedMediaType(RequestError):
    """A Content-Type or Content-Encoding that this route does not read."""

    status = 415
    code = "unsupported_media_type"


class Overloaded(RequestError):
    """More predictions are in flight than this worker accepts; come back after `Retry-After`."""

    status = 429
    code = "overloaded"


class ServerError(BerthError):
    """The operator can fix it."""


class PredictionFailed(ServerError):
    """The model broke on values that its schema allows."""

    code = "prediction_failed"


class NotReady(ServerError):
    """The model is still loading, or the server drains."""

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
    """The request's time ran out."""

    status = 504
    code = "deadline_exceeded"


class OperatorError(BerthError):
    """Said on the command line or in the log."""


class SettingsError(OperatorError):
    """A BERTH_* variable is unknown or has a bad value."""

    code = "settings_error"


class ManifestError(OperatorError):
    """model.json is not what the contract says."""

    code = "manifest_error"


class StoreError(OperatorError):
    """A model, version or folder is missing or already there."""

    code = "store_error"


class IntegrityError(OperatorError):
    """A file is not the one whose digest was recorded."""

    code = "integrity_error"


class UnsafeArtifact(OperatorError):
    """Loading the file would run code that is not allowed."""

    code = "unsafe_artifact"


class LoadError(OperatorError):
    """The file is intact but cannot be made into a model."""

    code = "load_error"


class BrokerError(OperatorError):
    """A message broker refuses what a consumer sends it, or stays away until the consumer must stop."""

    code = "broker_error"
