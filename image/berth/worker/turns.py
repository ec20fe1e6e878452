"""The order in which one turn of the main loop sees to what has come.

All connections are read first. Predictions that have come, and will be answered by this thread one after the other, are
in flight from then on: the gate counts them, and so do the metric and the autoscaler that reads it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator

from berth.worker.connections import Connection

# A request's line and more.
_LOOK_BYTES = 512


def take_turns(
    ready: deque[Connection], is_prediction: Callable[[bytes], bool] | None
) -> Iterator[tuple[Connection, int]]:
    """Each connection that has a request to look at, and how many predictions come after it in this turn."""
    batch = [ready.popleft() for _ in range(len(ready))]
    counts = [0] * len(batch)
    if is_prediction is not None and len(batch) > 1:
        counts = [not conn.closed and is_prediction(bytes(conn.received[:_LOOK_BYTES])) for conn in batch]
    left = sum(counts)
    for conn, counted in zip(batch, counts, strict=True):
        left -= counted
        if not conn.closed:
            yield conn, left
