"""Bodies from a raw socket: too long, cut off, in broken chunks; the server answers in its one shape and goes on."""

from __future__ import annotations

import json
import socket
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from live.berths import Serve, ask, start_ready
from live.server import Server

pytestmark = pytest.mark.live

GOOD = {"features": [0.0]}
BODY = json.dumps(GOOD).encode()


def exchange(server: Server, head: str, body: bytes, *, end: bool = False) -> tuple[int, Any]:
    """Send bytes as they are; the answer's status and document. `end` closes our side of the connection."""
    with server.connect(10) as connection:
        connection.sendall(f"POST /predict HTTP/1.1\r\nHost: x\r\n{head}\r\n\r\n".encode() + body)
        if end:
            connection.shutdown(socket.SHUT_WR)
        answer = connection.makefile("rb")
        status = int(answer.readline().split()[1])
        length = 0
        while line := answer.readline().strip():
            name, _, value = line.lower().partition(b":")
            length = int(value) if name == b"content-length" else length
        return status, json.loads(answer.read(length))


def test_bodies_that_never_come_whole(serve: Serve, sleeper_store: Path, run_dir: Path) -> None:
    server = start_ready(serve, sleeper_store, run_dir, workers=1, allow_code="true", request_timeout_seconds=2)
    length, chunked = f"Content-Length: {len(BODY)}", "Transfer-Encoding: chunked"
    chunk = f"{len(BODY):x}\r\n".encode() + BODY + b"\r\n"
    cases = [
        (length, BODY, False, 200, None),
        (chunked, chunk + b"0\r\n\r\n", False, 200, None),
        ("Content-Length: 1000000000000", b"", False, 413, "body_too_large"),
        (chunked, b"1000000\r\n" + b" " * 0x1000000 + b"\r\n1\r\n \r\n0\r\n\r\n", False, 413, "body_too_large"),
        (length, BODY[:5], False, 408, "body_timeout"),
        (chunked, chunk, False, 408, "body_timeout"),
        (length, BODY[:5], True, 400, "invalid_input"),
        (chunked, b"xyz\r\n" + BODY, False, 400, None),
        (chunked, b"-5\r\n" + BODY, False, 400, None),
        (f"{length}\r\n{chunked}", chunk, False, 400, None),
        ("Content-Length: -1", BODY, False, 400, None),
        ("Content-Length: many", BODY, False, 400, None),
        (f"{length}\r\nContent-Length: 3", BODY, False, 400, None),
    ]
    with ThreadPoolExecutor(3) as pool:  # two of them wait for their deadline
        answers = list(pool.map(lambda case: exchange(server, case[0], case[1], end=case[2]), cases))
    for (head, body, _, status, code), (found, document) in zip(cases, answers, strict=True):
        assert found == status, (head, body[:20], document)
        if status != 200:
            assert {"error", "code", "request_id"} == set(document)
            assert code in (None, document["code"])
    assert ask(server, "POST", "/predict", GOOD)[1]["prediction"] == [0]
    assert "Traceback" not in server.log()
    assert [line for line in server.log_lines() if line.get("status", 0) >= 500] == []
