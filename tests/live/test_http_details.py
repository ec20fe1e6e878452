"""HTTP's details on real sockets: one answer whichever way a request goes, and connections that end as they should."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from berth.loaders.formats import LoadOptions
from berth.publishing.adding import AddRequest, add_version
from live.berths import running_ready
from live.server import Server

pytestmark = pytest.mark.live
BODY = json.dumps({"features": [5.1, 3.5, 1.4, 0.2]}).encode()
LENGTH = b"Content-Length: %d\r\n" % len(BODY)
GOOD = {"prediction": [0], "model": "iris", "version": "1"}


@pytest.fixture(scope="module")
def server(store: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One worker with iris, which answers on its main thread; bodies and responses have two seconds."""
    folder = tmp_path_factory.mktemp("details")
    artifact = next((store / "iris" / "1").glob("*.joblib"))
    add_version(folder / "store", artifact, AddRequest("iris"), LoadOptions(accelerate="require"))
    own = {"workers": 1, "max_body_bytes": 1 << 20, "request_timeout_seconds": 2}
    with running_ready(folder / "store", folder, **own) as server:
        yield server


class Client:
    """One connection, and what comes from it."""

    def __init__(self, server: Server) -> None:
        self.socket = server.connect(10)
        self._stream = self.socket.makefile("rb")

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *exc: object) -> None:
        self._stream.close()
        self.socket.close()

    def receive(self) -> tuple[int, dict[bytes, bytes], Any]:
        """Status, fields and document of the next response; 0 at the end."""
        line = self._stream.readline()
        if not line:
            return 0, {}, None
        fields = dict(field.strip().lower().split(b": ", 1) for field in iter(self._stream.readline, b"\r\n"))
        body = self._stream.read(int(fields.get(b"content-length", 0)))
        return int(line.split()[1]), fields, json.loads(body) if body else None


def head(line: bytes = b"POST /predict HTTP/1.1", *fields: bytes) -> bytes:
    """A request's head with its own fields behind the usual ones."""
    return b"\r\n".join([line, b"Host: here", b"Content-Type: application/json", *fields]) + b"\r\n"


@pytest.mark.parametrize(
    "request_head",
    [
        head(),
        head(b"POST http://here/predict HTTP/1.1"),
        head(b"POST /pr%65dict HTTP/1.1"),
        head(b"POST /predict?a=b HTTP/1.1"),
        head(b"POST /predict HTTP/1.0"),
        head(b"POST /predict HTTP/1.0", b"Connection: keep-alive"),
        head(b"POST /predict HTTP/1.1", b"X-Forwarded-For: 10.0.0.1", b"X-Forwarded-Proto: https"),
        head(b"POST /predict HTTP/1.1", b"X-Forwarded-Proto: https", b"X-Forwarded-Ssl: on"),
        head(b"POST /predict HTTP/1.1", b"X_Forwarded_For: 10.0.0.1"),
        head(b"POST /predict HTTP/1.1", b"Path_Info: /livez"),
        head(b"POST /predict HTTP/1.1", b"Expect: 100-continue"),
        head(b"POST /predict HTTP/1.1", b"Connection: close"),
    ],
    ids=lambda data: b" ".join([data.split(b"\r\n")[0], *data.split(b"\r\n")[3:-1]]).decode(),
)
@pytest.mark.parametrize("cut", [0, 5], ids=["whole", "in pieces"])
def test_one_answer_whichever_way(server: Server, request_head: bytes, cut: int) -> None:
    data = request_head + LENGTH + b"\r\n" + BODY
    with Client(server) as client:
        client.socket.sendall(data[: len(data) - cut])
        time.sleep(0.05 if cut else 0)
        client.socket.sendall(data[len(data) - cut :])
        status, fields, document = client.receive()
        if status == 100:
            status, fields, document = client.receive()
        assert (status, document) == (200, GOOD)
        assert fields[b"x-berth-model"] == b"iris@1"


