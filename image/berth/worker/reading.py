"""Reading a connection within a bounded time, however slowly its bytes trickle in."""

from __future__ import annotations

import select
import socket
import time
from typing import Any

from gunicorn.http import errors
from gunicorn.http.unreader import SocketUnreader


class HeadersTimeout(errors.ParseException):  # type: ignore[misc]
    """The client stopped in the middle of its headers; made of the seconds it had."""

    def __str__(self) -> str:
        return f"the headers did not arrive within {self.args[0]:g} s"


class BrokenBody(errors.ParseException, ValueError):  # type: ignore[misc]
    """The body's chunks are not what HTTP says; an application catches it as ValueError."""


class BoundedUnreader(SocketUnreader):  # type: ignore[misc]
    """Reads a connection until a moment in time, however slowly the bytes trickle in."""

    def __init__(self, sock: socket.socket) -> None:
        super().__init__(sock)
        self._seconds = self._deadline = 0.0
        self._error: type[Exception] = HeadersTimeout

    def allow(self, seconds: float, error: type[Exception]) -> None:
        """Let reads go on for `seconds`; then they raise `error`, made of them."""
        self._seconds = seconds
        self._deadline = time.monotonic() + seconds
        self._error = error

    def chunk(self, size_hint: int | None = None) -> bytes:
        """The next bytes of the connection."""
        wait = self._deadline - time.monotonic()
        if (bound := self.sock.gettimeout()) is not None:
            wait = min(wait, bound)
        poll = select.poll()
        poll.register(self.sock, select.POLLIN)
        if wait <= 0 or not poll.poll(wait * 1000):
            raise self._error(self._seconds)
        data: bytes = super().chunk(size_hint)
        return data


class CheckedReader:
    """A body's reader, of which an application needs to know no exception of gunicorn's."""

    def __init__(self, reader: Any) -> None:
        self._reader = reader

    def read(self, size: int) -> bytes:
        """At most `size` bytes. Raises BrokenBody."""
        try:
            data: bytes = self._reader.read(size)
        except errors.ParseException as error:
            raise BrokenBody(str(error)) from error
        return data
