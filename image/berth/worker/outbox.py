"""What a thread of the pool writes a response to: never waits for the client."""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Any, NamedTuple

# A response in pieces whose client does not keep up; Berth's own come in one piece.
_MOST_UNSENT_BYTES = 16 << 20


class Outbox:
    """Sends what the connection accepts at once and keeps the rest, which the main thread sends.

    gunicorn's Response takes it for a socket. The head waits for the first piece of the body: one packet, not two.
    """

    def __init__(self, sock: socket.socket, on_hurry: Callable[[Outbox, float], None] | None = None) -> None:
        self._sock = sock
        self._on_hurry = on_hurry
        # Makes the response to a request whose time is over; and who responds: setdefault lets one be first.
        self._expire: Callable[[], Any] | None = None
        self._answers: dict[str, str] = {}
        self._head: bytes | None = b""
        self.unsent: list[memoryview] = []

    def watch(self, expire: Callable[[], Any]) -> None:
        """Let the main thread respond with `expire()` when the request's time is over. The pipeline calls this."""
        self._expire = expire

    def hurry(self, deadline: float) -> None:
        """The client gave its request less time: until `deadline` (monotonic)."""
        if self._on_hurry is not None:
            self._on_hurry(self, deadline)

    def claim(self, who: str = "thread") -> bool:
        """Whether `who` responds to the request: the first to claim it does."""
        if self._answers.setdefault("by", who) != who:
            return False
        self._expire = None  # it refers to the request, which refers to this: a cycle would keep large bodies for long
        return True

    def expire(self) -> Any:
        """The response (web's Finished) for a request that is out of time; None where nothing may respond."""
        make = self._expire
        return make() if make is not None and self.claim("main") else None

    def sendall(self, data: bytes) -> None:
        """Send, or keep. Raises OSError when the client is gone, or takes too little of a response in many pieces."""
        if self._answers.get("by") == "main":
            raise BrokenPipeError("the request's time ran out, and its client has had the response")
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
