"""The order in which one turn of the main loop sees to what has come.

All connections are read first. Predictions that have come, and will be served by this thread one after the other, are
in flight from then on: the gate counts them, and so do the metric and the autoscaler that reads it.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable, Iterator

from berth.worker.connections import Connection

_LENGTH = re.compile(rb"\r\ncontent-length:[ \t]*(\d{1,9})[ \t]*\r\n", re.IGNORECASE)


def _is_whole(conn: Connection) -> bool:
    """Whether a whole request with a body of known length has come; one that is on its way is not in flight."""
    received = conn.received
    if conn.closed or conn.incoming is not None or (end := received.find(b"\r\n\r\n")) < 0:
        return False
    found = _LENGTH.search(received, 0, end + 2)
    return found is not None and len(received) - end - 4 >= int(found[1])


def take_turns(
    ready: deque[Connection], is_prediction: Callable[[bytes], bool] | None
) -> Iterator[tuple[Connection, int]]:
    """Each connection that has a request to handle, and how many predictions come after it in this turn."""
    batch = [ready.popleft() for _ in range(len(ready))]
    counts = [0] * len(batch)
    if is_prediction is not None and len(batch) > 1:
        counts = [_is_whole(conn) and is_prediction(bytes(conn.received)) for conn in batch]
    left = sum(counts)
    for conn, counted in zip(batch, counts, strict=True):
        left -= counted
        if not conn.closed:
            yield conn, left
