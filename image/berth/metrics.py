"""Every metric there is, and their files: exact over all workers, dead ones included.

With PROMETHEUS_MULTIPROC_DIR set before the first import, prometheus_client keeps each process's values in files
of that directory (`counter_PID.db`, `histogram_PID.db`, `gauge_MODE_PID.db`), mapped into memory: what was counted
is there even after SIGKILL. A scrape sums the files. When a worker has died its counters and histograms are added
to `counter_dead.db` and `histogram_dead.db`, and its gauges go. A scrape holds the directory's lock shared and a
merge holds it alone, so that no scrape sees a value twice or not at all. A merge that is broken off goes on with
the next: it makes

    counter_dead.part     the sum, complete
    counter_PID.merging   the dead worker's file, renamed: no scrape reads it now
    counter_dead.db       the sum, renamed; then the .merging file is deleted
"""

from __future__ import annotations

import fcntl
import math
import os
import struct
import threading
import time
from bisect import bisect_left
from collections import Counter as Tally
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Literal, TextIO, TypeVar

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Metric, generate_latest, values
from prometheus_client.mmap_dict import MmapedDict
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector

Mode = Literal["livesum", "livemin", "livemax"]
_Kind = TypeVar("_Kind", Counter, Gauge, Histogram)
# 0.1 ms to 60 s: a cached row takes 0.2 ms, a large batch on a small CPU tens of seconds.
SECONDS = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
ROWS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 1024, 4096, 16384, 65536)
# Nothing is known of a regression's unit: powers of ten to both sides of zero.
_POWERS = tuple(10.0**power for power in range(-2, 7))
VALUES = (*(-value for value in reversed(_POWERS)), 0.0, *_POWERS)
# A classifier may have thousands of classes, a metric may not: the rest is counted as `other`.
MOST_LABELS, OTHER = 50, "other"
# A scrape and a merge take milliseconds; a process that was stopped while it scrapes must not stop the others.
LOCK_SECONDS = 2.0
_SUMMED = ("counter", "histogram", "summary")


class _Process:
    """This process's id, asked of the kernel once: a request updates fifteen values, and each wants to know."""

    def __init__(self) -> None:
        self._refresh()
        os.register_at_fork(after_in_child=self._refresh)

    def _refresh(self) -> None:
        self._pid = os.getpid()

    def __call__(self) -> int:
        return self._pid


if values.ValueClass is not values.MutexValue:  # PROMETHEUS_MULTIPROC_DIR is set
    values.ValueClass = values.MultiProcessValue(_Process())  # type: ignore[no-untyped-call]


class Metrics:
    """The list of metrics. Make one per process, after the fork: two would write over each other's values.

    With `directory` (PROMETHEUS_MULTIPROC_DIR) `render` tells of all workers, without it of this process.
    """

    def __init__(
        self, slot: str = "", directory: Path | None = None, registry: CollectorRegistry | None = None
    ) -> None:
        self.slot = slot
        self.registry = registry or CollectorRegistry()
        self._directory = directory
        self._lock = threading.Lock()
        self._bound: dict[tuple[str, str], ModelMetrics] = {}
        self.requests = self._counter("berth_requests_total", "Answers to prediction requests.", "protocol", "status")
        self.request_seconds = self._histogram("berth_request_duration_seconds", "Request to answer.", SECONDS)
        self.predict_seconds = self._histogram("berth_predict_duration_seconds", "One call of the model.", SECONDS)
        self.queue_seconds = self._histogram("berth_queue_duration_seconds", "Waiting for the model.", SECONDS)
        self.batch_rows = self._histogram("berth_batch_rows", "Rows in one call of the model.", ROWS)
        self.inflight = self._gauge("berth_inflight", "Predictions inside the server.", "livesum")
        self.queue_depth = self._gauge("berth_queue_depth", "Predictions that wait for the model.", "livesum")
        self.rejected = self._counter("berth_rejected_total", "Requests turned away.", "reason")
        self.cache = self._counter("berth_cache_total", "Look-ups in the prediction cache.", "result")
        self.info = self._gauge(
            "berth_model_info", "Always 1; what is served.", "livemax", "sha256", "format", "accelerated"
        )
        # One worker without its model is a server without it.
        self.ready = self._gauge("berth_model_ready", "1 when every worker has the model.", "livemin")
        self.load_seconds = self._gauge("berth_model_load_seconds", "Verifying to ready, slowest worker.", "livemax")
        self.predictions = self._counter("berth_predictions_total", "Rows by predicted class.", "label")
        self.prediction_value = self._histogram("berth_prediction_value", "Predicted values.", VALUES)
        self.payload_drops = self._counter(
            "berth_payload_log_dropped_total", "Payloads that the payload log lost.", "reason"
        )
        self.drift = self._gauge(
            "berth_drift_psi", "Population stability index against the training data.", "livemax", "feature"
        )

    def _labels(self, own: tuple[str, ...]) -> tuple[str, ...]:
        return ("model", "version", "slot", *own)

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(name, text, self._labels(labels), registry=self.registry)

    def _histogram(self, name: str, text: str, buckets: tuple[float, ...]) -> Histogram:
        return Histogram(name, text, self._labels(()), buckets=buckets, registry=self.registry)

    def _gauge(self, name: str, text: str, mode: Mode, *labels: str) -> Gauge:
        return Gauge(name, text, self._labels(labels), multiprocess_mode=mode, registry=self.registry)

    def bind(self, model: str, version: str, classes: Sequence[object] = ()) -> ModelMetrics:
        """A model's metrics; the same object every time. `classes` are the labels that its predictions may have.

        A request that is refused before its model is known counts under the empty name and version.
        """
        with self._lock:
            found = self._bound.get((model, version))
            if found is None:
                found = self._bound[model, version] = ModelMetrics(self, model, version)
            if classes:
                found.declare(classes)
            return found

    def render(self) -> bytes:
        """What /metrics answers."""
        return generate_latest(self.registry) if self._directory is None else render(self._directory)


