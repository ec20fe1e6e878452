"""Streams of rows through a real server: answers while the client sends, back-pressure, bad lines, and the drain."""

from __future__ import annotations

import json
import os
import signal
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from live.berths import Serve, ask, metric, running_ready, start_ready
from live.server import Server, wait_until

pytestmark = pytest.mark.live
ROW = b"[5.1, 3.5, 1.4, 0.2]\n"
HEAD = (
    b"POST /predict%s HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-ndjson\r\nTransfer-Encoding: chunked\r\n%s\r\n"
)


class Stream:
    """One NDJSON request over a socket, written and read in pieces."""

    def __init__(self, server: Server, query: bytes = b"", more: bytes = b"") -> None:
        self.sock = server.connect(30)
        self.sock.sendall(HEAD % (query, more))
        self.file = self.sock.makefile("rb")

    def send(self, data: bytes) -> None:
        """One chunk of the body."""
        self.sock.sendall(b"%x\r\n%s\r\n" % (len(data), data))

    def end(self) -> None:
        """The end of the body."""
        self.sock.sendall(b"0\r\n\r\n")

    def read_head(self) -> tuple[int, dict[str, str]]:
        """The status and the headers."""
        status = int(self.file.readline().split()[1])
        lines = iter(self.file.readline, b"\r\n")
        pairs = (line.decode().partition(":") for line in lines)
        return status, {name.lower(): value.strip() for name, _, value in pairs}

    def chunks(self) -> Iterator[bytes]:
        """The chunks of the response, up to its proper end."""
        while size := int(self.file.readline(), 16):
            yield self.file.read(size)
            assert self.file.readline() == b"\r\n"
        assert self.file.readline() == b"\r\n"

    def lines(self) -> list[dict[str, Any]]:
        """All lines of the response."""
        return [json.loads(line) for line in b"".join(self.chunks()).splitlines()]

    def close(self) -> None:
        """Leave."""
        self.file.close()
        self.sock.close()


