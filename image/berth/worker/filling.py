"""A large request of known length, received into its place: no copy and no growth on the way.

The place is memory that the system provides as bytes arrive, so that a client that announces 16 MB and sends ten bytes
occupies a page.
"""

from __future__ import annotations

import io
import socket
from typing import Any


class Filling:
    """The bytes of one request; its length is what has come."""

    def __init__(self, begun: bytes | bytearray, size: int) -> None:
        import numpy as np  # gunicorn's master, which receives nothing, imports this file

        self._place = np.empty(size, np.uint8).data
        self._place[: len(begun)] = begun
        self._filled = len(begun)

    def __len__(self) -> int:
        return self._filled

    @property
    def view(self) -> memoryview:
        """What has come."""
        return self._place[: self._filled]

    def receive(self, sock: socket.socket, at_most: int) -> int:
        """Receive up to so many bytes of the request, none beyond it; 0 at the end of the stream. Raises OSError."""
        count = sock.recv_into(self._place[self._filled : self._filled + at_most])
        self._filled += count
        return count


class _HeldBody(io.RawIOBase):
    """A body that is in memory, as a stream; what has been read to its end is let go."""

    def __init__(self, body: memoryview) -> None:
        self._rest = body

    def readable(self) -> bool:
        return True

    def readinto(self, place: Any) -> int:
        count = min(len(place), len(self._rest))
        place[:count] = self._rest[:count]
        self._rest = self._rest[count:]
        if not self._rest:
            self._rest = memoryview(b"")  # an empty part of the body would hold all of it
        return count


def open_body(body: memoryview) -> io.BufferedIOBase:
    """A stream for the application, which copies each byte once: when it is read."""
    return io.BufferedReader(_HeldBody(body))
