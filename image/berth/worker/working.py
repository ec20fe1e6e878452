"""The requests that threads of the pool serve, and the response to one whose time runs out before its thread returns.

A thread cannot be removed from a model that does not return; its client can. When the time is over, the main thread
sends the 504 that the application makes, closes the connection, and leaves the thread to itself. Both may come at once:
`Outbox.claim` lets one of them respond.
"""

from __future__ import annotations

from berth.web.direct import STATUS_LINES
from berth.worker.connections import Connection
from berth.worker.deadlines import Deadlines
from berth.worker.http1 import encode_response
from berth.worker.outbox import Outbox

# A request that only waits for its turn is served by its own thread, which keeps the connection: it comes first.
_GRACE_SECONDS = 0.05


class Working:
    """Connections whose request a thread has, each with `seconds`. Belongs to the main thread."""

    def __init__(self, seconds: float) -> None:
        self._all: set[Connection] = set()
        self._late = Deadlines[Connection](seconds + _GRACE_SECONDS)
        # Those whose clients gave them less.
        self._hurried: dict[Connection, float] = {}

    def __len__(self) -> int:
        return len(self._all)

    def add(self, conn: Connection) -> None:
        """A thread gets its request."""
        self._all.add(conn)
        self._late.start(conn)

    def discard(self, conn: Connection) -> None:
        """The thread is free again."""
        self._all.discard(conn)
        self._late.stop(conn)
        self._hurried.pop(conn, None)

    def hurry(self, conn: Connection, outbox: Outbox, deadline: float) -> None:
        """The request that writes to `outbox` must have its response by `deadline` (monotonic)."""
        if conn.outbox is outbox and conn in self._all:
            self._hurried[conn] = deadline + _GRACE_SECONDS

    def next_end(self) -> float:
        """When the first time of all ends (monotonic)."""
        return min(self._late.next_end(), *self._hurried.values()) if self._hurried else self._late.next_end()

    def take_overdue(self, now: float, most: int) -> list[Connection]:
        """Up to `most` connections whose time is over; it begins anew, for those that turn out not to be late."""
        expired = [conn for conn, end in self._hurried.items() if end <= now][:most]
        for conn in expired:
            del self._hurried[conn]
        expired += self._late.take_expired(most)
        for conn in expired:
            self._late.start(conn)
        return expired

    def answer_late(self, conn: Connection) -> bytes | None:
        """The 504 for a prediction; None for a request that is not one, or is about to get it from its thread."""
        finished = conn.outbox.expire() if conn.outbox is not None else None
        if finished is None:
            return None
        conn.outbox = None
        self._late.stop(conn)
        return encode_response(STATUS_LINES[finished.status], finished.headers, finished.body, closes=True)
