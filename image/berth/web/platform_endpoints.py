"""The routes that a cloud platform calls, where they are not among Berth's own."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any

from berth.errors import InvalidInput, shown
from berth.models.model import Model
from berth.platforms import PlatformRoutes
from berth.tensors.arrays import Array
from berth.tensors.instances import decode_inputs
from berth.tensors.schema import usual_outputs
from berth.web import v1, wire
from berth.web.access import choose_model, report_ready
from berth.web.exchange import BODY_ERRORS, Backend, Endpoint, Exchange, Reply
from berth.web.row_requests import by_row
from berth.web.table_forms import decode_split

# What Azure ML's own examples send: MLflow deployments the first, scoring scripts the second.
_AZURE = ("input_data", "data")


def _predict(exchange: Exchange, backend: Backend) -> Reply:
    model = choose_model(exchange, backend, None)
    return v1.answer_instances(exchange, backend, model, wire.read_json_object(exchange, backend.max_body_bytes))


def _decode_score(document: dict[str, Any], model: Model) -> dict[str, Array]:
    if len(document) != 1 or next(iter(document)) not in _AZURE:
        raise InvalidInput(f"send an object with one of {', '.join(_AZURE)}, got {', '.join(document)[:120] or 'none'}")
    ((form, value),) = document.items()
    if form == "input_data" and isinstance(value, dict) and "data" in value:
        return decode_split(value, model.inputs)
    if not isinstance(value, dict | list):
        raise InvalidInput(f"{form} must be rows, or an object of columns, got {shown(value)}")
    return decode_inputs(value, model.inputs)


def _score(exchange: Exchange, backend: Backend) -> Reply:
    """A list with one prediction a row, as Azure ML's scoring scripts and MLflow deployments return."""
    model = choose_model(exchange, backend, None)
    document = wire.read_json_object(exchange, backend.max_body_bytes)
    wanted = usual_outputs(model.outputs)
    outputs = backend.predict(exchange, model, _decode_score(document, model), wanted)
    return wire.json_reply(by_row(outputs, wanted))


def _is_known(method: str, path: str, endpoints: Sequence[Endpoint]) -> bool:
    patterns = [re.sub(r"<\w+>", "[^/]+", re.escape(each.rule)) for each in endpoints if each.method == method]
    return any(re.fullmatch(pattern, path) for pattern in patterns)


def platform_endpoints(routes: PlatformRoutes, known: Sequence[Endpoint]) -> Iterator[Endpoint]:
    """Endpoints for the platform's paths, but for those that one of `known` has already."""
    predict, health = routes.predict, routes.health
    if predict and not _is_known("post", predict, known):
        yield Endpoint("post", predict, "platform_predict", "v1", "Predict instances by the default model", _predict,
                       "Predictions", body="instances", errors=BODY_ERRORS, protocol="v1")  # fmt: skip
    if health and not _is_known("get", health, known):
        yield Endpoint("get", health, "platform_health", "operate", "Readiness, as the platform queries it",
                       report_ready, "Status", errors=(503,), access="open", probe=True)  # fmt: skip
    if routes.score:
        yield Endpoint("post", routes.score, "platform_score", "mlflow", "Predict rows, as Azure ML sends them",
                       _score, "Predictions", body="invocations", errors=BODY_ERRORS, protocol="mlflow")  # fmt: skip
