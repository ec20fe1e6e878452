"""More work than the model can take: refusals at once, deadlines, probes that never wait."""

from __future__ import annotations

import http.client
import socket
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from live.berths import Serve, ask, ask_on, metric, start_ready
from live.server import HOST, wait_until

pytestmark = pytest.mark.live


def _flood(port: int, clients: int, requests: int, seconds: float) -> list[int]:
    """Statuses of `clients` kept connections that each ask `requests` times."""
    statuses: list[int] = []

    def call() -> None:
        connection = http.client.HTTPConnection(HOST, port, timeout=30)
        question = {"features": [seconds]}
        statuses.extend(ask_on(connection, "POST", "/predict", question)[0] for _ in range(requests))
        connection.close()

    threads = [threading.Thread(target=call) for _ in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return statuses


def test_the_rest_gets_429_and_probes_answer_meanwhile(serve: Serve, sleeper_store: Path, run_dir: Path) -> None:
    server = start_ready(serve, sleeper_store, run_dir, workers=1, max_inflight=2, allow_code="true")
    probes: list[int] = []
    done = threading.Event()

    def probe() -> None:
        while not done.is_set():
            probes.append(ask(server, "GET", "/livez")[0])

    prober = threading.Thread(target=probe)
    prober.start()
    statuses = _flood(server.port, clients=20, requests=10, seconds=0.05)
    done.set()
    prober.join()
    assert set(statuses) == {200, 429}
    assert set(probes) == {200}
    assert metric(server, "berth_predictions_total") + metric(server, "berth_prediction_value_count") == statuses.count(
        200
    )
    assert metric(server, "berth_rejected_total", reason="overloaded") == statuses.count(429)


def test_16_connections_are_never_refused_by_the_automatic_limit(
    serve: Serve, sleeper_store: Path, run_dir: Path
) -> None:
    server = start_ready(serve, sleeper_store, run_dir, workers=2, allow_code="true")
    assert set(_flood(server.port, clients=16, requests=8, seconds=0.01)) == {200}


def test_whatever_is_not_refused_is_answered(serve: Serve, sleeper_store: Path, run_dir: Path) -> None:
    settings = {"workers": 1, "cpu_threads": 1, "max_wait_ms": 100, "batch_max_rows": 1, "allow_code": "true"}
    server = start_ready(serve, sleeper_store, run_dir, **settings)
    statuses = _flood(server.port, clients=12, requests=10, seconds=0.05)
    assert len(statuses) == 120
    accepted, refused = statuses.count(200), statuses.count(429)
    assert accepted + refused == 120
    assert min(accepted, refused) > 0  # 32 may be in flight, but not wait for half a second
    assert metric(server, "berth_rejected_total", model="sleeper", reason="overloaded") == refused
    assert metric(server, "berth_requests_total", model="sleeper", status="200") == accepted
    assert metric(server, "berth_inflight") == 0


def test_more_compute_slots_for_a_model_that_waits(serve: Serve, sleeper_store: Path, run_dir: Path) -> None:
    settings = {"workers": 1, "cpu_threads": 1, "compute_slots": 16, "max_wait_ms": 1, "allow_code": "true"}
    server = start_ready(serve, sleeper_store, run_dir, **settings)
    assert set(_flood(server.port, clients=16, requests=4, seconds=0.1)) == {200}


def test_a_refusal_comes_before_the_body_is_read(serve: Serve, sleeper_store: Path, run_dir: Path) -> None:
    server = start_ready(serve, sleeper_store, run_dir, workers=1, max_inflight=1, allow_code="true")
    holder = threading.Thread(target=ask, args=(server, "POST", "/predict", {"features": [3.0]}))
    holder.start()
    wait_until(lambda: metric(server, "berth_inflight") == 1, "a prediction in flight")
    with server.connect() as connection:
        head = "POST /predict HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 10000000\r\n\r\n"
        connection.sendall(head.encode())  # and not one byte of the body
        connection.settimeout(2)
        answer = _read_all(connection)  # to the end: nothing waits for a body of a refused request
    assert answer.startswith(b"HTTP/1.1 429 ")
    assert b"Retry-After: 1" in answer
    assert b'"code":"overloaded"' in answer
    holder.join()


@pytest.mark.alone
@pytest.mark.slow
def test_threads_hold_no_more_than_so_many_large_bodies(serve: Serve, sleeper_store: Path, run_dir: Path) -> None:
    # Eight of the greatest size: 1.6 MB; each of these has 180 KB, and a thread for three seconds.
    settings = {"workers": 1, "max_body_bytes": 200_000, "max_wait_ms": 30_000, "allow_code": "true"}
    server = start_ready(serve, sleeper_store, run_dir, **settings)
    large = {"features": [[3.0]] + [[0.0]] * 22_000}
    with ThreadPoolExecutor(12) as pool:
        answers = list(pool.map(lambda _: ask(server, "POST", "/predict", large), range(12)))
    statuses = [status for status, _ in answers]
    assert set(statuses) == {200, 429}
    assert statuses.count(200) >= 8
    assert {answer["code"] for status, answer in answers if status == 429} == {"overloaded"}
    assert metric(server, "berth_rejected_total", reason="overloaded") == statuses.count(429)
    assert ask(server, "POST", "/predict", large)[0] == 200


def test_a_request_whose_time_ran_out_is_never_predicted(serve: Serve, sleeper_store: Path, run_dir: Path) -> None:
    server = start_ready(serve, sleeper_store, run_dir, workers=1, cpu_threads=1, max_inflight=8, allow_code="true")
    holder = threading.Thread(target=ask, args=(server, "POST", "/predict", {"features": [1.5]}))
    holder.start()
    wait_until(lambda: metric(server, "berth_inflight") == 1, "a prediction in flight")
    status, answer = ask(server, "POST", "/predict", {"features": [0.0]}, X_Request_Timeout_Ms="100")
    assert (status, answer["code"]) == (504, "deadline_exceeded")
    holder.join()
    assert metric(server, "berth_prediction_value_count") == 1
    assert metric(server, "berth_rejected_total", reason="deadline_exceeded") == 1


def test_a_client_that_stops_in_its_body_gets_408(serve: Serve, sleeper_store: Path, run_dir: Path) -> None:
    server = start_ready(serve, sleeper_store, run_dir, workers=1, request_timeout_seconds=1, allow_code="true")
    with server.connect(timeout=10) as connection:
        head = "POST /predict HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n"
        connection.sendall(head.encode() + b'{"features"')
        answer = _read_all(connection)
    assert answer.startswith(b"HTTP/1.1 408 "), answer
    assert b'"code":"body_timeout"' in answer
    wait_until(lambda: metric(server, "berth_inflight") == 0, "the gate to be empty again")


def _read_all(connection: socket.socket) -> bytes:
    pieces = []
    while piece := connection.recv(65536):
        pieces.append(piece)
    return b"".join(pieces)
