"""Work of threads that nobody waits for, in pieces between which the interpreter's lock is free.

A thread that encodes for milliseconds gives the lock away once in a switch interval, and a request asks for it after
each of its system calls: every one of them would wait for an interval. One rest is longer than it takes to wake up.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from typing import TypeVar, overload

T = TypeVar("T")
_WORK_SECONDS = 50e-6
_REST_SECONDS = 50e-6


def with_rests(items: Iterable[T]) -> Iterator[T]:
    """The items; where what is done with them has taken 50 us, a rest comes before the next one."""
    end = time.perf_counter() + _WORK_SECONDS
    for item in items:
        yield item
        if time.perf_counter() >= end:
            time.sleep(_REST_SECONDS)
            end = time.perf_counter() + _WORK_SECONDS


class Unhurried(Sequence[T]):
    """A sequence for code that is not ours, which rests while it goes through it."""

    def __init__(self, items: Sequence[T]) -> None:
        self._items = items

    def __len__(self) -> int:
        return len(self._items)

    @overload
    def __getitem__(self, at: int) -> T: ...
    @overload
    def __getitem__(self, at: slice) -> Sequence[T]: ...
    def __getitem__(self, at: int | slice) -> T | Sequence[T]:
        return self._items[at]

    def __iter__(self) -> Iterator[T]:
        return with_rests(self._items)