def _observe(child: Histogram, value: float) -> None:
    """What `child.observe` does, without looking at each bucket and for exemplars: a third of its time."""
    child._sum.inc(value)
    child._buckets[bisect_left(child._upper_bounds, value)].inc(1)


class ModelMetrics:
    """One model's metrics. Labels are looked up once: doing so again doubles the cost of an update."""

    def __init__(self, metrics: Metrics, model: str, version: str) -> None:
        self._metrics = metrics
        self._common = (model, version, metrics.slot)
        # Filled on first use, so that what never happens makes no series.
        self._children: dict[tuple[object, tuple[object, ...]], Any] = {}
        self._classes: dict[object, str] = {}

    def declare(self, classes: Sequence[object]) -> None:
        """The labels that predictions may have; the first of very many are counted by name."""
        self._classes = {label: str(label) for label in classes[:MOST_LABELS]}

    def _child(self, metric: _Kind, *labels: object) -> _Kind:
        child: _Kind | None = self._children.get((metric, labels))
        if child is None:
            child = self._children[metric, labels] = metric.labels(*self._common, *labels)
        return child

    def observe_request(self, protocol: str, status: int, seconds: float) -> None:
        """A request was answered, or is about to be: count before the answer leaves, and no answer goes uncounted."""
        self._child(self._metrics.requests, protocol, status).inc()
        _observe(self._child(self._metrics.request_seconds), seconds)

    def observe_predict(self, seconds: float, rows: int) -> None:
        """The model was called once."""
        _observe(self._child(self._metrics.predict_seconds), seconds)
        _observe(self._child(self._metrics.batch_rows), rows)

    def observe_queue(self, seconds: float) -> None:
        """A prediction has waited for the model."""
        _observe(self._child(self._metrics.queue_seconds), seconds)

    def reject(self, reason: str) -> None:
        """A request was turned away; `reason` is an error's code."""
        self._child(self._metrics.rejected, reason).inc()

    def count_cache(self, hit: bool) -> None:
        """A prediction was looked up in the cache."""
        self._child(self._metrics.cache, "hit" if hit else "miss").inc()

    def count_predictions(self, labels: Iterable[object]) -> None:
        """Predicted classes, one per row, as plain Python values (`array.tolist()`)."""
        for label, rows in Tally(labels).items():
            self._child(self._metrics.predictions, self._classes.get(label, OTHER)).inc(rows)

    def observe_values(self, values: Iterable[float]) -> None:
        """Predicted values, one per row, as plain Python numbers; NaN and infinity are left out.

        All rows of a request go in with one update per bucket, as `observe` would take a millisecond per thousand.
        """
        finite = [value for value in values if math.isfinite(value)]
        if not finite:
            return
        child = self._child(self._metrics.prediction_value)
        total = sum(finite)
        child._sum.inc(total if math.isfinite(total) else 0.0)
        for bucket, rows in Tally(bisect_left(VALUES, value) for value in finite).items():
            child._buckets[bucket].inc(rows)

    def set_inflight(self, count: int) -> None:
        """How many predictions are inside this worker."""
        self._child(self._metrics.inflight).set(count)

    def set_queue_depth(self, count: int) -> None:
        """How many of them wait for the model."""
        self._child(self._metrics.queue_depth).set(count)

    def set_ready(self, ready: bool) -> None:
        """Whether this worker can predict with the model; say False when loading begins, or nothing is known."""
        self._child(self._metrics.ready).set(ready)

    def set_loaded(self, seconds: float, sha256: str, form: str, accelerated: bool) -> None:
        """The model was loaded, in how long and from what."""
        self._child(self._metrics.load_seconds).set(seconds)
        self._child(self._metrics.info, sha256, form, str(accelerated).lower()).set(1)

    def count_payload_drops(self, reason: str, lines: int) -> None:
        """The payload log has lost so many requests."""
        self._child(self._metrics.payload_drops, reason).inc(lines)

    def set_drift(self, feature: str, psi: float) -> None:
        """How far a feature has moved from the training data."""
        self._child(self._metrics.drift, feature).set(psi)


