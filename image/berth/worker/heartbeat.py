"""A worker shows the arbiter that it is alive, but not in each of many thousand turns a second."""

from __future__ import annotations

import time

from gunicorn.workers.gthread import ThreadWorker

# The arbiter kills a worker after a minute without a sign of life; gunicorn's loop comes by once a second at least.
_SECONDS = 0.25


class SparingThreadWorker(ThreadWorker):  # type: ignore[misc]
    """A ThreadWorker that does not touch its file again within a quarter of a second, which is a call of the kernel."""

    _next_sign = 0.0

    def notify(self) -> None:
        if (now := time.monotonic()) >= self._next_sign:
            self._next_sign = now + _SECONDS
            super().notify()
