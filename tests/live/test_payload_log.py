"""The payload log and traces of a real server: workers share them, and its end loses nothing that was answered."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from collector import Collector
from live.berths import Serve, ask, start_ready
from live.server import Server

pytestmark = pytest.mark.live

NO_SLEEP = {"features": [0.0]}


def end(server: Server) -> int:
    """The server's exit status after SIGTERM."""
    server.signal(signal.SIGTERM)
    return server.wait()


@pytest.fixture
def collector() -> Iterator[Collector]:
    """A collector that runs."""
    with Collector().running() as running:
        yield running


def test_workers_share_a_file(serve: Serve, sleeper_store: Path, tmp_path: Path, run_dir: Path) -> None:
    path = tmp_path / "p.jsonl"
    server = start_ready(serve, sleeper_store, run_dir, allow_code="true", workers=2, payload_log=path)
    for number in range(60):
        assert ask(server, "POST", "/predict", NO_SLEEP, X_Request_Id=str(number))[0] == 200
    assert end(server) == 0
    lines = [json.loads(line) for line in path.read_bytes().splitlines()]
    assert sorted(int(line["request_id"]) for line in lines) == list(range(60))
    assert all(line["response"]["prediction"] == [0] for line in lines)


def test_the_end_loses_nothing_that_was_answered(
    serve: Serve, sleeper_store: Path, run_dir: Path, collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("opentelemetry.exporter.otlp.proto.http", reason="the extra otel is not installed")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url)
    server = start_ready(serve, sleeper_store, run_dir, allow_code="true", workers=1, payload_log=f"{collector.url}/in")
    assert ask(server, "POST", "/predict", NO_SLEEP, X_Request_Id="last")[0] == 200
    # Both wait a second and longer for more to send; the end does not.
    assert end(server) == 0
    posts = {path: body for path, _, body in collector.posts}
    assert json.loads(posts["/in"])["request_id"] == "last"
    assert b"POST /predict" in posts["/v1/traces"]


def test_a_dead_collector_does_not_hold_up_the_end(
    serve: Serve, sleeper_store: Path, run_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    nowhere = "http://127.0.0.1:9"
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", nowhere)
    server = start_ready(serve, sleeper_store, run_dir, allow_code="true", workers=1, payload_log=nowhere)
    assert ask(server, "POST", "/predict", NO_SLEEP)[0] == 200
    began = time.monotonic()
    assert end(server) == 0
    assert time.monotonic() - began < 12
