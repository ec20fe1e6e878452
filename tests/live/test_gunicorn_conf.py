"""What the worker of image/gunicorn.conf.py promises, seen from real sockets."""

from __future__ import annotations

import http.client
import json
import os
import re
import signal
import socket
import sys
import threading
import time
import tomllib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest

from berth.worker.connections import LINGER_SECONDS
from live.berths import Serve
from live.conftest import CONF, Gunicorn
from live.server import HOST, Server, free_port, wait_until

pytestmark = pytest.mark.live


def test_gunicorn_is_the_version_whose_inside_was_read() -> None:
    # The worker class overrides ThreadWorker's inside. After an upgrade read workers/gthread.py, then change this.
    pyproject = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text("utf-8"))
    assert "gunicorn==27.0.1" in pyproject["project"]["dependencies"]
    assert version("gunicorn") == "27.0.1"


def test_the_files_values_are_those_of_the_settings_table() -> None:
    text = CONF.read_text("utf-8")
    assert "BERTH_" not in re.sub(r"(#.*|BERTH_STUCK_SECONDS)", "", text), "a default stands in the table alone"
    assert 'http_parser = "python"' in text


def _ask(server: Server, path: str, timeout: float = 5.0) -> bytes:
    """The body of one request on a connection of its own."""
    connection = http.client.HTTPConnection(HOST, server.port, timeout=timeout)
    try:
        connection.request("GET", path, headers={"Connection": "close"})
        return connection.getresponse().read()
    finally:
        connection.close()


def _exchange(server: Server, *parts: bytes, timeout: float = 5.0) -> bytes:
    """Everything the server says to raw bytes, until it closes."""
    with server.connect(timeout) as connection:
        for part in parts:
            connection.sendall(part)
        answer = b""
        while piece := connection.recv(65536):
            answer += piece
    return answer


@contextmanager
def _connections(server: Server, count: int) -> Iterator[list[socket.socket]]:
    with ExitStack() as stack:
        yield [stack.enter_context(server.connect()) for _ in range(count)]


class Held:
    """A request that keeps a thread of a worker until it is let go."""

    def __init__(self, server: Server, run_dir: Path, name: str) -> None:
        self._file = run_dir / name
        self._connection = server.connect()
        self._connection.sendall(f"GET /hold/{name} HTTP/1.0\r\n\r\n".encode())
        answer = b""
        while not (found := re.search(rb"\r\n\r\n *(\d+)", answer)):
            answer += self._connection.recv(1000)
        self.worker = int(found[1])

    def let_go(self) -> None:
        self._file.touch()
        while self._connection.recv(1000):
            pass
        self._connection.close()


def _fill_one_worker(server: Server, run_dir: Path, threads: int) -> list[Held]:
    """Requests that keep every thread of one worker, while the other worker has none."""
    held: dict[int, list[Held]] = {pid: [] for pid in server.workers()}
    for number in range(200):
        one = Held(server, run_dir, f"held-{number}")
        held[one.worker].append(one)
        if len(held[one.worker]) == threads:
            break
    full = max(held.values(), key=len)
    for other in (one for several in held.values() if several is not full for one in several):
        other.let_go()
    assert len(full) == threads
    return full


def _misplaced(server: Server, connections: int) -> int:
    """How many new connections wait at the full worker although the other is free."""
    late = 0
    for _ in range(connections):
        try:
            _ask(server, "/pid", timeout=0.2)
        except TimeoutError:
            late += 1
    return late


def test_no_connection_waits_at_a_full_worker_while_another_is_free(gunicorn: Gunicorn, run_dir: Path) -> None:
    server = gunicorn("hold", workers=2, threads=2)
    full = _fill_one_worker(server, run_dir, threads=2)
    assert _misplaced(server, 12) == 0
    for held in full:
        held.let_go()


def test_gunicorns_own_worker_does_misplace_connections(gunicorn: Gunicorn, run_dir: Path) -> None:
    # The day this fails, gunicorn has mended it and FairThreadWorker can go.
    server = gunicorn("hold", workers=2, threads=2, constants={"worker_class": "gthread"})
    full = _fill_one_worker(server, run_dir, threads=2)
    assert _misplaced(server, 12) > 0
    for held in full:
        held.let_go()


