"""Micro-batching: requests that wait anyway go into one model call; a lone request never waits.

There is no thread of its own. A request that finds a free place leads: it takes what waits (itself first), calls the
model once, hands everybody its rows, and passes its place on to the first of those who came meanwhile:

    submit -> place free? -- yes --> lead: take the queue's head and all that goes with it -> call -> hand out -+
                  | no                                                                                        |
                  +-> join the queue, sleep until handed a result, a place, or out of time <---- pass on -----+

Clients that get their results together come back together, each a little after the other; the first of them would get a
call for itself, and the rest the next. So who leads right after a call waits until as many are there as the call had,
with those who waited meanwhile, but no longer than half of what the call took, counted from its end. After a call that
one requested, while none waited, none waits.

Whoever waits is in the queue before it can be picked, and every wait has a deadline. Requests for other outputs or of
another dtype or row shape are not mixed. If a joint call fails, each request is tried alone, so that one alone fails.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import TypeAlias

import numpy as np

from berth.errors import DeadlineExceeded
from berth.tensors.arrays import Array, Tensors

Predict: TypeAlias = Callable[[Tensors, Sequence[str]], dict[str, Array]]
# Of a call's time, how much may be spent on waiting for those whom it served.
_PATIENCE = 0.5
_OUT_OF_TIME = "the request's time limit passed while it waited for its turn"


class _Job:
    """One caller's rows, and where its result will be."""

    __slots__ = (
        "answer",
        "begun",
        "deadline",
        "error",
        "joined",
        "key",
        "leads",
        "outputs",
        "rows",
        "tensors",
        "woken",
    )

    def __init__(self, tensors: Tensors, outputs: Sequence[str], deadline: float, begun: Callable[[], None]) -> None:
        self.begun = begun
        self.tensors = tensors
        self.outputs = tuple(outputs)
        self.deadline = deadline
        self.joined = time.monotonic()
        self.rows = next(iter(tensors.values())).shape[0]
        self.key = (self.outputs, *((name, array.dtype, array.shape[1:]) for name, array in tensors.items()))
        self.answer: dict[str, Array] | None = None
        self.error: Exception | None = None
        self.leads = False
        self.woken: threading.Event | None = None

    def finish(self, answer: dict[str, Array] | None, error: Exception | None) -> None:
        self.answer, self.error = answer, error
        if self.woken is not None:
            self.woken.set()


def _split(answer: dict[str, Array], jobs: Sequence[_Job]) -> list[dict[str, Array]]:
    """Each job's rows of a joint result. Raises ValueError when the model did not give one row per row."""
    total = sum(job.rows for job in jobs)
    if any(array.shape[:1] != (total,) for array in answer.values()):
        raise ValueError("the model does not return one row per row")
    pieces, start = [], 0
    for job in jobs:
        pieces.append({name: array[start : start + job.rows] for name, array in answer.items()})
        start += job.rows
    return pieces


