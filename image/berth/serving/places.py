"""Where predictions compute: so many at once in a worker, and since when each does."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Self


class ComputePlaces:
    """`count` places, each held by one thread for one call. Safe for any thread; `clock` is monotonic seconds."""

    def __init__(self, count: int, clock: Callable[[], float] = time.monotonic) -> None:
        self.count = count
        self._clock = clock
        # A lock does for one place, and is many times quicker than a semaphore.
        self._free = threading.Lock() if count == 1 else threading.Semaphore(count)
        # Of each thread that holds a place: since when, and how many seconds its call is expected to take.
        self._calls: dict[int, tuple[float, float]] = {}

    def take(self, seconds: float | None = None) -> bool:
        """Wait up to `seconds` for a place; None does not wait. Whether there was one."""
        if seconds is None:
            taken = self._free.acquire(blocking=False)
        else:
            taken = self._free.acquire(timeout=min(max(0.0, seconds), threading.TIMEOUT_MAX))
        if taken:
            self._calls[threading.get_ident()] = (self._clock(), 0.0)
        return taken

    def expect(self, seconds: float) -> None:
        """The thread's call, which begins now, should take so long."""
        self._calls[threading.get_ident()] = (self._clock(), seconds)

    def give_back(self) -> None:
        """The thread's call is over."""
        self._calls.pop(threading.get_ident(), None)
        self._free.release()

    def __enter__(self) -> Self:
        self.take(threading.TIMEOUT_MAX)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.give_back()

    def running(self) -> list[tuple[float, float]]:
        """Of each place that is held: the seconds since its call began, and those it was expected to take."""
        now = self._clock()
        return [(now - since, expected) for since, expected in list(self._calls.values())]

    def ages(self) -> list[float]:
        """For how many seconds each place that is held has been computing."""
        return [age for age, _ in self.running()]

    def all_older(self, seconds: float) -> bool:
        """Whether every place is held by a call of more than `seconds`: nothing that needs a place is served."""
        ages = self.ages()
        return len(ages) >= self.count and min(ages) > seconds
