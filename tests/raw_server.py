"""A server that sends exactly the bytes it is given, as slowly as it is told to: what no honest one does."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

# Sends an answer to the request for a path; returns when it is done, and the connection closes.
Answer = Callable[[str, "Connection"], None]


@dataclass
class Connection:
    """One request's socket; `over` is set when the server is to stop."""

    socket: socket.socket
    head: str
    over: threading.Event

    def send(self, data: bytes) -> None:
        """All of it at once."""
        self.socket.sendall(data)

    def trickle(self, data: bytes, seconds: float = 0.02) -> None:
        """A byte at a time, with a pause before each; no more when the server stops."""
        for at in range(len(data)):
            if self.over.wait(seconds):
                return
            self.socket.sendall(data[at : at + 1])


@dataclass
class RawServer:
    """Where it is, and the request lines and heads that came."""

    url: str = ""
    heads: list[str] = field(default_factory=list)

    def paths(self) -> list[str]:
        """What was asked for, in order."""
        return [head.split(" ")[1] for head in self.heads]


def _read_head(connection: socket.socket) -> str:
    head = b""
    while b"\r\n\r\n" not in head and (more := connection.recv(65536)):
        head += more
    return head.decode("latin-1")


@contextmanager
def serve_raw(answer: Answer, context: ssl.SSLContext | None = None) -> Iterator[RawServer]:
    """Each connection's one request answered by `answer`, on a free port, for the block; over TLS with a context."""
    over, state, threads = threading.Event(), RawServer(), list[threading.Thread]()

    def handle(connection: socket.socket) -> None:
        with connection, suppress(OSError):
            connection.settimeout(20)
            if head := _read_head(connection):
                state.heads.append(head)
                answer(head.split(" ")[1], Connection(connection, head, over))

    def accept(listening: socket.socket) -> None:
        while not over.is_set():
            with suppress(TimeoutError, ssl.SSLError):
                connection, _ = listening.accept()
                connection = context.wrap_socket(connection, server_side=True) if context else connection
                threads.append(threading.Thread(target=handle, args=(connection,)))
                threads[-1].start()

    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.settimeout(0.05)
        state.url = f"{'https' if context else 'http'}://127.0.0.1:{listening.getsockname()[1]}"
        accepting = threading.Thread(target=accept, args=(listening,))
        accepting.start()
        try:
            yield state
        finally:
            over.set()
            accepting.join()
            for thread in threads:
                thread.join()
