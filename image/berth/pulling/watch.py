"""An end to a transfer that is too slow, from outside of the read that waits for it."""

from __future__ import annotations

import struct
import threading
from collections.abc import Mapping
from contextlib import suppress
from socket import SHUT_RDWR, SO_LINGER, SOL_SOCKET, socket
from typing import Any, Self

from berth.pulling.transfer import LEAST_BYTES, Cut


class Watch:
    """Cuts a transfer that brings less than LEAST_BYTES in each `seconds`.

    A read's timeout begins again with every byte, so a server that sends one a second is never too slow for it. This
    thread shuts the socket down instead, wherever in the response the reader waits: headers, chunk sizes, or the body.
    """

    def __init__(self, seconds: float) -> None:
        self.cut = False
        self._seconds = seconds
        self._moved = 0
        self._socket: socket | None = None
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def trace(self, event: str, info: Mapping[str, Any]) -> None:
        """What httpcore calls at every step: note the connection's socket, and after it TLS's."""
        if (find := getattr(info.get("return_value"), "get_extra_info", None)) is not None:
            self._socket = find("socket")
            if self.cut:
                self._shut_down()

    def count(self, size: int) -> None:
        """So many bytes have come."""
        self._moved += size

    def error(self, shown: str) -> Cut:
        """What happened."""
        return Cut(f"{shown} sent less than {LEAST_BYTES} bytes in {self._seconds:g} seconds")

    def _watch(self) -> None:
        while not self._over.wait(self._seconds):
            moved, self._moved = self._moved, 0
            if moved < LEAST_BYTES:
                self.cut = True
                return self._shut_down()
        return None

    def _shut_down(self) -> None:
        """Wake the reader, and leave it nothing: a peer that sends on would be read in spite of a shutdown."""
        with suppress(OSError):
            if self._socket is not None:  # not SSLSocket's method, after which reads would be plain ones
                # Reset, or a peer whose window is full goes on probing a connection that has ended.
                self._socket.setsockopt(SOL_SOCKET, SO_LINGER, struct.pack("ii", 1, 0))
                socket.shutdown(self._socket, SHUT_RDWR)
                self._socket.close()
