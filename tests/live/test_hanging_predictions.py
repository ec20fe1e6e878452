"""A prediction that does not return: its client gets 504, and the pod leaves the Service when none can answer."""

from __future__ import annotations

import http.client
import json
import threading
from contextlib import closing
from pathlib import Path

import pytest

from live.berths import Serve, ask, ask_on, metric, start_ready
from live.server import HOST, Server, wait_until

pytestmark = pytest.mark.live


def hang(server: Server, seconds: float, count: int = 1, **headers: str) -> list[threading.Thread]:
    """So many predictions of so many seconds, none waited for."""
    arguments = (server, "POST", "/predict", {"features": [seconds]})
    threads = [threading.Thread(target=ask, args=arguments, kwargs=headers) for _ in range(count)]
    for thread in threads:
        thread.start()
    return threads


def test_the_client_gets_504_while_the_model_still_runs(serve: Serve, sleeper_store: Path, run_dir: Path) -> None:
    server = start_ready(serve, sleeper_store, run_dir, workers=1, request_timeout_seconds=0.5, allow_code="true")
    with closing(http.client.HTTPConnection(HOST, server.port, timeout=4)) as connection:  # the model takes longer
        connection.request("POST", "/predict", json.dumps({"features": [5.0]}), {"Content-Type": "application/json"})
        response = connection.getresponse()
        answer = json.loads(response.read())
    assert (response.status, answer["code"]) == (504, "deadline_exceeded")
    assert response.headers["Connection"] == "close"
    assert response.headers["X-Berth-Model"] == "sleeper@1"
    assert answer["request_id"] == response.headers["X-Request-Id"]
    assert metric(server, "berth_inflight") == 1  # the model has not returned
    wait_until(lambda: metric(server, "berth_inflight") == 0, "the model to return")
    # One request, one answer: what the model returned in the end is counted nowhere.
    assert metric(server, "berth_requests_total") == metric(server, "berth_requests_total", status="504") == 1
    assert metric(server, "berth_rejected_total", model="sleeper", reason="deadline_exceeded") == 1
    lines = [line for line in server.log_lines() if line.get("route") == "/predict"]
    assert [line["status"] for line in lines] == [504]
    assert ask(server, "POST", "/predict", {"features": [0.0]})[0] == 200


def test_a_clients_own_limit_is_kept_too(serve: Serve, sleeper_store: Path, run_dir: Path) -> None:
    server = start_ready(serve, sleeper_store, run_dir, workers=1, allow_code="true")
    with closing(http.client.HTTPConnection(HOST, server.port, timeout=2.5)) as connection:
        status, answer = ask_on(connection, "POST", "/predict", {"features": [3.0]}, X_Request_Timeout_Ms="200")
        assert (status, answer["code"]) == (504, "deadline_exceeded")
        assert ask_on(connection, "GET", "/livez")[0] == 200  # the client connects again
    wait_until(lambda: metric(server, "berth_inflight") == 0, "the model to return")
    # A deadline belongs to its request: the next one on a kept connection has its whole time.
    with closing(http.client.HTTPConnection(HOST, server.port, timeout=10)) as kept:
        assert ask_on(kept, "POST", "/predict", {"features": [0.0]}, X_Request_Timeout_Ms="100")[0] == 200
        assert ask_on(kept, "POST", "/predict", {"features": [0.3]})[0] == 200


def test_a_pod_that_cannot_answer_is_not_ready_and_comes_back(serve: Serve, sleeper_store: Path, run_dir: Path) -> None:
    settings = {"workers": 2, "cpu_threads": 1, "request_timeout_seconds": 1, "allow_code": "true"}
    server = start_ready(serve, sleeper_store, run_dir, **settings)
    first = hang(server, 8.0)
    wait_until(lambda: list(run_dir.glob("blocked-*")), "one worker to be blocked")
    # The other one serves: the pod stays, and every new connection is answered by the worker that can.
    assert ask(server, "GET", "/readyz")[0] == 200
    assert {ask(server, "POST", "/predict", {"features": [0.0]})[0] for _ in range(20)} == {200}
    second = hang(server, 5.0)
    wait_until(lambda: len(list(run_dir.glob("blocked-*"))) == 2, "both workers to be blocked")
    status, answer = ask(server, "GET", "/readyz")
    assert (status, answer["code"]) == (503, "not_ready")
    assert "no worker can respond" in answer["error"]
    assert ask(server, "GET", "/livez")[0] == 200  # it may come back by itself
    # Nobody waits behind a prediction that does not end.
    status, answer = ask(server, "POST", "/predict", {"features": [0.0]})
    assert (status, answer["code"]) == (503, "stuck")
    for thread in first + second:
        thread.join()
    wait_until(lambda: ask(server, "GET", "/readyz")[0] == 200, "readiness")
    wait_until(lambda: not list(run_dir.glob("blocked-*")), "both workers to be free")
    assert ask(server, "POST", "/predict", {"features": [0.0]})[0] == 200
