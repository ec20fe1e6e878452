"""Streams of rows through a real server: answers while the client sends, back-pressure, bad lines, and the drain."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from berth.score.value_texts import encode_line
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


def _make_block() -> bytes:
    """The lines of 5,000 rows, of which 1 % are wrong in one of four ways."""
    import numpy as np

    rows = np.random.default_rng(5).uniform(0.0, 8.0, (5000, 4)).round(3).tolist()
    lines = [json.dumps(row).encode() for row in rows]
    wrong = [b"[1]", b"nope", b'{"x": 1}', b"\xff\xfe"]
    lines[99::100] = [wrong[at % len(wrong)] for at in range(len(lines[99::100]))]
    return b"".join(line + b"\n" for line in lines)


def _score(store: Path, rows: Path, outputs: str) -> list[bytes]:
    """What `berth score` says of each row: its line, or that of its error."""
    found = rows.with_name("scores.jsonl")
    options = ["--store", str(store), "--model", "iris@1", "--outputs", outputs]
    command = [sys.executable, "-m", "berth", "score", str(rows), str(found), *options]
    assert subprocess.run(command, capture_output=True, timeout=120).returncode == 1  # some rows failed
    lines = found.read_bytes().splitlines(keepends=True)
    for error in map(json.loads, found.with_name(f"{found.name}.errors.jsonl").read_bytes().splitlines()):
        lines[error["row"] - 1] = encode_line({"error": error["message"], "code": error["code"], "line": error["row"]})
    return lines


def _are_equal(line: dict[str, Any], scored: dict[str, Any], number: int) -> bool:
    """Whether a line says the same: an error has its own number, and a float its last digit by the rows beside it."""
    if "error" in scored:
        return line == {**scored, "line": number}
    same: bool = line["prediction"] == scored["prediction"]
    return same and line["probabilities"] == pytest.approx(scored["probabilities"], rel=1e-12, abs=1e-15)


@pytest.mark.slow
def test_a_million_rows(server: Server, store: Path, tmp_path: Path) -> None:
    """Within 20 MB, the first line at once, every line that of `berth score`, and 1 % of bad lines 1 % of errors."""
    rows, block, blocks = tmp_path / "rows.jsonl", _make_block(), 200
    rows.write_bytes(block)
    scored = _score(store, rows, outputs := "prediction,probabilities")
    stream = Stream(server, b"?outputs=" + outputs.encode())
    stream.sock.settimeout(60)

    def send() -> None:
        for _ in range(blocks):
            stream.send(block)
        stream.end()

    before, began = _memory_kb(server.pid), time.monotonic()
    sender = threading.Thread(target=send)
    sender.start()
    assert stream.read_head()[0] == 200
    at, bad, peak, rest, first = 0, 0, before, b"", 0.0
    for chunk in stream.chunks():
        first = first or time.monotonic() - began
        *lines, rest = (rest + chunk).split(b"\n")
        for line in lines:
            start, place = divmod(at, len(scored))
            at += 1
            if line + b"\n" != scored[place]:
                assert _are_equal(json.loads(line), json.loads(scored[place]), at), f"line {at}, block {start}"
            bad += b'"error"' in line
        peak = max(peak, _memory_kb(server.pid))
    sender.join(60)
    seconds = time.monotonic() - began
    print(f"{at} rows in {seconds:.1f} s, the first lines after {first * 1000:.0f} ms, {peak - before} kB more")
    stream.close()
    assert (at, bad, rest) == (1_000_000, 10_000, b"")
    assert peak - before < 20_000


def test_the_socket_of_a_stream_may_close_at_once(server: Server) -> None:
    stream = Stream(server)
    stream.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\x00\x00\x00\x00\x00\x00\x00")
    stream.close()
    assert ask(server, "GET", "/livez")[0] == 200
