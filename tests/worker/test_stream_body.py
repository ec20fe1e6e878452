"""A stream's bytes, however they are cut: chunks, lines, the socket, and the back-pressure."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator

import pytest

from berth.worker.receiving import BrokenBody
from berth.worker.stream_body import ChunkedBody, LineBuffer, SizedBody
from berth.worker.stream_socket import StreamSocket

CHUNKS = b"5;x=1\r\nab\ncd\r\n3\r\ne\nf\r\n0\r\nTrailer: x\r\n\r\n"


@pytest.mark.parametrize("step", [1, 2, 3, 7, 100])
def test_chunks_are_undone_however_they_are_cut(step: int) -> None:
    body = ChunkedBody()
    found = b"".join(body.feed(CHUNKS[at : at + step]) for at in range(0, len(CHUNKS), step))
    assert (found, body.ended) == (b"ab\ncde\nf", True)
    assert body.feed(b"GET / HTTP/1.1\r\n") == b""


@pytest.mark.parametrize("data", [b"x\r\n", b"5\nabcde\r\n", b"2\r\nabc\r\n", b"-1\r\n", b"1" * 9000, b"\r\n"])
def test_broken_chunks(data: bytes) -> None:
    body = ChunkedBody()
    assert body.feed(b"3\r\nab\n\r\n" + data).startswith(b"ab\n")
    assert isinstance(body.broken, BrokenBody)
    assert body.feed(b"1\r\nc\r\n") == b""


def test_a_sized_body_ends() -> None:
    body = SizedBody(3)
    assert (body.feed(b"ab"), body.ended) == (b"ab", False)
    assert (body.feed(b"cd"), body.ended) == (b"c", True)


@pytest.mark.parametrize("step", [1, 4, 100])
def test_lines_keep_their_numbers(step: int) -> None:
    lines = LineBuffer(5)
    data = b"a\n\n  \r\nbb\r\n" + b"c" * 20 + b"\nddddd\nlast"
    for at in range(0, len(data), step):
        lines.feed(data[at : at + step])
    lines.finish()
    wanted = [(1, b"a"), (4, b"bb\r"), (5, None), (6, b"ddddd"), (7, b"last")]
    assert lines.take(2) + lines.take(99) == wanted
    assert lines.take(1) == []


def test_a_long_line_is_not_kept() -> None:
    lines = LineBuffer(10)
    for _ in range(1000):
        lines.feed(b"x" * 1000)
    assert sum(map(len, lines._parts)) <= 10


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    """The worker's end, which does not block, and the client's."""
    worker, client = socket.socketpair()
    worker.setblocking(False)
    client.settimeout(10)
    yield worker, client
    worker.close()
    client.close()


def test_a_lone_line_does_not_wait_for_more(pair: tuple[socket.socket, socket.socket]) -> None:
    worker, client = pair
    ends = StreamSocket(worker, b"4\r\n[1]\n\r\n", ChunkedBody(), 100, lambda: False)
    assert ends.read_lines(1000, 0.05) == [(1, b"[1]")]
    client.sendall(b"8\r\n[2]\n[3]\n\r\n0\r\n\r\n")
    assert ends.read_lines(1000, 0.05) == [(2, b"[2]"), (3, b"[3]")]
    assert ends.read_lines(1000, 0.05) == []
    assert ends.cut is None


@pytest.mark.parametrize(
    ("data", "closes", "kind"), [(b"zz\r\n", False, BrokenBody), (b"4\r\n[1]\n", True, ConnectionError)]
)
def test_a_stream_that_is_cut(
    pair: tuple[socket.socket, socket.socket], data: bytes, closes: bool, kind: type[Exception]
) -> None:
    worker, client = pair
    ends = StreamSocket(worker, b"", ChunkedBody(), 100, lambda: False)
    client.sendall(data)
    if closes:
        client.close()
    while ends.read_lines(10, 0.05):
        pass
    assert isinstance(ends.cut, kind)


def test_silence_and_a_stop_end_a_stream(pair: tuple[socket.socket, socket.socket]) -> None:
    worker, _ = pair
    silent = StreamSocket(worker, b"", ChunkedBody(), 100, lambda: False, idle_seconds=0.01)
    assert silent.read_lines(10, 0.05) == []
    assert isinstance(silent.cut, TimeoutError)
    stopped = StreamSocket(worker, b"", ChunkedBody(), 100, lambda: True)
    assert stopped.read_lines(10, 0.05) == []
    assert isinstance(stopped.cut, InterruptedError)


def test_a_writer_waits_for_its_reader_and_gives_up(pair: tuple[socket.socket, socket.socket]) -> None:
    worker, client = pair
    ends = StreamSocket(worker, b"", ChunkedBody(), 100, lambda: False, write_seconds=0.3)
    read: list[bytes] = []

    def read_slowly() -> None:
        while sum(map(len, read)) < 2_000_000:
            read.append(client.recv(65536))
            time.sleep(0.001)

    reader = threading.Thread(target=read_slowly)
    reader.start()
    ends.write(b"x" * 2_000_000)
    reader.join(20)
    with pytest.raises(TimeoutError, match="read nothing"):
        ends.write(b"y" * 8_000_000)
