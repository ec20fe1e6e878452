"""Connections that a stopping worker still takes: those that the kernel accepted before it stopped listening."""

from __future__ import annotations

import select
import socket
from collections.abc import Callable, Iterable


def take_backlog(listeners: Iterable[socket.socket], accept: Callable[[socket.socket], None], most: int) -> None:
    """Accept what waits in the listeners' backlogs, `most` connections of each at most.

    To its client such a connection is open, with a request on its way: closing the listener would reset it.
    """
    for listener in listeners:
        waiting = select.poll()
        waiting.register(listener, select.POLLIN)
        for _ in range(most):
            if not waiting.poll(0):
                break
            accept(listener)