def test_idle_kept_alive_connections_take_no_threads_place(gunicorn: Gunicorn) -> None:
    server = gunicorn("hold", workers=1, threads=2)
    idle = [http.client.HTTPConnection(HOST, server.port, timeout=2) for _ in range(12)]
    for _ in range(2):
        for connection in idle:
            connection.request("GET", "/pid")
            assert int(connection.getresponse().read()) in server.workers()
    for connection in idle:
        connection.close()


def test_quick_answers_need_no_free_thread(gunicorn: Gunicorn, run_dir: Path) -> None:
    server = gunicorn("here", workers=1, threads=2)
    quick = server.connect()
    held = [Held(server, run_dir, f"held-{number}") for number in range(2)]
    with quick:
        for _ in range(20):  # the first request of the connection among them, and some in two pieces
            quick.sendall(b"POST /here HTTP/1.1\r\nHost: here\r\nContent-Length: 2\r\n\r\n{")
            quick.sendall(b"}")
            assert quick.recv(1000).endswith(b"MainThread")
    with pytest.raises(TimeoutError):  # else a thread was free, and nothing was shown
        _ask(server, "/pid", timeout=0.3)
    for one in held:
        one.let_go()


BAD_REQUESTS: dict[str, tuple[bytes, int, str]] = {
    "not a request line": (b"GARBAGE\r\n\r\n", 400, "bad_request"),
    "binary": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", 400, "bad_request"),
    "unknown version": (b"GET / HTTP/9.9\r\n\r\n", 400, "bad_request"),
    "header without colon": (b"GET / HTTP/1.1\r\nnothing\r\n\r\n", 400, "bad_request"),
    "two lengths": (b"POST / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab", 400, "bad_request"),
    "markup": (b"GET /<script>\x00 HTTP/1.1\r\nA\x00: b\r\n\r\n", 400, "bad_request"),
    "bad chunk": (
        b"POST / HTTP/1.1\r\nHost: here\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nabc\r\n",
        400,
        "bad_request",
    ),
    "unknown coding": (b"POST / HTTP/1.1\r\nTransfer-Encoding: pigeon\r\n\r\n", 501, "not_implemented"),
    "long address": (b"GET /" + b"a" * 10_000 + b" HTTP/1.1\r\n\r\n", 414, "uri_too_long"),
    "100 KB header": (b"GET / HTTP/1.1\r\nA: " + b"a" * 100_000 + b"\r\n\r\n", 431, "headers_too_large"),
    "1000 headers": (b"GET / HTTP/1.1\r\n" + b"A: b\r\n" * 1000 + b"\r\n", 431, "headers_too_large"),
    "no host": (b"GET / HTTP/1.1\r\nA: b\r\n\r\n", 400, "bad_request"),
    "two hosts": (b"GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n", 400, "bad_request"),
    "host with a path": (b"GET / HTTP/1.1\r\nHost: a/b\r\n\r\n", 400, "bad_request"),
    "host with a user": (b"GET / HTTP/1.1\r\nHost: a@b\r\n\r\n", 400, "bad_request"),
    "two hosts in one": (b"GET / HTTP/1.1\r\nHost: a, b\r\n\r\n", 400, "bad_request"),
    "host with a false port": (b"GET / HTTP/1.0\r\nHost: a:8000b\r\n\r\n", 400, "bad_request"),
    "line feeds alone": (b"GET / HTTP/1.1\nHost: a\n\n", 400, "bad_request"),
    "head of 70 KB": (
        b"GET / HTTP/1.1\r\nHost: a\r\n" + (b"A: " + b"a" * 7000 + b"\r\n") * 10,
        431,
        "headers_too_large",
    ),
    "expectation": (b"GET / HTTP/1.1\r\nExpect: wonders\r\n\r\n", 417, "bad_request"),
}


