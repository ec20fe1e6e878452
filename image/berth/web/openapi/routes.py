"""Every route there is, as one table: the document, the list at `/` and the tests all read it."""

from __future__ import annotations

from dataclasses import dataclass

JSON, TEXT, HTML = "application/json", "text/plain", "text/html"
# A body that cannot be read, decoded or predicted.
_BODY = (400, 408, 413, 415, 429, 500, 503, 504)


@dataclass(frozen=True, slots=True)
class Route:
    """One method on one path. `answer` and `body` name a schema and a request body; `errors` what else it answers.

    `keyed` is False where no key is ever asked for; `metrics` is a setting's matter.
    """

    method: str
    path: str
    id: str
    tag: str
    summary: str
    answer: str = "Object"
    media: str = JSON
    body: str = ""
    errors: tuple[int, ...] = ()
    keyed: bool = True

    @property
    def predicts(self) -> bool:
        """Whether it runs a model."""
        return bool(self.body) and self.body != "index"


_V1, _V2 = "/v1/models/{model}", "/v2/models/{model}"
_VERSION = "/versions/{version}"

ROUTES: tuple[Route, ...] = (
    Route("post", "/predict", "predict", "predict", "Predict a row, rows, records or named tensors",
          "Prediction", body="predict", errors=(404, *_BODY)),
    Route("post", "/invocations", "invocations", "mlflow", "MLflow scoring, JSON or CSV, by the default model",
          "Predictions", body="invocations", errors=_BODY),
    Route("get", "/ping", "ping", "mlflow", "Readiness as MLflow asks for it", "Status", errors=(503,), keyed=False),
    Route("get", "/version", "version", "mlflow", "The server's version", "Text", TEXT),
    Route("get", "/v2", "v2_server", "v2", "The server's name, version and extensions", "ServerMetadata"),
    Route("get", "/v2/health/live", "v2_live", "v2", "Liveness", errors=(503,), keyed=False),
    Route("get", "/v2/health/ready", "v2_ready", "v2", "Readiness", errors=(503,), keyed=False),
    Route("get", "/v2/models", "v2_models", "v2", "The models' names"),
    Route("get", _V2, "v2_model", "v2", "A model's inputs and outputs", "ModelMetadata", errors=(404, 503)),
    Route("get", _V2 + _VERSION, "v2_model_version", "v2", "A version's inputs and outputs", "ModelMetadata",
          errors=(404, 503)),
    Route("get", f"{_V2}/ready", "v2_model_ready", "v2", "Whether a model is ready", errors=(404, 503)),
    Route("get", f"{_V2}{_VERSION}/ready", "v2_version_ready", "v2", "Whether a version is ready", errors=(404, 503)),
    Route("post", f"{_V2}/infer", "v2_infer", "v2", "Predict tensors", "InferResponse",
          body="infer", errors=(404, *_BODY)),
    Route("post", f"{_V2}{_VERSION}/infer", "v2_version_infer", "v2", "Predict tensors by a version", "InferResponse",
          body="infer", errors=(404, *_BODY)),
    Route("post", "/v2/repository/index", "v2_index", "v2", "Every version and its state", "Index",
          body="index", errors=(400, 408, 413, 415)),
    Route("get", "/v1/models", "v1_models", "v1", "The models' names"),
    Route("get", _V1, "v1_model", "v1", "A model's state", "V1Status", errors=(404, 503)),
    Route("get", _V1 + _VERSION, "v1_model_version", "v1", "A version's state", "V1Status", errors=(404, 503)),
    Route("post", f"{_V1}:predict", "v1_predict", "v1", "Predict instances or columns", "Predictions",
          body="instances", errors=(404, *_BODY)),
    Route("post", f"{_V1}{_VERSION}:predict", "v1_version_predict", "v1", "Predict by a version", "Predictions",
          body="instances", errors=(404, *_BODY)),
    Route("get", "/livez", "livez", "operate", "200 while the process turns", "Status", errors=(503,), keyed=False),
    Route("get", "/readyz", "readyz", "operate", "200 when every model is ready and the server does not drain",
          "Status", errors=(503,), keyed=False),
    Route("get", "/health", "health", "operate", "As /readyz, with each model's state", "Health",
          errors=(503,), keyed=False),
    Route("get", "/info", "info", "operate", "The slot, the models with digests and signatures, the libraries", "Info"),
    Route("get", "/metrics", "metrics", "operate", "Prometheus text, exact over all workers", "Text", TEXT),
    Route("get", "/openapi.json", "openapi", "operate", "This document"),
    Route("get", "/", "console", "operate", "A page to try the models; to other clients, the routes and models",
          "Listing", keyed=False),
    Route("get", "/docs", "docs", "operate", "This document as a page to try", "Text", HTML, keyed=False),
    Route("get", "/static/{name}", "static", "operate", "The pages' scripts and styles", "Text", "*/*",
          errors=(404,), keyed=False),
)  # fmt: skip
