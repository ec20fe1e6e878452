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

    def start(self, conn: Connection) -> None:
        """It has just been accepted."""
        self._row.start(conn)

    def stop(self, conn: Connection) -> None:
        """Something has come of it, or it is closed."""
        self._row.stop(conn)

    def next_end(self) -> float:
        """When the first of them counts no longer (monotonic)."""
        return self._row.next_end()

    def see_silent(self, most: int) -> None:
        """Forget up to `most` whose time is over."""
        if self._row.take_expired(most):
            self._counts_from = time.monotonic() + _UNCOUNTED_SECONDS

    def fill(self, threads: int) -> bool:
        """Whether they count, and there is one for each of so many threads."""
        return len(self._row) >= threads and time.monotonic() >= self._counts_from