class Batcher:
    """Joins calls of one model, up to `max_rows` rows each, at most `places` at once. Safe for any thread.

    `on_wait(seconds)` gets how long each request waited for its call; `on_depth(n)` the queue's length.
    """

    def __init__(
        self,
        predict: Predict,
        max_rows: int,
        places: int,
        wait_seconds: float = 0.0,
        *,
        on_wait: Callable[[float], None] = lambda seconds: None,
        on_depth: Callable[[int], None] = lambda depth: None,
    ) -> None:
        self._predict = predict
        self._max_rows = max_rows
        self._free = places
        self._wait_seconds = wait_seconds
        self._on_wait = on_wait
        self._on_depth = on_depth
        self._lock = threading.Lock()
        self._queue: deque[_Job] = deque()
        self._more = threading.Condition(self._lock)
        # How many clients come at the same time, and until when (monotonic) it is worth waiting for them.
        self._crowd, self._crowd_until = 1, 0.0

    def submit(
        self,
        tensors: Tensors,
        outputs: Sequence[str],
        deadline: float,
        begun: Callable[[], None] = lambda: None,
    ) -> dict[str, Array]:
        """The caller's own rows of the wanted outputs. Raises what the model raises, or DeadlineExceeded.

        `begun` is called when the request's call begins.
        """
        job = _Job(tensors, outputs, deadline, begun)
        with self._lock:
            if self._free:
                self._free -= 1
                job.leads = True
            else:
                job.woken = threading.Event()
                self._queue.append(job)
                self._on_depth(len(self._queue))
                if len(self._queue) + 1 >= self._crowd:
                    self._more.notify()
        if job.leads:
            self._lead(job)
        else:
            self._wait(job)
        if job.error is not None:
            raise job.error
        assert job.answer is not None  # noqa: S101 - finished without an error
        return job.answer

    def _wait(self, job: _Job) -> None:
        assert job.woken is not None  # noqa: S101
        while not job.woken.wait(min(max(0.0, job.deadline - time.monotonic()), threading.TIMEOUT_MAX)):
            with self._lock:
                if job in self._queue:
                    self._queue.remove(job)
                    job.error = DeadlineExceeded(_OUT_OF_TIME)
                    return
            # It was picked at the last moment: its result, or its place, is on the way.
            job.deadline += 1.0
        if job.leads:
            self._lead(job)

    def _lead(self, job: _Job) -> None:
        count, took = 1, 0.0
        try:
            if self._wait_seconds and job.rows < self._max_rows:
                time.sleep(self._wait_seconds)
            self._gather(job)
            batch = self._take(job)
            count, began = len(batch), time.monotonic()
            self._run(batch)
            took = time.monotonic() - began
        finally:
            self._pass_on(count, took)

    def _gather(self, job: _Job) -> None:
        """Wait for those whom the last call served, if it has only just ended."""
        seconds = min(self._crowd_until, job.deadline) - time.monotonic()
        if seconds > 0 and job.rows < self._max_rows:
            with self._more:
                self._more.wait_for(lambda: len(self._queue) + 1 >= self._crowd, seconds)

    def _take(self, first: _Job) -> list[_Job]:
        """`first` and all that waits and goes with it; who is out of time gets an error and never predicted."""
        now = time.monotonic()
        batch: list[_Job] = []
        if first.deadline <= now:
            first.finish(None, DeadlineExceeded(_OUT_OF_TIME))
        else:
            batch.append(first)
        if not self._queue:
            return batch
        rows = sum(job.rows for job in batch)
        left: deque[_Job] = deque()
        with self._lock:
            for job in self._queue:
                if job.deadline <= now:
                    job.finish(None, DeadlineExceeded(_OUT_OF_TIME))
                elif batch and job.key == first.key and rows + job.rows <= self._max_rows:
                    batch.append(job)
                    rows += job.rows
                else:
                    left.append(job)
            self._queue = left
            self._on_depth(len(left))
        return batch

    def _run(self, batch: list[_Job]) -> None:
        now = time.monotonic()
        for job in batch:
            job.begun()
            self._on_wait(now - job.joined)
        if len(batch) < 2:
            self._run_alone(batch)
            return
        try:
            first = batch[0]
            joined = {name: np.concatenate([job.tensors[name] for job in batch]) for name in first.tensors}
            pieces = _split(self._predict(joined, first.outputs), batch)
        except Exception:  # one of them is to blame: try each alone, so that only that one fails
            self._run_alone(batch)
            return
        for job, piece in zip(batch, pieces, strict=True):
            job.finish(piece, None)

    def _run_alone(self, batch: list[_Job]) -> None:
        for job in batch:
            try:
                job.finish(self._predict(job.tensors, job.outputs), None)
            except Exception as error:  # whatever the model raises is its caller's
                job.finish(None, error)

    def _pass_on(self, count: int, took: float) -> None:
        """Give the place to the first who waits, or free it."""
        with self._lock:
            self._crowd = min(count + len(self._queue), self._max_rows)
            self._crowd_until = time.monotonic() + _PATIENCE * took if self._crowd > 1 else 0.0
            if not self._queue:
                self._free += 1
                return
            job = self._queue.popleft()
            self._on_depth(len(self._queue))
            job.leads = True
        assert job.woken is not None  # noqa: S101
        job.woken.set()
