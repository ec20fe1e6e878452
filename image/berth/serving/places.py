"""Where predictions compute: so many at once in a worker, and since when each does."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from types import TracebackType
from typing import Self


class ComputePlaces:
    """`count` places, each held by one thread for one call. Safe for any thread; `clock` is monotonic seconds.

    They go to who waits, in the order of arrival. A lock or semaphore of the library gives a place that is given back
    to whoever comes at that moment, so that a request that waits can be overtaken again and again.
    """

    def __init__(self, count: int, clock: Callable[[], float] = time.monotonic) -> None:
        self.count = count
        self._clock = clock
        self._lock = threading.Lock()
        self._held = 0
        # Who waits: each a lock that is released when a place is handed over.
        self._queue: deque[threading.Lock] = deque()
        # Of each thread that holds a place: since when, and how many seconds its call is expected to take.
        self._calls: dict[int, tuple[float, float]] = {}

    def take(self, seconds: float | None = None) -> bool:
        """Wait up to `seconds` for a place; None does not wait. Whether there was one."""
        with self._lock:
            if free := self._held < self.count:
                self._held += 1
        if not free and (seconds is None or not self._wait(seconds)):
            return False
        self._calls[threading.get_ident()] = (self._clock(), 0.0)
        return True

    def _wait(self, seconds: float) -> bool:
        turn = threading.Lock()
        turn.acquire()
        with self._lock:
            if self._held < self.count:  # given back since `take` looked
                self._held += 1
                return True
            self._queue.append(turn)
        if turn.acquire(timeout=min(max(0.0, seconds), threading.TIMEOUT_MAX)):
            return True
        with self._lock:
            if turn in self._queue:
                self._queue.remove(turn)
                return False
        return True  # handed over as the time ran out

    def expect(self, seconds: float) -> None:
        """The thread's call, which begins now, should take so long."""
        self._calls[threading.get_ident()] = (self._clock(), seconds)

    def give_back(self) -> None:
        """The thread's call is over."""
        self._calls.pop(threading.get_ident(), None)
        with self._lock:
            if self._queue:
                self._queue.popleft().release()
            else:
                self._held -= 1

    def __enter__(self) -> Self:
        self.take(threading.TIMEOUT_MAX)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.give_back()

    @property
    def waiting(self) -> int:
        """How many threads wait for a place."""
        return len(self._queue)

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
