"""A stream's socket on a thread of its own: waits with a limit, reads only what is wanted, writes as the client reads.

The socket is the worker's and does not block; waiting is `poll`, in steps that notice when the worker stops. What the
client sends beyond what is read stays in the kernel, whose window stops the client: TCP is the back-pressure.
"""

from __future__ import annotations

import select
import socket
import time
from collections.abc import Callable

from berth.worker.stream_body import ChunkedBody, LineBuffer, SizedBody

_PIECE_BYTES = 65536
# How soon a stopping worker is noticed.
_STEP_SECONDS = 0.25
_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


class StreamSocket:
    """The two directions of one stream. `received` is what of the body came with the head."""

    def __init__(
        self,
        sock: socket.socket,
        received: bytes,
        body: ChunkedBody | SizedBody,
        most_line_bytes: int,
        is_stopping: Callable[[], bool],
        *,
        chunks_out: bool = True,
        idle_seconds: float = 75.0,
        write_seconds: float = 30.0,
    ) -> None:
        self._sock, self._body, self._received = sock, body, received
        self._lines = LineBuffer(most_line_bytes)
        self._is_stopping = is_stopping
        self._chunks_out = chunks_out
        self._idle_seconds, self._write_seconds = idle_seconds, write_seconds
        self._ended = False
        # Why no more lines come, though the client did not end the stream: an exception, or None.
        self.cut: Exception | None = None

    def send_continue(self) -> None:
        """Let a client send that waits for it."""
        self._send(_CONTINUE)

    def _wait(self, event: int, seconds: float) -> bool:
        poll = select.poll()
        poll.register(self._sock, event)
        return bool(poll.poll(max(0, int(seconds * 1000))))

    def _read_more(self, seconds: float) -> bool:
        """Read one piece, waiting for it at most so long; whether there was one, or the end."""
        data, self._received = self._received, b""
        if not data and not self._ended:
            if not self._wait(select.POLLIN, seconds):
                return False
            try:
                data = self._sock.recv(_PIECE_BYTES)
            except BlockingIOError:
                return False
            except OSError:  # a reset
                data = b""
            if not data:
                self._end(ConnectionError("the client closed the connection within its stream"))
                return True
        self._feed(data)
        return True

    def _feed(self, data: bytes) -> None:
        self._lines.feed(self._body.feed(data))
        if self._body.broken is not None:
            self._end(self._body.broken)
        elif self._body.ended:
            self._lines.finish()
            self._end(None)

    def _end(self, cut: Exception | None) -> None:
        self._ended, self.cut = True, cut

    def read_lines(self, most: int, seconds: float) -> list[tuple[int, bytes | None]]:
        """Up to `most` lines: what comes within `seconds` of the first. Empty at the stream's end, see `cut`."""
        silent_since = time.monotonic()
        until: float | None = None
        while len(self._lines) < most and not self._ended:
            now = time.monotonic()
            if until is None and len(self._lines):
                until = now + seconds
            if self._is_stopping():
                self._end(InterruptedError("the server stops; send the rest of the stream again"))
            elif until is not None and now >= until:
                break
            elif until is None and now - silent_since > self._idle_seconds:
                self._end(TimeoutError(f"no line came within {self._idle_seconds:g} s"))
            else:
                self._read_more(_STEP_SECONDS if until is None else min(_STEP_SECONDS, until - now))
        return self._lines.take(most)

    def write(self, data: bytes) -> None:
        """Send a piece of the response's body. Raises OSError where the client is gone, or reads nothing."""
        if data:
            self._send(b"%x\r\n%s\r\n" % (len(data), data) if self._chunks_out else data)

    def write_head(self, head: bytes) -> None:
        """Send the head of the response."""
        self._send(head)

    def finish(self) -> None:
        """Say that the response is whole; without this the client sees that it is not."""
        if self._chunks_out:
            self._send(b"0\r\n\r\n")

    def _send(self, data: bytes) -> None:
        view, since = memoryview(data), time.monotonic()
        while view:
            try:
                sent = self._sock.send(view)
            except BlockingIOError:
                sent = 0
            if sent:
                view, since = view[sent:], time.monotonic()
            elif time.monotonic() - since > self._write_seconds:
                raise TimeoutError(f"the client read nothing for {self._write_seconds:g} s")
            else:
                self._wait(select.POLLOUT, _STEP_SECONDS)
