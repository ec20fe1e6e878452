"""How a worker learns that it must stop, and the connections that it still takes then."""

from __future__ import annotations

import select
import signal
import socket
from collections.abc import Callable, Iterable
from contextlib import suppress
from queue import Empty, SimpleQueue


def has_come(wanted: signal.Signals, signals: SimpleQueue[int]) -> bool:
    """Whether a signal is among those that wait; none waits afterwards."""
    found = False
    with suppress(Empty):
        while True:
            found |= signals.get_nowait() == wanted
    return found


def take_backlog(listeners: Iterable[socket.socket], accept: Callable[[socket.socket], None], most: int) -> None:
    """Accept what the kernel accepted before it stopped listening, `most` connections of each listener at most.

    To its client such a connection is open, with a request on its way: closing the listener would reset it.
    """
    for listener in listeners:
        waiting = select.poll()
        waiting.register(listener, select.POLLIN)
        for _ in range(most):
            if not waiting.poll(0):
                break
            accept(listener)
