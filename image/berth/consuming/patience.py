"""A broker that is away is waited for, until the process is to stop and its time for that has passed."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from typing import TypeVar

from berth.errors import BrokerError
from berth.telemetry.logs import log

Result = TypeVar("Result")
_FIRST_SECONDS, _MOST_SECONDS = 0.1, 5.0


class BrokerPatience:
    """Repeats what fails for a time. After `stop` is set it goes on for `grace_seconds`, for a batch in hand."""

    def __init__(self, stop: threading.Event, grace_seconds: float) -> None:
        self._stop, self._grace = stop, grace_seconds
        self._stop_by: float | None = None
        self._pause = _FIRST_SECONDS
        self._away: set[str] = set()

    @property
    def is_over(self) -> bool:
        """Whether the process must end now."""
        if not self._stop.is_set():
            return False
        if self._stop_by is None:
            self._stop_by = time.monotonic() + self._grace
        return time.monotonic() >= self._stop_by

    def note(self, what: str, error: object) -> None:
        """Log that a broker is away, once."""
        if what not in self._away:
            self._away.add(what)
            log(f"waiting for {what}", level=logging.WARNING, error=str(error))

    def forget(self, what: str) -> None:
        """Log that it is back, if it was away."""
        if what in self._away:
            self._away.discard(what)
            log(f"{what} responds again")

    def check(self, what: str, error: object) -> None:
        """Raise BrokerError where no time is left."""
        if self.is_over:
            raise BrokerError(f"{what} stayed away until the time to stop had passed: {error}")

    def try_once(
        self, what: str, work: Callable[[], Result], temporary: tuple[type[Exception], ...], otherwise: Result
    ) -> Result:
        """What `work` returns; where it fails for a time, `otherwise` after a pause. For what is not in hand yet."""
        try:
            found = work()
        except temporary as error:
            self.note(what, error)
            self._stop.wait(self._pause)
            self._pause = min(self._pause * 2, _MOST_SECONDS)
            return otherwise
        self._pause = _FIRST_SECONDS
        self.forget(what)
        return found

    def attempt(self, what: str, work: Callable[[], Result], temporary: tuple[type[Exception], ...]) -> Result:
        """What `work` returns, at last. Raises BrokerError when the time to stop has passed."""
        pause = _FIRST_SECONDS
        while True:
            try:
                found = work()
            except temporary as error:
                self.note(what, error)
                self.check(what, error)
                time.sleep(pause)
                pause = min(pause * 2, _MOST_SECONDS)
            else:
                self.forget(what)
                return found
