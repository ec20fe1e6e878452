"""New connections whose request has yet to come: workers share a burst of them, and silent ones delay nobody."""

from __future__ import annotations

import time

from berth.worker.connections import Connection
from berth.worker.deadlines import Deadlines

# How long a new connection counts as one that a thread serves, and for how long none does after one that stayed silent.
_COUNTED_SECONDS = 0.01
_UNCOUNTED_SECONDS = 1.0


class Newcomers:
    """Until its request comes, a new connection counts as one that a thread serves: another worker may accept the next.

    Where one has sent nothing in that time, those of the next second do not count. Else whoever opens connections in
    silence, faster than a worker has threads for them, has all workers accept nothing: everybody waits in the backlog.
    """

    def __init__(self) -> None:
        self._row = Deadlines[Connection](_COUNTED_SECONDS)
        self._counts_from = 0.0
        self._is_full = False

    def start(self, conn: Connection) -> None:
        """It has just been accepted."""
        self._row.start(conn)

    def stop(self, conn: Connection) -> None:
        """Something has come of it, or it is closed."""
        end = self._row.stop(conn)
        if end is not None and end <= time.monotonic():
            self._counts_from = end + _UNCOUNTED_SECONDS

    def next_end(self) -> float:
        """When the loop must ask again whether they `fill` (monotonic): while they do not, no turn is spent on them."""
        return self._row.next_end() if self._is_full else float("inf")

    def fill(self, threads: int) -> bool:
        """Whether they count, and there is one for each of so many threads."""
        if len(self._row) >= threads:
            self.forget_silent()
        self._is_full = len(self._row) >= threads and time.monotonic() >= self._counts_from
        return self._is_full

    def forget_silent(self) -> None:
        """Count no longer those whose time is over. The loop calls it then: `fill` is not called in every turn."""
        now = time.monotonic()
        while (end := self._row.next_end()) <= now:
            self._row.take_expired(1)
            self._counts_from = end + _UNCOUNTED_SECONDS
