"""Shadows: a version predicts requests a second time, after their responses, and its predictions are compared.

    request thread   finish -> offer: one append, or a drop where 64 wait already; the response leaves
    main thread      of a worker, between the requests that it serves itself: where the shadow's model is quick
    shadow thread    all others: waits until the worker is idle, predicts, compares, counts; starts with the first
                     request, after the fork, and again should it end

A thread of its own would take the interpreter's lock from requests for longer than a quick prediction takes. A model
that turns out not to be quick belongs to the thread from then on.

A shadow calls its model directly: it takes none of the places in which requests compute, and nothing that it raises,
SystemExit included, reaches one. What waits too long is dropped: a shadow that sleeps delays only itself.
"""

from __future__ import annotations

import hashlib
import logging
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from berth.experiments.arm_counts import ArmPlace
from berth.models.model import Model
from berth.telemetry.logs import log
from berth.tensors.arrays import Array, Tensors
from berth.tensors.differences import compare_outputs
from berth.tensors.schema import check_tensors

QUEUE = 64
AGREE, DIFFER, FAILED, DROPPED = "agree", "differ", "failed", "dropped"
_MOST_WAIT_SECONDS = 5.0
_PAUSE_SECONDS = 0.005
# Of CPU time: a shadow that once takes more is not predicted between requests again.
_QUICK_SECONDS = 0.005
_MOST_ROWS = 1 << 30


class ShadowMetrics(Protocol):
    """What a shadow's metrics take."""

    def count_shadow(self, result: str) -> None:
        """A request was compared, failed or was dropped."""

    def observe_shadow(self, seconds: float, differences: Sequence[float]) -> None:
        """The shadow predicted, in so many seconds; with numbers, their largest difference."""


@dataclass(frozen=True, slots=True)
class ShadowJob:
    """One request to predict again: by which model, with what, and what its own model predicted.

    `is_quick`: the model is over before a thread could wait for its turn, whatever a row says (Predictor.is_quick).
    """

    key: str
    is_quick: bool
    find_model: Callable[[], Model]
    tensors: Tensors
    outputs: Mapping[str, Array]
    metrics: ShadowMetrics
    place: ArmPlace | None
    offered: float


def is_shadowed(request_id: str, share: float) -> bool:
    """Whether a request belongs to the share."""
    digest = hashlib.blake2b(f"shadow\0{request_id}".encode(), digest_size=8).digest()
    return int.from_bytes(digest) < share * 2**64


class ShadowQueue:
    """A bounded queue and the thread that empties it. Safe for any thread; `is_busy` says whether requests compute.

    The thread that calls `use_this_thread` calls `take_quick` where `wants_turn`, whenever no request has come.
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
            self._count(job, DROPPED)
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

    def wants_turn(self) -> bool:
        """Whether `take_quick` has something to do now: no request computes.

        Whoever waits for this CPU goes first, and may send the next request: look for it before `take_quick`.
        """
        if not self._quick or self._is_busy():
            return False
        os.sched_yield()
        return True

    def take_quick(self) -> None:
        """Predict one request again, for the main loop that found `wants_turn`. Never raises."""
        job = self._quick.popleft()
        if time.monotonic() - job.offered > _MOST_WAIT_SECONDS:
            self._count(job, DROPPED)
            return
        began = time.thread_time()
        self._predict(job)
        if time.thread_time() - began > _QUICK_SECONDS:
            self._slow.add(job.key)

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
                self._count(job, DROPPED)
                return
            time.sleep(_PAUSE_SECONDS)
        self._predict(job)

    def _predict(self, job: ShadowJob) -> None:
        began = time.monotonic()
        try:
            model = job.find_model()
            tensors = check_tensors(job.tensors, model.inputs, _MOST_ROWS, model.batchable)
            found = model.predict(tensors, list(job.outputs))
            agree, difference = compare_outputs(found, job.outputs)
        except BaseException as error:  # SystemExit too: a shadow must cost no request, and the next one gets its turn
            log("a shadow failed", level=logging.WARNING, error=type(error).__name__)
            self._count(job, FAILED)
            return
        seconds = time.monotonic() - began
        job.metrics.observe_shadow(seconds, [] if difference is None else [difference])
        if job.place is not None:
            job.place.observe_seconds(seconds)
        self._count(job, AGREE if agree else DIFFER)

    @staticmethod
    def _count(job: ShadowJob, result: str) -> None:
        job.metrics.count_shadow(result)
        if job.place is not None:
            job.place.count("shadow_failed" if result == FAILED else result)