def _check_error(answer: bytes, status: int, code: str) -> dict[str, str]:
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.split()[1] == str(status).encode(), answer[:500]
    assert b"Content-Type: application/json" in head
    assert b"X-Berth-Slot: blue" in head
    error: dict[str, str] = json.loads(body)
    assert set(error) == {"error", "code", "request_id"}
    assert error["code"] == code
    assert error["error"]
    assert f"X-Request-Id: {error['request_id']}".encode() in head
    return error


def test_what_gunicorn_refuses_has_the_one_error_shape(gunicorn: Gunicorn) -> None:
    server = gunicorn("read")
    for name, (request, status, code) in BAD_REQUESTS.items():
        answer = _exchange(server, request)
        error = _check_error(answer, status, code)
        assert "gunicorn" not in answer.decode("latin-1").lower(), name
        assert any(line.get("request_id") == error["request_id"] for line in server.log_lines()), name


def test_an_applications_crash_is_a_500_without_its_reason(gunicorn: Gunicorn) -> None:
    server = gunicorn("fail")
    answer = _exchange(server, b"GET / HTTP/1.1\r\nHost: here\r\nX-Request-Id: mine-1\r\n\r\n")
    error = _check_error(answer, 500, "internal_error")
    assert error["request_id"] == "mine-1"
    assert b"secret" not in answer
    logged = [line for line in server.log_lines() if line.get("request_id") == "mine-1"]
    assert "the secret of" in logged[0]["exception"]


def _trickle(connection: socket.socket, piece: bytes, stop: threading.Event) -> None:
    while not stop.wait(0.05):
        try:
            connection.sendall(piece)
        except OSError:
            return


def test_slow_headers_are_cut_off_and_their_thread_is_free_again(gunicorn: Gunicorn) -> None:
    server = gunicorn("hold", threads=2, constants={"Worker.header_seconds": 0.6})
    stop = threading.Event()
    with _connections(server, 2) as slow:
        for connection in slow:
            connection.sendall(b"GET /pid HTTP/1.1\r\nA: ")
            threading.Thread(target=_trickle, args=(connection, b"a", stop)).start()
        began = time.monotonic()
        assert int(_ask(server, "/pid")) in server.workers()
        assert time.monotonic() - began < 2
        for connection in slow:
            _check_error(connection.recv(65536), 408, "headers_timeout")
        stop.set()


def test_connections_that_say_nothing_do_not_hold_the_threads(gunicorn: Gunicorn) -> None:
    server = gunicorn("hold", threads=2)
    with _connections(server, 8) as silent:
        began = time.monotonic()
        assert int(_ask(server, "/pid")) in server.workers()
        assert time.monotonic() - began < 2
        silent[0].sendall(b"GET /pid HTTP/1.0\r\n\r\n")
        assert silent[0].recv(1000).startswith(b"HTTP/1.0 200")


def test_a_body_that_stops_is_a_timeout_for_the_application(gunicorn: Gunicorn) -> None:
    server = gunicorn("read", constants={"Worker.exchange_seconds": 0.4})
    stop = threading.Event()
    with server.connect() as connection:
        connection.sendall(b"POST / HTTP/1.1\r\nHost: here\r\nContent-Length: 1000\r\n\r\n")
        # Bytes that keep coming, but slowly, do not help.
        threading.Thread(target=_trickle, args=(connection, b"a", stop)).start()
        assert connection.recv(1000).startswith(b"HTTP/1.1 408")
        stop.set()
    assert _ask(server, "/") == b"0"


def test_clients_that_do_not_read_their_answers_free_the_threads(gunicorn: Gunicorn) -> None:
    server = gunicorn("large", threads=2, constants={"Worker.exchange_seconds": 0.5})
    with _connections(server, 2) as deaf:
        for connection in deaf:
            connection.sendall(b"GET /large HTTP/1.1\r\nHost: here\r\n\r\n")
        began = time.monotonic()
        assert _ask(server, "/small") == b"xx"
        assert time.monotonic() - began < 3
        time.sleep(1.5)
        for connection in deaf:  # their time is over, and with it the response
            received = 0
            with suppress(ConnectionResetError):
                while piece := connection.recv(1 << 20):
                    received += len(piece)
            assert received < 60_000_000