def test_a_client_that_expects_100_is_answered_before_its_body(server: Server) -> None:
    with Client(server) as client:
        client.socket.sendall(head(b"POST /predict HTTP/1.1", b"Expect: 100-continue") + LENGTH + b"\r\n")
        assert client.receive()[0] == 100
        client.socket.sendall(BODY)
        assert client.receive()[2] == GOOD
        # Too long: the final answer at once, and no permission to send.
        client.socket.sendall(head(b"POST /predict HTTP/1.1", b"Expect: 100-continue", b"Content-Length: 9999999", b""))
        assert client.receive()[0] == 413
        assert client.receive()[0] == 0


@pytest.mark.parametrize("connection", [b"close", b"keep-alive, close", b"Close, keep-alive"])
@pytest.mark.parametrize("line", [b"POST /predict HTTP/1.1", b"POST /predict?pooled HTTP/1.1"])
def test_close_among_the_words_of_connection_closes(server: Server, line: bytes, connection: bytes) -> None:
    with Client(server) as client:
        client.socket.sendall(head(line, b"Connection: " + connection) + LENGTH + b"\r\n" + BODY)
        status, fields, _ = client.receive()
        assert (status, fields[b"connection"]) == (200, b"close")
        assert client.receive()[0] == 0


def test_the_next_request_may_have_come_already(server: Server) -> None:
    quick = head() + LENGTH + b"\r\n" + BODY
    pooled = head(b"POST /predict?pooled HTTP/1.1") + LENGTH + b"\r\n" + BODY
    chunked = head(b"POST /predict HTTP/1.1", b"Transfer-Encoding: chunked", b"")
    chunked += b"%x\r\n%s\r\n0\r\n\r\n" % (len(BODY), BODY)
    with Client(server) as client:
        client.socket.sendall((quick + pooled + chunked) * 5 + b"GARBAGE\r\n\r\n")
        assert [client.receive()[2] for _ in range(15)] == [GOOD] * 15
        assert client.receive()[0] == 400
        assert client.receive()[0] == 0


def test_a_client_that_closes_its_side_gets_its_answers(server: Server) -> None:
    with Client(server) as client:
        client.socket.sendall((head() + LENGTH + b"\r\n" + BODY) * 2)
        client.socket.shutdown(socket.SHUT_WR)
        assert [client.receive()[0] for _ in range(3)] == [200, 200, 0]


@pytest.mark.parametrize("framing", [LENGTH, b"Transfer-Encoding: chunked\r\n"], ids=["length", "chunks"])
def test_a_body_has_one_deadline_however_its_bytes_trickle(server: Server, framing: bytes) -> None:
    began = time.monotonic()
    with Client(server) as client:
        client.socket.sendall(head() + framing + b"\r\n")
        piece = b" " if framing == LENGTH else b"1\r\n \r\n"
        client.socket.settimeout(0.1)
        answer = b""
        while not answer and time.monotonic() - began < 6:
            client.socket.sendall(piece)
            try:
                answer = client.socket.recv(65536)
            except TimeoutError:
                continue
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert b'"code":"body_timeout"' in answer
    assert 1.5 < time.monotonic() - began < 4


def test_of_too_many_unfinished_bodies_the_oldest_goes(server: Server) -> None:
    # Eight bodies of the greatest size are held; ten of nearly that size are begun, one after the other.
    clients = [Client(server) for _ in range(10)]
    for client in clients:
        client.socket.sendall(head(b"POST /predict HTTP/1.1", b"Content-Length: 1000000", b"") + b" " * 999_000)
        time.sleep(0.05)
    assert [client.receive()[0] for client in clients[:1]] == [429]
    with Client(server) as honest:
        honest.socket.sendall(head() + LENGTH + b"\r\n" + BODY)
        assert honest.receive()[2] == GOOD
    for client in clients:
        client.__exit__()
