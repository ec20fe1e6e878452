"""Who has waited too long, found without looking at everybody."""

from __future__ import annotations

import time
from collections import OrderedDict
from typing import Generic, TypeVar

Item = TypeVar("Item")


class Deadlines(Generic[Item]):
    """Items that each have `seconds`, in the order in which their time ends: those that began first, first."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._ends: OrderedDict[Item, float] = OrderedDict()

    def __len__(self) -> int:
        return len(self._ends)

    def start(self, item: Item) -> None:
        """Give an item its whole time, from now on."""
        self._ends[item] = time.monotonic() + self._seconds
        self._ends.move_to_end(item)

    def stop(self, item: Item) -> float | None:
        """Forget an item; when its time would have ended (monotonic), None where it is not known."""
        return self._ends.pop(item, None)

    def items(self) -> list[Item]:
        """All of them, the one that began first, first."""
        return list(self._ends)

    def oldest(self) -> Item | None:
        """The one whose time ends first."""
        return next(iter(self._ends), None)

    def next_end(self) -> float:
        """When that is (monotonic); infinite without one."""
        return next(iter(self._ends.values()), float("inf"))

    def take_expired(self, most: int) -> list[Item]:
        """Up to `most` items whose time is over; they are forgotten."""
        now, expired = time.monotonic(), list[Item]()
        while len(expired) < most and self.next_end() <= now:
            expired.append(self._ends.popitem(last=False)[0])
        return expired

    def cap(self, end: float) -> None:
        """Let no deadline end later than `end`."""
        for item, own in self._ends.items():
            self._ends[item] = min(own, end)