def test_a_full_worker_of_silent_connections_takes_new_ones(gunicorn: Gunicorn) -> None:
    server = gunicorn("hold", threads=2, constants={"worker_connections": 10})
    with _connections(server, 30) as silent:
        for _ in range(5):
            assert int(_ask(server, "/pid")) in server.workers()
        assert silent[0].recv(1) == b"", "the oldest one went"
        silent[-1].sendall(b"GET /pid HTTP/1.0\r\n\r\n")
        assert silent[-1].recv(1000).startswith(b"HTTP/1.0 200")


def test_a_client_that_does_not_close_does_not_stop_the_worker(gunicorn: Gunicorn) -> None:
    server = gunicorn("hold", threads=2)
    with _connections(server, 3) as lingering:
        began = time.monotonic()
        for connection in lingering:
            connection.sendall(b"GARBAGE\r\n\r\n")
            assert connection.recv(1000).startswith(b"HTTP/1.1 400")
        _ask(server, "/pid")
        assert time.monotonic() - began < LINGER_SECONDS


def _ask_until_closed(server: Server, started: threading.Barrier, lost: list[Exception]) -> None:
    connection = http.client.HTTPConnection(HOST, server.port, timeout=5)
    connection.connect()
    started.wait()
    try:
        while True:
            connection.request("GET", "/pid")
            answer = connection.getresponse()
            if len(answer.read()) != 10 or answer.will_close:
                return
    except (OSError, http.client.HTTPException) as error:
        lost.append(error)
    finally:
        connection.close()


def test_sigterm_loses_no_request_of_a_kept_alive_connection(gunicorn: Gunicorn) -> None:
    server = gunicorn("hold", workers=2, threads=4)
    lost: list[Exception] = []
    started = threading.Barrier(13)
    clients = [threading.Thread(target=_ask_until_closed, args=(server, started, lost)) for _ in range(12)]
    for client in clients:
        client.start()
    started.wait()
    time.sleep(0.3)
    server.signal(signal.SIGTERM)
    for client in clients:
        client.join()
    assert lost == []
    assert server.wait() == 0


def test_sigterm_loses_no_connection_that_waits_for_a_thread(gunicorn: Gunicorn, run_dir: Path) -> None:
    server = gunicorn("hold", threads=2)
    held = [Held(server, run_dir, name) for name in ("first", "second")]
    with _connections(server, 5) as waiting:
        for connection in waiting:
            connection.sendall(b"GET /pid HTTP/1.0\r\n\r\n")
        time.sleep(0.2)
        server.signal(signal.SIGTERM)
        time.sleep(0.2)
        for one in held:
            one.let_go()
        assert [connection.recv(1000)[:15] for connection in waiting] == [b"HTTP/1.0 200 OK"] * 5
    assert server.wait() == 0


SIGNALLED_EARLY = """
_hand_over = post_fork
def post_fork(server, worker):
    _hand_over(server, worker)
    if worker.age == 1:
        os.kill(os.getpid(), 15)  # the worker does not listen yet
"""


def test_a_sigterm_right_after_the_fork_is_heard(serve: Serve, tmp_path: Path) -> None:
    port, conf = free_port(), tmp_path / "gunicorn.conf.py"
    conf.write_text(CONF.read_text("utf-8") + SIGNALLED_EARLY, "utf-8")
    environ = {
        "BERTH_HOST": HOST,
        "BERTH_PORT": str(port),
        "BERTH_WORKERS": "1",
        "PYTHONPATH": str(Path(__file__).parents[1]),
    }
    server = serve([sys.executable, "-m", "gunicorn", "-c", str(conf), "live.apps:hold"], environ, port)
    wait_until(lambda: server.log().count("Booting worker") == 2, "the first worker to end, and one in its place")
    assert server.log().count("Worker exiting") == 1


