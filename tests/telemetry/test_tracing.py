"""Traces: spans arrive at a collector over OTLP, under the caller's trace; without the endpoint nothing is imported."""

from __future__ import annotations

import logging
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient

from berth.app import create_app
from berth.telemetry.tracing import Tracing, is_installed, make_tracing, traces_url
from collector import Collector

TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


@pytest.mark.parametrize(
    ("environ", "url"),
    [
        ({}, ""),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": " "}, ""),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://otel:4318"}, "http://otel:4318/v1/traces"),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://otel:4318/in/"}, "http://otel:4318/in/v1/traces"),
        (
            {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://a", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://b/own"},
            "http://b/own",
        ),
    ],
)
def test_where_spans_go(environ: dict[str, str], url: str) -> None:
    assert traces_url(environ) == url
    if not url:
        assert make_tracing(environ, "1") is None


def test_a_missing_library_is_told_once(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    assert not is_installed("no_such_package.inside")
    assert not is_installed("email.no_such_module")
    environ = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://otel:4318"}
    assert make_tracing(environ, "1", ("logging", "no_such_package.inside")) is None
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert "no_such_package.inside is missing; install berth[otel]" in record.message


def test_nothing_is_imported_without_an_endpoint(store: Path, tmp_path: Path) -> None:
    program = (
        "import sys; from berth.app import create_app; app = create_app(dict([a.split('=', 1) for a in sys.argv[1:]]));"
        "service = app.extensions['berth']; service.start(); assert service.catalog.wait(20);"
        "answer = app.test_client().post('/predict', json={'features': [5.1, 3.5, 1.4, 0.2]});"
        "assert answer.status_code == 200, answer.data;"
        "print([name for name in sys.modules if name.startswith('opentelemetry')])"
    )
    environ = [
        f"BERTH_MODEL_STORE={store}",
        f"BERTH_RUN_DIR={tmp_path}",
        "BERTH_MODELS=iris@1",
        "BERTH_LOG_LEVEL=error",
    ]
    done = subprocess.run([sys.executable, "-c", program, *environ], capture_output=True, text=True, timeout=60)
    assert done.stdout == "[]\n", done.stderr


def spans_of(collector: Collector) -> list[tuple[dict[str, Any], Any]]:
    """The spans that arrived, each with its resource's attributes."""
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

    found = []
    for path, headers, body in collector.posts:
        assert (path, headers["content-type"]) == ("/v1/traces", "application/x-protobuf")
        for group in ExportTraceServiceRequest.FromString(body).resource_spans:
            resource = attributes_of(group.resource)
            found += [(resource, span) for scope in group.scope_spans for span in scope.spans]
    return found


def attributes_of(owner: Any) -> dict[str, Any]:
    """Attributes as plain values."""
    return {pair.key: getattr(pair.value, pair.value.WhichOneof("value")) for pair in owner.attributes}


@pytest.fixture
def collector() -> Iterator[Collector]:
    """A collector that runs."""
    pytest.importorskip("opentelemetry.exporter.otlp.proto.http", reason="the extra otel is not installed")
    with Collector().running() as running:
        yield running


@pytest.fixture
def traced(store: Path, collector: Collector, tmp_path: Path) -> FlaskClient:
    """A client of an application that sends spans to `collector`."""
    environ = {"BERTH_MODEL_STORE": str(store), "BERTH_MODELS": "iris@1", "BERTH_RUN_DIR": str(tmp_path)}
    environ |= {"BERTH_SLOT": "green", "BERTH_LOG_LEVEL": "error", "BERTH_WORKERS": "1"}
    app = create_app(environ | {"OTEL_EXPORTER_OTLP_ENDPOINT": collector.url})
    app.extensions["berth"].start()
    assert app.extensions["berth"].catalog.wait(20)
    return app.test_client()


def close(client: FlaskClient) -> None:
    """Send every span that was made."""
    client.application.extensions["berth"].tracing.close()


def test_a_request_is_a_span_under_the_callers(
    traced: FlaskClient, collector: Collector, iris_rows: Sequence[Any]
) -> None:
    headers = {"traceparent": f"00-{TRACE}-{PARENT}-01", "tracestate": "vendor=1", "X-Request-Id": "this"}
    before = time.time_ns()
    assert traced.post("/v1/models/iris:predict", json={"instances": iris_rows}, headers=headers).status_code == 200
    traced.get("/info")
    close(traced)
    (_, inner), (resource, span) = spans_of(collector)
    assert (resource["service.name"], span.name) == ("berth", "POST /v1/models/<name>:predict")
    assert (span.trace_id.hex(), span.parent_span_id.hex()) == (TRACE, PARENT)
    assert (span.kind, span.trace_state) == (2, "vendor=1")
    assert before <= span.start_time_unix_nano <= span.end_time_unix_nano <= time.time_ns()
    assert attributes_of(span) == {
        "http.request.method": "POST",
        "http.route": "/v1/models/<name>:predict",
        "http.response.status_code": 200,
        "berth.protocol": "v1",
        "berth.request_id": "this",
        "berth.slot": "green",
        "berth.rows": 3,
        "berth.model": "iris",
        "berth.version": "1",
    }
    assert (inner.name, inner.trace_id, inner.parent_span_id) == ("predict", span.trace_id, span.span_id)
    assert span.start_time_unix_nano <= inner.start_time_unix_nano
    assert inner.end_time_unix_nano <= span.end_time_unix_nano


def test_a_failure_tells_its_code(traced: FlaskClient, collector: Collector) -> None:
    assert traced.post("/predict", json={"features": [1]}).status_code == 400
    close(traced)
    ((_, span),) = spans_of(collector)
    attributes = attributes_of(span)
    assert (attributes["http.response.status_code"], attributes["error.type"]) == (400, "invalid_input")
    # A client's mistake is not the server's error.
    assert span.status.code == 0
    assert span.parent_span_id == b""


def test_what_the_caller_does_not_sample_is_not_sent(traced: FlaskClient, collector: Collector, iris_rows: Any) -> None:
    headers = {"traceparent": f"00-{TRACE}-{PARENT}-00"}
    assert traced.post("/predict", json={"features": iris_rows}, headers=headers).status_code == 200
    close(traced)
    assert spans_of(collector) == []


def test_a_provider_that_cannot_be_made_is_said_and_no_more(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("opentelemetry.exporter.otlp.proto.http", reason="the extra otel is not installed")
    caplog.set_level(logging.WARNING)
    monkeypatch.setenv("OTEL_BSP_MAX_QUEUE_SIZE", "-1")
    tracing = Tracing("http://127.0.0.1:9/v1/traces", "1")
    tracing.start()
    assert "the OpenTelemetry SDK did not start" in caplog.text
    assert tracing.begin("GET /", {}) is None


def test_a_collector_that_is_down_does_not_hold_up_the_end() -> None:
    pytest.importorskip("opentelemetry.exporter.otlp.proto.http", reason="the extra otel is not installed")
    tracing = Tracing("http://127.0.0.1:9/v1/traces", "1")
    tracing.start()
    span = tracing.begin("POST /predict", {})
    tracing.finish(span, 503, {})
    began = time.monotonic()
    tracing.close(0.2)
    assert time.monotonic() - began < 1
