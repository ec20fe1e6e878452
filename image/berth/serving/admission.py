"""How many predictions may be inside one worker, and how old the oldest is.

The gate counts before a body is read, so that a refusal costs microseconds and no memory. It is the queue's
only bound: gunicorn's threads outnumber it, so that probes always find one free.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from berth.errors import Overloaded


class Gate:
    """Admits up to `max_inflight` predictions; knows when each began. Safe for any thread."""

    def __init__(self, max_inflight: int, on_change: Callable[[int], None] = lambda inside: None) -> None:
        self._max_inflight = max_inflight
        self._on_change = on_change
        self._lock = threading.Lock()
        self._began: dict[int, float] = {}
        self._next = 0
        self._reported = 0
        # Predictions that have arrived and that one thread will serve one after the other: they are in flight too.
        self.waiting = 0
        # New connections are better left to another worker: this one can begin no prediction.
        self.paused = False

    def enter(self) -> int:
        """A ticket for `leave`. Raises Overloaded, with Retry-After, when the worker is full."""
        with self._lock:
            if len(self._began) + self.waiting >= self._max_inflight:
                self._report()
                raise Overloaded(
                    f"this worker already has {self._max_inflight} predictions in flight; try again in a second",
                    headers={"Retry-After": "1"},
                )
            self._next += 1
            ticket = self._next
            self._began[ticket] = time.monotonic()
            self._report()
        return ticket

    def leave(self, ticket: int) -> None:
        """Give a ticket back."""
        with self._lock:
            del self._began[ticket]
            self._report()

    def report(self) -> None:
        """Report the predictions in flight where `waiting` was changed and no ticket came or went since."""
        if self._reported != len(self._began) + self.waiting:
            with self._lock:
                self._report()

    def _report(self) -> None:
        """The caller holds the lock, or two threads leave a stale number."""
        if (inside := len(self._began) + self.waiting) != self._reported:
            self._reported = inside
            self._on_change(inside)

    @property
    def inside(self) -> int:
        """Predictions in flight now: those that have begun, and those that have arrived."""
        return len(self._began) + self.waiting

    @property
    def is_full(self) -> bool:
        """Whether the next prediction would be refused."""
        return self.inside >= self._max_inflight

    def oldest_seconds(self) -> float:
        """Age of the oldest prediction in flight; 0 when there is none."""
        with self._lock:
            # Dictionaries keep their order: the first is the oldest.
            began = next(iter(self._began.values()), None)
        return 0.0 if began is None else time.monotonic() - began
