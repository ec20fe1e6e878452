"""A kept-alive connection's requests are answered on the thread that finds them, and nothing is lost by that."""

from __future__ import annotations

import http.client
import json
import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any, cast

import joblib
import numpy as np
import pytest
from sklearn.linear_model import LinearRegression

from berth.loaders.formats import LoadOptions
from berth.publishing.adding import AddRequest, add_version
from collector import wait_for
from live.berths import add_sleeper, ask_on, metric, running_ready
from live.server import HOST, Server

pytestmark = pytest.mark.live
ROW = {"features": [5.1, 3.5, 1.4, 0.2]}


@pytest.fixture(scope="module")
def server(store: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One worker with two threads, two models that are quick on any machine, and one that sleeps."""
    folder, rng = tmp_path_factory.mktemp("here"), np.random.default_rng(0)
    artifact = next((store / "iris" / "1").glob("*.joblib"))
    add_version(folder / "store", artifact, AddRequest("iris"), LoadOptions(accelerate="require"))
    wide = LinearRegression().fit(rng.normal(size=(20, 2)), rng.normal(size=(20, 64)))
    joblib.dump(wide, folder / "wide.joblib")
    add_version(folder / "store", folder / "wide.joblib", AddRequest("wide"), LoadOptions(accelerate="require"))
    add_sleeper(folder / "store", folder / "sleeper")
    own = {"models": "iris,sleeper,wide", "workers": 1, "threads": 2, "cpu_threads": 1}
    with running_ready(folder / "store", folder, allow_code="true", **own) as server:
        yield server


@pytest.fixture
def connection(server: Server) -> Iterator[http.client.HTTPConnection]:
    """Kept alive by a first request."""
    one = http.client.HTTPConnection(HOST, server.port, timeout=20)
    assert ask_on(one, "POST", "/predict", ROW)[0] == 200
    yield one
    one.close()


def test_one_connection_may_mix_what_is_answered_where(server: Server, connection: http.client.HTTPConnection) -> None:
    before = metric(server, "berth_requests_total")
    many = {"features": [ROW["features"]] * 500}  # too many rows, and too long for one look
    for _ in range(3):
        assert ask_on(connection, "POST", "/predict", ROW)[0] == 200
        assert ask_on(connection, "POST", "/predict", {"features": []})[0] == 400
        assert ask_on(connection, "POST", "/predict", {"model": "sleeper", "features": [0.0]})[0] == 200
        assert len(ask_on(connection, "POST", "/predict", many)[1]["prediction"]) == 500
        assert ask_on(connection, "GET", "/livez")[0] == 200
    assert metric(server, "berth_requests_total") == before + 12


def _request(document: object) -> bytes:
    body = json.dumps(document).encode()
    return b"POST /predict HTTP/1.1\r\nHost: here\r\nContent-Length: %d\r\n\r\n" % len(body) + body


def _receive(connection: socket.socket, count: int) -> list[dict[str, object]]:
    """The documents of so many answers, in the order in which they come."""
    answers = []
    with connection.makefile("rb") as stream:
        for _ in range(count):
            length = 0
            while (line := stream.readline().strip()) != b"":
                if line.startswith(b"Content-Length: "):
                    length = int(line.split()[1])
            answers.append(json.loads(stream.read(length)))
    return answers


@pytest.mark.parametrize("cuts", [[], [1], [40], [70], [-1], [10, 40, 80]])
def test_requests_in_pieces(server: Server, cuts: list[int]) -> None:
    whole = _request(ROW)
    with server.connect(20) as connection:
        for _ in range(3):
            start = 0
            for cut in [*cuts, len(whole)]:
                connection.sendall(whole[start:cut])
                start = cut % len(whole)
                time.sleep(0.02 if len(cuts) < 3 else 0.3)
            assert _receive(connection, 1)[0]["prediction"] == [0]


def test_a_body_that_never_comes_is_told_of(server: Server) -> None:
    with server.connect(20) as connection:
        connection.sendall(_request(ROW))
        _receive(connection, 1)
        connection.sendall(_request(ROW)[:-3])
        connection.shutdown(socket.SHUT_WR)
        assert "the body ended after" in str(_receive(connection, 1)[0]["error"])


def test_pipelined_requests(server: Server) -> None:
    with server.connect(20) as connection:
        connection.sendall(_request(ROW))
        _receive(connection, 1)
        connection.sendall(_request(ROW) * 5)
        assert [answer["prediction"] for answer in _receive(connection, 5)] == [[0]] * 5


def test_a_client_that_reads_late_gets_every_answer_whole(server: Server) -> None:
    # In sum more than the kernel keeps (4 MB): what it does not take at once, a thread of the pool sends.
    count = 80
    request = _request({"model": "wide", "features": [[1.5, 2.25]] * 64})
    with socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.settimeout(20)
        connection.connect((HOST, server.port))
        for _ in range(count):
            connection.sendall(request)
            time.sleep(0.02)  # two at once would not be answered on the main thread
        answers = _receive(connection, count)
    assert all(len(cast("list[Any]", answer["prediction"])) == 64 for answer in answers)


def test_a_client_that_leaves_harms_nobody(server: Server, connection: http.client.HTTPConnection) -> None:
    for _ in range(20):
        with server.connect() as other:
            other.sendall(_request(ROW))
            _receive(other, 1)
            other.sendall(_request(ROW))
            other.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")  # a reset, not a close
    # What they asked last is in flight until the worker has seen it to its end: with two threads that is a full gate.
    deadline = time.monotonic() + 20
    while (status := ask_on(connection, "POST", "/predict", ROW)[0]) == 429 and time.monotonic() < deadline:
        time.sleep(0.05)
    assert status == 200
    assert "Traceback" not in server.log()


def test_a_reset_within_a_body_costs_no_thread(server: Server, connection: http.client.HTTPConnection) -> None:
    before = metric(server, "berth_requests_total")
    for _ in range(20):
        with server.connect() as other:
            other.sendall(_request(ROW)[:-3])
            time.sleep(0.02)  # the head is read by then
            other.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")  # a reset, not a close
    assert ask_on(connection, "POST", "/predict", ROW)[0] == 200
    # A thread would have counted a response to each, which no client could have received.
    assert metric(server, "berth_requests_total") == before + 1


def test_64_connections_are_in_flight_and_refused_at_the_limit(store: Path, tmp_path: Path) -> None:
    artifact = next((store / "iris" / "1").glob("*.joblib"))
    add_version(tmp_path / "store", artifact, AddRequest("iris"), LoadOptions(accelerate="require"))
    own = {"workers": 1, "max_inflight": 8, "cpu_threads": 1}
    with running_ready(tmp_path / "store", tmp_path, **own) as server:
        statuses, inflight = _flood_together(server, connections=64, rounds=40)
        assert set(statuses) == {200, 429}
        assert min(statuses.count(200), statuses.count(429)) > 40
        assert max(inflight) > 8  # those that are about to be refused have arrived as well
        assert metric(server, "berth_rejected_total", reason="overloaded") == statuses.count(429)
        assert metric(server, "berth_requests_total", status="200") == statuses.count(200)
        assert metric(server, "berth_inflight") == 0


def _status(connection: socket.socket) -> int:
    (document,) = _receive(connection, 1)
    return 429 if document.get("code") == "overloaded" else 200 if "prediction" in document else 0


def _flood_together(server: Server, connections: int, rounds: int) -> tuple[list[int], list[float]]:
    """Rounds of one request on each of many kept connections at once: the statuses, and `berth_inflight` meanwhile."""
    request, statuses, inflight, done = _request(ROW), [], [], threading.Event()

    def watch() -> None:
        while not done.is_set():
            inflight.append(metric(server, "berth_inflight"))

    watcher = threading.Thread(target=watch)
    with ExitStack() as stack:
        kept = [stack.enter_context(server.connect(20)) for _ in range(connections)]
        for one in kept:  # from now on it is a kept connection
            one.sendall(request)
            statuses.append(_status(one))
        watcher.start()
        for _ in range(rounds):
            for one in kept:
                one.sendall(request)
            statuses += [_status(one) for one in kept]
        done.set()
        watcher.join()
    return statuses, inflight


def test_many_clients_that_leave_at_once_delay_nobody_and_leave_nothing_open(server: Server) -> None:
    with server.connect(20) as connection, ExitStack() as stack:
        connection.sendall(_request(ROW))
        _receive(connection, 1)
        before = _open_connections(server)
        others = [stack.enter_context(server.connect(20)) for _ in range(200)]
        wait_for(lambda: _open_connections(server) == before + 200)
        for other in others:
            other.close()
        connection.sendall(_request(ROW))
        assert _receive(connection, 1)[0]["prediction"] == [0]
        wait_for(lambda: _open_connections(server) == before)


def _open_connections(server: Server) -> int:
    (worker,) = server.workers()
    count = 0
    for file in Path(f"/proc/{worker}/fd").iterdir():
        with suppress(FileNotFoundError):  # it has just been closed
            count += os.readlink(file).startswith("socket:")
    return count