@pytest.fixture(scope="module")
def server(store: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One worker over iris@1."""
    folder = tmp_path_factory.mktemp("streams")
    with running_ready(store, folder, models="iris@1", workers=1, max_body_bytes=100_000) as server:
        yield server


def test_a_line_is_answered_while_the_stream_is_open(server: Server) -> None:
    stream = Stream(server, b"?outputs=prediction", b"X-Request-Id: one\r\n")
    status, headers = stream.read_head()
    assert (status, headers["content-type"], headers["connection"]) == (200, "application/x-ndjson", "close")
    assert (headers["x-request-id"], headers["x-berth-model"]) == ("one", "iris@1")
    chunks = stream.chunks()
    for _ in range(3):
        stream.send(ROW)
        assert next(chunks) == b'{"prediction":0}\n'
    stream.end()
    assert list(chunks) == []
    assert stream.file.read() == b""  # and the connection closes
    stream.close()


def test_bad_lines_and_a_long_one(server: Server) -> None:
    stream = Stream(server)
    stream.send(ROW + b"[1]\n" + b"x" * 150_000 + b"\n" + ROW)
    stream.end()
    assert stream.read_head()[0] == 200
    first, second, third, fourth = stream.lines()
    assert first == fourth == {"prediction": 0}
    assert (second["code"], second["line"]) == ("invalid_input", 2)
    assert (third["code"], third["line"]) == ("body_too_large", 3)
    stream.close()


def test_a_body_with_its_length(server: Server, iris_rows: list[list[float]]) -> None:
    connection = server.connect(30)
    body = b"\n".join(json.dumps(row).encode() for row in iris_rows)
    head = "POST /predict HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-ndjson\r\nContent-Length: %d\r\n\r\n"
    connection.sendall((head % len(body)).encode() + body)
    answer = connection.makefile("rb").read()
    assert answer.count(b'{"prediction":') == 3
    assert answer.endswith(b"\r\n0\r\n\r\n")
    connection.close()


@pytest.mark.parametrize(
    ("query", "more", "status", "code"),
    [
        (b"?model=none", b"", 404, "model_not_found"),
        (b"", b"Content-Encoding: gzip\r\n", 415, "unsupported_media_type"),
    ],
)
def test_a_stream_that_is_refused(server: Server, query: bytes, more: bytes, status: int, code: str) -> None:
    stream = Stream(server, query, more)
    found, headers = stream.read_head()
    body = json.loads(stream.file.read(int(headers["content-length"])))
    assert (found, body["code"]) == (status, code)
    stream.close()


def test_expect_continue(server: Server) -> None:
    stream = Stream(server, more=b"Expect: 100-continue\r\n")
    assert stream.file.readline().startswith(b"HTTP/1.1 100 ")
    assert stream.file.readline() == b"\r\n"
    stream.send(ROW)
    stream.end()
    assert stream.read_head()[0] == 200
    assert stream.lines() == [{"prediction": 0}]
    stream.close()


def test_broken_chunks_end_with_an_error_line(server: Server) -> None:
    stream = Stream(server)
    stream.send(ROW)
    stream.sock.sendall(b"zz\r\n")
    assert stream.read_head()[0] == 200
    first, last = stream.lines()
    assert first == {"prediction": 0}
    assert (last["code"], last["line"]) == ("invalid_input", 2)
    stream.close()


def _memory_kb(pid: int) -> int:
    """The memory of a server's worker."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return max(int(Path(f"/proc/{child}/statm").read_text().split()[1]) * 4 for child in children)


def test_a_reader_that_stops_blocks_nobody_and_costs_no_memory(server: Server) -> None:
    stuck = Stream(server)
    stuck.sock.settimeout(0.5)
    before = _memory_kb(server.pid)
    with pytest.raises(TimeoutError):  # the kernel's buffers are full, and nobody reads
        stuck.send(ROW * 1_000_000)
    for _ in range(20):
        status, answer = ask(server, "POST", "/predict", {"features": [5.1, 3.5, 1.4, 0.2]})
        assert (status, answer["prediction"]) == (200, [0])
    assert _memory_kb(server.pid) - before < 20_000
    stuck.close()


def test_chunks_count_as_requests(server: Server) -> None:
    before = metric(server, "berth_requests_total", protocol="stream", status="200")
    stream = Stream(server)
    stream.send(ROW * 2500)
    stream.end()
    stream.read_head()
    assert len(stream.lines()) == 2500
    stream.close()
    wait_until(
        lambda: metric(server, "berth_requests_total", protocol="stream", status="200") >= before + 3, "the metric"
    )


def test_a_stop_ends_a_stream_with_an_error_line(serve: Serve, store: Path, tmp_path: Path) -> None:
    server = start_ready(serve, store, tmp_path / "run", models="iris@1", workers=1)
    stream = Stream(server)
    stream.send(ROW)
    chunks = stream.chunks()
    stream.read_head()
    assert next(chunks) == b'{"prediction":0}\n'
    os.kill(server.pid, signal.SIGTERM)
    last = json.loads(b"".join(chunks))
    assert (last["code"], last["line"]) == ("not_ready", 2)
    stream.close()


def test_a_server_that_has_served_holds_no_library_of_another_way_in(server: Server) -> None:
    """Its processes have mapped neither grpc nor librdkafka, whatever was requested."""
    assert ask(server, "POST", "/predict", {"features": [5.1, 3.5, 1.4, 0.2]})[0] == 200
    pids = [server.pid, *map(int, Path(f"/proc/{server.pid}/task/{server.pid}/children").read_text("ascii").split())]
    assert len(pids) > 1
    mapped = "".join(Path(f"/proc/{pid}/maps").read_text("utf-8") for pid in pids)
    assert "numpy" in mapped
    assert [name for name in ("cygrpc", "rdkafka", "google/_upb") if name in mapped] == []


@pytest.mark.slow
def test_a_million_rows(server: Server) -> None:
    """Within 20 MB, the first line at once, and 1 % of bad lines are 1 % of errors."""
    stream = Stream(server)
    stream.read_head()
    chunks = stream.chunks()
    stream.send(ROW)
    next(chunks)
    before = peak = _memory_kb(server.pid)
    part = (ROW * 99 + b"[1]\n") * 50
    good = bad = 0
    rest = 200

    def read() -> None:
        nonlocal good, bad
        data = next(chunks)
        good += data.count(b'"prediction"')
        bad += data.count(b'"error"')

    stream.sock.settimeout(60)

    def send() -> None:
        for _ in range(rest):
            stream.send(part)
        stream.end()

    sender = threading.Thread(target=send)
    sender.start()
    began = time.monotonic()
    while good + bad < rest * 5000:
        read()
        peak = max(peak, _memory_kb(server.pid))
    sender.join(60)
    print(f"{good + bad} rows in {time.monotonic() - began:.1f} s, {peak - before} kB more")
    assert (good, bad) == (990_000, 10_000)
    assert peak - before < 20_000
    stream.close()


def test_the_socket_of_a_stream_may_close_at_once(server: Server) -> None:
    stream = Stream(server)
    stream.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\x00\x00\x00\x00\x00\x00\x00")
    stream.close()
    assert ask(server, "GET", "/livez")[0] == 200
