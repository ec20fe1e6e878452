"""The metrics' files, one per kind and process: exact over all workers, dead ones included.

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
import os
import struct
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TextIO

from prometheus_client import CollectorRegistry, Metric, generate_latest, values
from prometheus_client.mmap_dict import MmapedDict
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector

from berth.telemetry.metrics.allocated import AllocatedDict
from berth.telemetry.unhurried import Unhurried, with_rests

# A scrape and a merge take milliseconds; a process that was stopped while it scrapes must not stop the others.
LOCK_SECONDS = 2.0
_SUMMED = ("counter", "histogram", "summary")


class _Process:
    """This process's id, read from the kernel once: a request updates fifteen values, and each wants to know."""

    def __init__(self) -> None:
        self._refresh()
        os.register_at_fork(after_in_child=self._refresh)

    def _refresh(self) -> None:
        self._pid = os.getpid()

    def __call__(self) -> int:
        return self._pid


if values.ValueClass is not values.MutexValue:  # PROMETHEUS_MULTIPROC_DIR is set
    if hasattr(os, "memfd_create"):
        values.MmapedDict = AllocatedDict  # type: ignore[attr-defined]
    values.ValueClass = values.MultiProcessValue(_Process())  # type: ignore[no-untyped-call]


class _Files(Collector):
    """The sum over some files, in prometheus_client's terms."""

    def __init__(self, files: list[Path]) -> None:
        names = [str(path) for path in files]
        self._sums: Iterable[Metric] = MultiProcessCollector.merge(Unhurried(names))  # type: ignore[no-untyped-call]

    def collect(self) -> Iterable[Metric]:
        return with_rests(self._sums)


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


def _sum_files(directory: Path) -> _Files:
    with _locked(directory, fcntl.LOCK_SH):
        # A worker that has just begun (or was killed then) has an empty file for a moment.
        return _Files([path for path in directory.glob("*.db") if path.stat().st_size])


def collect(directory: Path) -> Iterable[Metric]:
    """The metrics of all workers, alive and dead."""
    return _sum_files(directory).collect()


def render(directory: Path, computed: Iterable[Collector] = ()) -> bytes:
    """The same and those of `computed`, in Prometheus's text format."""
    return render_collectors(*computed, _sum_files(directory))


def render_collectors(*collectors: Collector) -> bytes:
    """Collectors' metrics in that format."""
    registry = CollectorRegistry()
    for collector in collectors:
        registry.register(collector)
    return generate_latest(registry)


def _read_values(path: Path) -> Iterator[tuple[str, float]]:
    """Keys and values of a process's file, as far as it can be read."""
    if not path.exists() or not path.stat().st_size:
        return
    with suppress(RuntimeError, struct.error, UnicodeDecodeError):
        for key, value, _, _ in MmapedDict.read_all_values_from_file(str(path)):
            yield key, value


def _encode_values(values: Mapping[str, float]) -> bytes:
    """The layout that MmapedDict reads. It would write it through a memory map, where a full disk is a fatal signal."""
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
