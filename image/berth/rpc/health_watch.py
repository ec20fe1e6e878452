"""`grpc.health.v1.Health/Watch`: a stream with the status of the server or a model, now and whenever it changes.

Each stream holds a thread of gRPC's for as long as it is open, so there are at most MOST_WATCHES in a worker; to the
next one the method does not exist, which clients read as a server that cannot be watched and is healthy.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

from berth.rpc.messages import message_classes

MOST_WATCHES = 32
NOT_SERVING, SERVICE_UNKNOWN = 2, 3
_LOOK_SECONDS = 1.0


def encode_status(status: int) -> bytes:
    """A HealthCheckResponse."""
    message: bytes = message_classes("grpc.health.v1")["HealthCheckResponse"](status=status).SerializeToString()
    return message


class HealthWatch:
    """The streams of one worker. `check` is the response of Health/Check for a request; None for an unknown service."""

    def __init__(self, check: Callable[[bytes, Any], bytes | None]) -> None:
        self._check = check
        self._places = threading.BoundedSemaphore(MOST_WATCHES)
        self._stopping = threading.Event()

    def stop(self) -> None:
        """End all streams, with their last status."""
        self._stopping.set()

    def watch(self, message: bytes, context: Any) -> Iterator[bytes]:
        """The responses of one stream; aborts with UNIMPLEMENTED where there are too many."""
        import grpc

        if not self._places.acquire(blocking=False):
            context.abort(grpc.StatusCode.UNIMPLEMENTED, f"this worker has {MOST_WATCHES} watches already; use Check")
        try:
            yield from self._statuses(message, context)
        finally:
            self._places.release()

    def _statuses(self, message: bytes, context: Any) -> Iterator[bytes]:
        last = None
        while context.is_active():
            found = self._check(message, context)
            now = encode_status(SERVICE_UNKNOWN) if found is None else found
            if now != last:
                yield now
                last = now
            if self._stopping.wait(_LOOK_SECONDS):
                yield encode_status(NOT_SERVING)
                return
