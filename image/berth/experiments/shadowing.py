"""Shadows: a version predicts requests a second time, after their responses, and its predictions are compared.

    request thread   finish -> offer: one append, or a drop where 64 wait already; the response leaves
    main thread      of a worker, between the requests that it serves itself: where the shadow's model is quick
    shadow thread    all others: waits until the worker is idle, predicts, compares, counts; starts with the first
                     request, after the fork, and again should it end

A thread of its own would take the interpreter's lock from requests for longer than a quick prediction takes. A model
that turns out not to be quick belongs to the thread from then on. Quick ones wait for some milliseconds, so that many
requests are predicted by one call (shadow_calls.py): one by one each would come after other code, and take four times
as long.

A shadow calls its model directly: it takes none of the places in which requests compute, and nothing that it raises,
SystemExit included, reaches one. What waits too long is dropped: a shadow that sleeps delays only itself.
"""

from __future__ import annotations

import hashlib
import logging
import math
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence

from berth.experiments.shadow_calls import ShadowJob, predict_again
from berth.telemetry.logs import log
from berth.tensors.differences import compare_outputs

QUEUE = 64
AGREE, DIFFER, FAILED, DROPPED = "agree", "differ", "failed", "dropped"
_MOST_WAIT_SECONDS = 5.0
_PAUSE_SECONDS = 0.005
# Of CPU time: a shadow that once takes more is not predicted between requests again.
_QUICK_SECONDS = 0.005
# Quick ones are predicted when so many wait, or the first has waited for so long.
_BATCH, _GATHER_SECONDS = 16, 0.005


def is_shadowed(request_id: str, share: float) -> bool:
    """Whether a request belongs to the share."""
    digest = hashlib.blake2b(f"shadow\0{request_id}".encode(), digest_size=8).digest()
    return int.from_bytes(digest) < share * 2**64


class ShadowQueue:
    """A bounded queue and the thread that empties it. Safe for any thread; `is_busy` says whether requests compute.

    The thread that calls `use_this_thread` calls `take_quick` from `next_turn` on, whenever no request has come.
    """

    def __init__(self, is_busy: Callable[[], bool] = lambda: False) -> None:
        self._is_busy = is_busy
        self._queue: deque[ShadowJob] = deque()
        self._main_thread = 0
        # For the main loop; jobs of the slow models are for the thread, whatever was measured.
        self._quick: deque[ShadowJob] = deque()
        self._slow: set[str] = set()
        self._filled = threading.Event()
        self._starting = threading.Lock()
        self._thread: threading.Thread | None = None

    def offer(self, job: ShadowJob) -> None:
        """Predict a request again, soon, or drop it. Never waits, never raises."""
        is_quick = job.is_quick and threading.get_ident() == self._main_thread and job.key not in self._slow
        queue = self._quick if is_quick else self._queue
        if len(queue) >= QUEUE:
            _count([job], DROPPED)
            return
        queue.append(job)
        if is_quick:
            return
        if not self._filled.is_set() or self._thread is None or not self._thread.is_alive():
            self._filled.set()
            self._start()

    def use_this_thread(self) -> None:
        """Predict for quick shadows of this thread's requests on this thread."""
        self._main_thread = threading.get_ident()

    @property
    def next_turn(self) -> float:
        """When `take_quick` has something to do (monotonic); infinity while nothing waits, or requests compute."""
        if not (waiting := len(self._quick)) or self._is_busy():
            return math.inf
        return 0.0 if waiting >= _BATCH else self._quick[0].offered + _GATHER_SECONDS

    def take_quick(self) -> None:
        """Predict some of the waiting requests again, by one call; for the thread that serves. Never raises."""
        began, now = time.thread_time(), time.monotonic()
        jobs = [self._quick.popleft()]
        while self._quick and len(jobs) < _BATCH and jobs[0].can_join(self._quick[0]):
            jobs.append(self._quick.popleft())
        late = [job for job in jobs if now - job.offered > _MOST_WAIT_SECONDS]
        _count(late, DROPPED)
        if len(late) < len(jobs):
            self._predict(jobs[len(late) :])
        if time.thread_time() - began > _QUICK_SECONDS:
            self._slow.add(jobs[0].key)

    def _start(self) -> None:
        with self._starting:
            if self._thread is None or not self._thread.is_alive():  # a thread does not survive a fork
                self._thread = threading.Thread(target=self._run, name="shadow", daemon=True)
                self._thread.start()

    def _run(self) -> None:
        while True:
            self._filled.wait()
            self._filled.clear()
            while self._queue:
                self._take(self._queue.popleft())

    def _take(self, job: ShadowJob) -> None:
        while self._is_busy():
            if time.monotonic() - job.offered > _MOST_WAIT_SECONDS:
                _count([job], DROPPED)
                return
            time.sleep(_PAUSE_SECONDS)
        self._predict([job])

    def _predict(self, jobs: Sequence[ShadowJob]) -> None:
        began = time.monotonic()
        try:
            found = predict_again(jobs)
            compared = [compare_outputs(mine, job.outputs) for mine, job in zip(found, jobs, strict=True)]
        except BaseException as error:  # SystemExit too: a shadow must cost no request, and the next one gets its turn
            if len(jobs) > 1:  # one of them is to blame
                for job in jobs:
                    self._predict([job])
                return
            log("a shadow failed", level=logging.WARNING, error=type(error).__name__)
            _count(jobs, FAILED)
            return
        seconds = [time.monotonic() - began] * len(jobs)
        jobs[0].metrics.observe_shadow(seconds, [gap for _, gap in compared if gap is not None])
        if (place := jobs[0].place) is not None:
            place.observe_seconds(seconds)
        agree = [job for job, (is_same, _) in zip(jobs, compared, strict=True) if is_same]
        _count(agree, AGREE)
        _count(jobs[len(agree) :], DIFFER)


def _count(jobs: Sequence[ShadowJob], result: str) -> None:
    """Count this result for as many requests, which are alike."""
    if not jobs:
        return
    jobs[0].metrics.count_shadow(result, len(jobs))
    if (place := jobs[0].place) is not None:
        place.count("shadow_failed" if result == FAILED else result, len(jobs))