class _Files(Collector):
    """The sum over some files, in prometheus_client's terms."""

    def __init__(self, files: list[Path]) -> None:
        names = [str(path) for path in files]
        self._sums: Iterable[Metric] = MultiProcessCollector.merge(names)  # type: ignore[no-untyped-call]

    def collect(self) -> Iterable[Metric]:
        return self._sums


def _take(lock: TextIO, mode: int) -> None:
    deadline = time.monotonic() + LOCK_SECONDS
    while True:
        try:
            return fcntl.flock(lock, mode | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > deadline:
                raise TimeoutError(f"{lock.name} was held for {LOCK_SECONDS:g} s; try again") from None
            time.sleep(0.002)


@contextmanager
def _locked(directory: Path, mode: int) -> Iterator[None]:
    """Hold the directory's lock; the kernel gives it back when a process dies.

    Everyone comes through the gate, and a merge keeps it shut: else scrapes that overlap would hold it off for ever.
    """
    with (directory / "gate").open("a") as gate, (directory / "lock").open("a") as lock:
        _take(gate, fcntl.LOCK_EX)
        _take(lock, mode)
        if mode == fcntl.LOCK_SH:
            fcntl.flock(gate, fcntl.LOCK_UN)
        yield


def render(directory: Path) -> bytes:
    """The metrics of all workers, alive and dead, in Prometheus's text form."""
    registry = CollectorRegistry()
    with _locked(directory, fcntl.LOCK_SH):
        # A worker that has just begun (or was killed then) has an empty file for a moment.
        registry.register(_Files([path for path in directory.glob("*.db") if path.stat().st_size]))
    return generate_latest(registry)


def _read_values(path: Path) -> Iterator[tuple[str, float]]:
    """Keys and values of a process's file, as far as it can be read."""
    if not path.exists() or not path.stat().st_size:
        return
    with suppress(RuntimeError, struct.error, UnicodeDecodeError):
        for key, value, _, _ in MmapedDict.read_all_values_from_file(str(path)):  # type: ignore[no-untyped-call]
            yield key, value


def _encode_values(values: Mapping[str, float]) -> bytes:
    """The form that MmapedDict reads. It would write it through a memory map, where a full disk is a fatal signal."""
    entries = []
    for key, value in values.items():
        text = key.encode()
        padded = text + b" " * (8 - (len(text) + 4) % 8)
        entries.append(struct.pack(f"i{len(padded)}sdd", len(text), padded, value, 0.0))
    body = b"".join(entries)
    return struct.pack("i4x", 8 + len(body)) + body


def _add_to_dead(directory: Path, kind: str, pid: int) -> None:
    source, dead = directory / f"{kind}_{pid}.db", directory / f"{kind}_dead.db"
    if not source.exists():
        return
    sums: dict[str, float] = {}
    for path in (dead, source):
        for key, value in _read_values(path):
            sums[key] = sums.get(key, 0.0) + value
    dead.with_suffix(".part").write_bytes(_encode_values(sums))
    source.rename(source.with_suffix(".merging"))
    _finish_merges(directory)


def _finish_merges(directory: Path) -> None:
    """End what a merge began: a .merging file means that its sum is complete, a .part file alone that it is not."""
    for merging in directory.glob("*.merging"):
        dead = directory / f"{merging.name.split('_')[0]}_dead.db"
        if dead.with_suffix(".part").exists():
            dead.with_suffix(".part").rename(dead)
        merging.unlink()
    for part in directory.glob("*.part"):
        part.unlink()


def merge_dead_worker(directory: Path, pid: int) -> None:
    """Keep a dead worker's counts, drop its gauges and files. May be called again after any failure."""
    with _locked(directory, fcntl.LOCK_EX):
        _finish_merges(directory)
        for path in directory.glob(f"gauge_*_{pid}.db"):
            path.unlink()
        for kind in _SUMMED:
            _add_to_dead(directory, kind, pid)
