"""What a thread of the pool writes a response to: never waits for the client."""

from __future__ import annotations

import socket
from typing import Any, NamedTuple

# A response in pieces whose client does not keep up; Berth's own come in one piece.
_MOST_UNSENT_BYTES = 16 << 20


class Outbox:
    """Sends what the connection accepts at once and keeps the rest, which the main thread sends.

    gunicorn's Response takes it for a socket. The head waits for the first piece of the body: one packet, not two.
    """

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._head: bytes | None = b""
        self.unsent: list[memoryview] = []

    def sendall(self, data: bytes) -> None:
        """Send, or keep. Raises OSError when the client is gone, or takes too little of a response in many pieces."""
        if self._head == b"":
            self._head = data
            return
        pieces, self._head = ([data] if self._head is None else [self._head, data]), None
        if sum(map(len, self.unsent)) > _MOST_UNSENT_BYTES:
            raise BrokenPipeError(f"the client has not read {_MOST_UNSENT_BYTES} bytes of its response")
        sent = 0
        if not self.unsent:
            try:
                sent = self._sock.sendmsg(pieces)
            except BlockingIOError:
                sent = 0
        for piece in pieces:
            rest = memoryview(piece)[sent:]
            sent = max(0, sent - len(piece))
            if rest:
                self.unsent.append(rest)

    def flush(self) -> None:
        """Send the head of a response without a body."""
        if self._head:
            self.sendall(b"")

    def shutdown(self, how: int) -> None:
        """gunicorn closes a connection whose response broke off; here the main thread does that."""
        raise OSError("the main thread closes")

    def close(self) -> None:
        """As `shutdown`."""


class Channel(NamedTuple):
    """What gunicorn's `handle_request` needs of a connection."""

    sock: Outbox
    client: Any
    server: Any