class Load:
    """Clients that count what they sent and what was answered, until stopped."""

    def __init__(self, server: Server, clients: int) -> None:
        self.sent = self.answered = 0
        self._server = server
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._run) for _ in range(clients)]

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _run(self) -> None:
        connection = http.client.HTTPConnection(HOST, self._server.port, timeout=5)
        while not self._stop.is_set():
            with self._lock:
                self.sent += 1
            try:
                connection.request("GET", "/")
                connection.getresponse().read()
            except (OSError, http.client.HTTPException):
                connection.close()
                continue
            with self._lock:
                self.answered += 1
        connection.close()


def _sample(text: bytes, name: str) -> float:
    found: Any = re.search(rf"^{re.escape(name)}(?:{{[^}}]*}})? (\S+)$", text.decode(), re.MULTILINE)
    return float(found[1]) if found else 0.0


def _left_nothing(run_dir: Path, pid: int) -> bool:
    return not any(run_dir.rglob(f"*{pid}*"))


def test_counts_survive_sigkill_and_their_files_do_not_pile_up(gunicorn: Gunicorn, run_dir: Path) -> None:
    server = gunicorn("count", workers=2, threads=4)
    files: list[int] = []
    with Load(server, clients=4) as load:
        for _ in range(5):
            time.sleep(0.2)
            victim = max(server.workers())
            (run_dir / "workers" / f"{victim}.json").touch()
            (run_dir / f"stuck-{victim}").touch()
            os.kill(victim, signal.SIGKILL)
            wait_until(partial(_left_nothing, run_dir, victim), "the dead worker's files to be merged")
            _ask(server, "/metrics")
            server.wait_workers(2)
            files.append(len(list((run_dir / "metrics").iterdir())))
    told = _ask(server, "/metrics")
    assert load.answered > 100
    # A request may have been counted whose answer died with its worker; none may be missing.
    assert load.answered <= _sample(told, "berth_requests_total") <= load.sent
    assert _sample(told, "berth_request_duration_seconds_count") == pytest.approx(
        _sample(told, "berth_requests_total"), abs=5
    )
    assert _sample(told, "berth_inflight") <= 2
    assert max(files) <= 2 * 5 + 4, "five files a live worker, two of the dead, two locks"


def test_a_failing_merge_neither_ends_the_server_nor_loses_counts(gunicorn: Gunicorn, run_dir: Path) -> None:
    server = gunicorn("count", workers=1)
    _ask(server, "/")
    (victim,) = server.workers()
    blocked = run_dir / "metrics" / "counter_dead.part"
    blocked.mkdir()
    os.kill(victim, signal.SIGKILL)
    wait_until(lambda: "not merged yet" in server.log(), "the failure to be logged")
    assert _sample(_ask(server, "/metrics"), "berth_requests_total") == 1
    blocked.rmdir()
    (second,) = server.wait_workers(1)
    os.kill(second, signal.SIGKILL)
    wait_until(lambda: not list(run_dir.rglob(f"*_{victim}.db")), "the merge to be made up for")
    assert _sample(_ask(server, "/metrics"), "berth_requests_total") == 1


def test_a_replacement_takes_no_connection_before_it_has_loaded(gunicorn: Gunicorn, run_dir: Path) -> None:
    server = gunicorn("loading", workers=1)
    assert _ask(server, "/") == b"respawned=False"
    (run_dir / "all-ready").touch()
    (victim,) = server.workers()
    os.kill(victim, signal.SIGKILL)
    wait_until((run_dir / "loading").exists, "the replacement to load")
    with pytest.raises(TimeoutError):
        _ask(server, "/", timeout=0.3)
    (run_dir / "loaded").touch()
    assert _ask(server, "/") == b"respawned=True"


def _descriptors(worker: int) -> int:
    """How many a process has room for."""
    found = re.search(r"^FDSize:\s*(\d+)$", Path(f"/proc/{worker}/status").read_text("ascii"), re.MULTILINE)
    return int(found[1]) if found else 0


def test_connections_never_wait_for_a_table_of_descriptors_to_grow(gunicorn: Gunicorn) -> None:
    server = gunicorn("hold", workers=2, constants={"worker_connections": 3000})
    workers = server.wait_workers(2)
    wait_until(lambda: all(_descriptors(worker) > 3000 for worker in workers), "room for all descriptors", 5)
