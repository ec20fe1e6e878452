"""A real server asked with what Schemathesis makes of its own document: right, wrong and odd requests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    allow_header_conformance,
    content_type_conformance,
    negative_data_rejection,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
    unsupported_method,
)
from schemathesis.specs.openapi.schemas import OpenApiSchema

from berth.web.endpoints import ENDPOINTS
from berth.web.exchange import Endpoint
from live.berths import running_ready
from live.server import Server

# Not among them: that all valid data are taken. A schema cannot say that a shape fits its data, or that a model
# refuses missing values.
CHECKS = (
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    unsupported_method,
    allow_header_conformance,
    negative_data_rejection,
)


@pytest.fixture(scope="module")
def server(store: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The whole store, served."""
    folder = tmp_path_factory.mktemp("schemathesis")
    with running_ready(store, folder, models="iris@1,iris@2,people,prices", workers=1) as server:
        yield server


@pytest.fixture(scope="module")
def api(server: Server) -> OpenApiSchema:
    """What the server says of itself."""
    return schemathesis.openapi.from_url(f"{server.url}/openapi.json")


def as_numbers(body: Any) -> Any:
    """The body with 1 and 0 in place of true and false in its lists."""
    if isinstance(body, dict):
        return {name: item if isinstance(item, bool) else as_numbers(item) for name, item in body.items()}
    if isinstance(body, list):
        return [int(item) if isinstance(item, bool) else as_numbers(item) for item in body]
    return body


def validate(case: schemathesis.Case[Any]) -> None:
    """Check the answer. True and false are taken for 1 and 0, which no schema says that client generators can read:
    a body that has them is right if it is answered like the numbers."""
    response, checks = case.call(), list(CHECKS)
    plain = as_numbers(case.body)
    if response.status_code == 200 and repr(plain) != repr(case.body):
        checks.remove(negative_data_rejection)
        case.validate_response(response, checks=checks)
        case.body = plain
        assert case.call().content == response.content
        return
    case.validate_response(response, checks=checks)


def ask_many(api: OpenApiSchema, route: Endpoint, mode: GenerationMode, count: int) -> None:
    """Send `count` generated requests and check every answer."""

    @settings(max_examples=count, deadline=None, suppress_health_check=list(HealthCheck), phases=[Phase.generate])
    @given(api[route.path][route.method].as_strategy(generation_mode=mode))
    def ask(case: schemathesis.Case[Any]) -> None:
        case.headers.pop("X-Request-Timeout-Ms", None)  # a millisecond is too short for anything, and 504 is right
        # A coding that HTTP does not know is answered 501, whatever the route: test_gunicorn_conf.py asks for that.
        for name in [name for name in case.headers if name.lower() == "transfer-encoding"]:
            del case.headers[name]
        validate(case)

    ask()


@pytest.mark.parametrize("route", ENDPOINTS, ids=lambda route: route.id)
def test_answers_are_as_documented(api: OpenApiSchema, route: Endpoint) -> None:
    ask_many(api, route, GenerationMode.POSITIVE, 15 if route.body else 3)


@pytest.mark.parametrize("route", [route for route in ENDPOINTS if route.body], ids=lambda route: route.id)
def test_refusals_are_as_documented(api: OpenApiSchema, route: Endpoint) -> None:
    ask_many(api, route, GenerationMode.NEGATIVE, 15)


@pytest.mark.slow
@pytest.mark.parametrize("mode", [GenerationMode.POSITIVE, GenerationMode.NEGATIVE], ids=["right", "wrong"])
@pytest.mark.parametrize("route", [route for route in ENDPOINTS if route.body], ids=lambda route: route.id)
def test_many_answers_are_as_documented(api: OpenApiSchema, route: Endpoint, mode: GenerationMode) -> None:
    ask_many(api, route, mode, 300)
