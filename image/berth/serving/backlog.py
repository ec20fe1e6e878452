"""How long a prediction would wait for its turn, and the refusal of one that would wait too long.

The expected wait is the work ahead, divided by the compute slots: of each model, the requests and rows that wait times
what they take, and what is left of the calls that run. What a model takes is a moving estimate over its own calls,

    seconds = per call + per row * rows

a least-squares line that forgets old calls, so that it holds for single requests and for batches. A model that has not
returned yet is expected to take as long as its oldest running call; a call that runs longer than expected counts for
as much more as it has run over.
"""

from __future__ import annotations

import math
import threading
from contextlib import suppress

from berth.errors import Overloaded
from berth.serving.places import ComputePlaces

# The share of the newest call in an estimate: half of it is from the last seven calls.
_NEWEST = 0.1
# A request is accepted up to this share of the limit: between two calls a thread wakes, which no call's time shows.
_CAUTION = 0.95
# Without a limit of the user's, the wait is limited to this share of the time a request has.
_AUTO_SHARE = 0.1


class CallEstimate:
    """What one model takes, and what waits for it; the backlog's lock guards the latter. `batch_rows`: of one call."""

    def __init__(self, batch_rows: int = 1) -> None:
        self.batch_rows = batch_rows
        self.requests = self.rows = 0
        self._calls = 0
        self._seconds = self._count = self._square = self._product = 0.0

    def add(self, seconds: float, rows: int) -> None:
        """A call of so many rows took so many seconds."""
        self._calls += 1
        share = max(_NEWEST, 1 / self._calls)
        self._seconds += share * (seconds - self._seconds)
        self._count += share * (rows - self._count)
        self._square += share * (rows * rows - self._square)
        self._product += share * (rows * seconds - self._product)

    def seconds(self, calls: float, rows: float, young: float = 0.0) -> float:
        """What so many calls with so many rows in all would take; `young` is a call's where none has ended yet."""
        if not self._calls:
            return calls * young
        spread = self._square - self._count**2
        per_row = max(0.0, self._product - self._count * self._seconds) / spread if spread > 1e-9 else 0.0
        per_row = min(per_row, self._seconds / self._count if self._count else 0.0)
        return calls * (self._seconds - per_row * self._count) + rows * per_row

    def waiting_seconds(self, young: float) -> float:
        """What all that waits for this model would take."""
        calls = self.requests if self.batch_rows == 1 else min(self.requests, math.ceil(self.rows / self.batch_rows))
        return self.seconds(calls, self.rows, young)


class Turn:
    """One request that waits; `end` when its call begins, or it gives up."""

    __slots__ = ("_estimate", "_lock", "_rows")

    def __init__(self, lock: threading.Lock, estimate: CallEstimate, rows: int) -> None:
        self._lock, self._estimate, self._rows = lock, estimate, rows
        estimate.requests += 1
        estimate.rows += rows

    def end(self) -> None:
        """It waits no longer. May be called again."""
        with self._lock:
            rows, self._rows = self._rows, 0
            self._estimate.rows -= rows
            self._estimate.requests -= bool(rows)


class Backlog:
    """What waits in a worker. `max_wait_seconds` None is auto, from the time a request has. Safe for any thread."""

    def __init__(self, places: ComputePlaces, max_wait_seconds: float | None, request_seconds: float) -> None:
        self._places = places
        self._most = _AUTO_SHARE * request_seconds if max_wait_seconds is None else max_wait_seconds
        self._lock = threading.Lock()
        self._estimates: list[CallEstimate] = []

    def add_model(self, batch_rows: int) -> CallEstimate:
        """A model that requests may wait for."""
        estimate = CallEstimate(batch_rows)
        with self._lock:
            self._estimates.append(estimate)
        return estimate

    def forget(self, estimate: CallEstimate) -> None:
        """No request waits for this model any more."""
        with self._lock, suppress(ValueError):
            self._estimates.remove(estimate)

    def join(self, estimate: CallEstimate, rows: int) -> Turn:
        """Wait for a turn. Raises Overloaded, with Retry-After, where it would take too long."""
        with self._lock:
            wait = self._expected_wait()
            if wait > _CAUTION * self._most:
                later = max(1, math.ceil(wait - self._most))
                raise Overloaded(
                    f"this prediction would wait about {wait:.3g} s for its turn, and the limit is {self._most:.3g} s "
                    f"(BERTH_MAX_WAIT_MS); try again in {later} s",
                    headers={"Retry-After": str(later)},
                )
            return Turn(self._lock, estimate, max(1, rows))

    def _expected_wait(self) -> float:
        running = self._places.running()
        if len(running) + sum(each.requests for each in self._estimates) < self._places.count:
            return 0.0  # a place is free
        young = max((age for age, _ in running), default=0.0)
        ahead = sum(each.waiting_seconds(young) for each in self._estimates if each.requests)
        return (ahead + sum(abs(expected - age) for age, expected in running)) / self._places.count
