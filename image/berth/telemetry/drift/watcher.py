"""Watching: what was predicted goes into a queue, and a thread of its own counts it into bins.

A request pays for an append or two. The thread starts after the fork and wakes up a few times a second, or when much
waits; it counts whole blocks at once. While it does, requests wait for the interpreter's lock: a block costs a tenth
of a millisecond beside its rows, so few blocks are better. Rows beyond the limit a second, and what the queue has no
room for, by its entries and its bytes, are dropped and counted.

Small requests wait as bytes (packing.py). Where many come, the one that completes a block counts it: on a busy machine
a thread that takes turns with the requests costs them several times what it does.

The bytes are added up without a lock: two requests at once may lose an addition, which the next emptying of the queue,
a quarter of a second later, makes up for by starting again from 0.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from collections import deque
from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from itertools import accumulate, chain
from operator import attrgetter
from typing import Any

import numpy as np

from berth.models.bin_counts import Counted, make_counter
from berth.models.profile import PREDICTION, UNUSUAL, ColumnProfile, Profile, split_columns
from berth.telemetry.drift.packing import BLOCK, PackedRows, can_pack
from berth.telemetry.drift.ring import CountRing
from berth.telemetry.logs import log
from berth.tensors.arrays import Array, Tensors, TensorSpec

QUEUE = 4096
# Of tensors and outputs that wait; a request that is larger waits alone. As much again may be in the thread's hands.
QUEUE_BYTES = 16 << 20
# The queue is emptied so often; what a killed worker had not counted yet is at most this old.
_PAUSE_SECONDS = 0.25
# Or at once when so many requests wait, about half a megabyte of small ones, or so many bytes of large ones.
_MANY, _MANY_BYTES = 512, 1 << 20
# A request that completes a block of packed ones counts it, in about a millisecond, if features are few.
_FEW_FEATURES = 16
# The thread leaves more than so many packed requests to them while more come.
_FEW_PACKED = 256
# Chance keeps a few requests more or less than one of so many: without a margin, a second's last block would often lose
# half of its rows to the limit.
_MARGIN = 1.1
_DTYPE, _SHAPE = attrgetter("dtype"), attrgetter("shape")
_Job = tuple[int, Tensors, Mapping[str, Array], int]
Offer = Callable[[Tensors, Mapping[str, Array], int], None]


@dataclass(frozen=True)
class Watched:
    """A model that is watched: its inputs, its profile, and what to call with unusual values (feature, kind, count)."""

    inputs: Sequence[TensorSpec]
    profile: Profile
    on_unusual: Callable[[str, str, int], None] = lambda feature, kind, count: None
    on_drop: Callable[[int], None] = lambda rows: None

    @cached_property
    def counters(self) -> tuple[Callable[[Array], Counted], ...]:
        """What counts the values of each of the profile's features."""
        return tuple(map(make_counter, self.profile.features))

    @property
    def size(self) -> int:
        """Values in the ring: the rows, then every feature's bins and its unusual values by kind."""
        return 1 + sum(len(column.shares) + len(UNUSUAL) for column in self.profile.features)


def _feature_values(
    watched: Watched, tensors: Tensors, outputs: Mapping[str, Array]
) -> list[tuple[ColumnProfile, Array]]:
    given = dict(split_columns(watched.inputs, tensors))
    pairs = [(column, given[column.name]) for column in watched.profile.columns if column.name in given]
    answer = outputs.get(PREDICTION)
    if watched.profile.prediction is not None and answer is not None and answer.ndim == 1:
        pairs.append((watched.profile.prediction, answer))
    return pairs


def count_block(watched: Watched, tensors: Tensors, outputs: Mapping[str, Array], rows: int) -> Array:
    """What a block of rows adds to the ring ([watched.size] int64); calls `on_unusual`."""
    values = {id(column): array for column, array in _feature_values(watched, tensors, outputs)}
    found = [rows]
    for column, count in zip(watched.profile.features, watched.counters, strict=True):
        if (array := values.get(id(column))) is None:
            found += [0] * (len(column.shares) + len(UNUSUAL))
            continue
        bins, unusual = count(array)
        for kind, odd in unusual.items():
            watched.on_unusual(column.name, kind, odd)
        found += bins
        found += [unusual.get(kind, 0) for kind in UNUSUAL]
    return np.array(found, np.int64)


@dataclass(frozen=True)
class FeatureCounts:
    """One feature's window: its bins ([B]) and its unusual values by kind."""

    bins: Array
    unusual: Mapping[str, int]


def split_counts(profile: Profile, counts: Array) -> tuple[int, list[FeatureCounts]]:
    """The rows, and each feature's counts, out of what `count_block` made."""
    features, at = [], 1
    for column in profile.features:
        middle = at + len(column.shares)
        end = middle + len(UNUSUAL)
        odd = {kind: int(count) for kind, count in zip(UNUSUAL, counts[middle:end], strict=True) if count}
        features.append(FeatureCounts(counts[at:middle], odd))
        at = end
    return int(counts[0]), features


def list_unusual(watched: Watched, tensors: Tensors, rows: int) -> list[list[dict[str, Any]]]:
    """For each row the values that the sample gives no reason to expect."""
    found: list[list[dict[str, Any]]] = [[] for _ in range(rows)]
    for column, array in _feature_values(watched, tensors, {}):
        for kind, mask in column.find_unusual(array, column.find_bins(array)).items():
            for row in np.flatnonzero(mask).tolist():
                value = array[row].item() if isinstance(array[row], np.generic) else array[row]
                value = None if kind == "missing" else value
                found[row].append({"feature": column.name, "kind": kind, "value": value})
    return found


def _are_alike(arrays: Sequence[Array]) -> bool:
    shapes = {shape[1:] for shape in set(map(_SHAPE, arrays))}
    return len(shapes) == 1 and len(set(map(_DTYPE, arrays))) == 1


def _split_jobs(jobs: Sequence[_Job]) -> list[list[_Job]]:
    """Jobs of one model and with the same names, by dtypes and shapes."""
    alike: dict[tuple[object, ...], list[_Job]] = {}
    for job in jobs:
        shapes = [(array.dtype, array.shape[1:]) for arrays in (job[1], job[2]) for array in arrays.values()]
        alike.setdefault((*shapes,), []).append(job)
    return list(alike.values())


def _group_jobs(jobs: Sequence[_Job]) -> list[list[_Job]]:
    """Jobs whose arrays can be joined: requests may have named different outputs, or have brought other dtypes."""
    named: dict[tuple[object, ...], list[_Job]] = {}
    for job in jobs:
        named.setdefault((job[0], tuple(job[1]), tuple(job[2])), []).append(job)
    groups = []
    for each in named.values():
        _, tensors, outputs, _ = each[0]
        given = ([job[1][name] for job in each] for name in tensors)
        answered = ([job[2][name] for job in each] for name in outputs)
        groups += [each] if all(map(_are_alike, chain(given, answered))) else _split_jobs(each)
    return groups


def _join(arrays: Sequence[Array], offsets: Sequence[int], step: int) -> Array:
    """Every `step`-th row of arrays, in each from its offset on, picked before anything is copied."""
    if step == 1:
        return arrays[0] if len(arrays) == 1 else np.concatenate(arrays)
    return np.concatenate([array[at::step] for array, at in zip(arrays, offsets, strict=True)])


class Watcher:
    """Counts the rows of the watched models. Safe for any thread; `rows_per_second` bounds the work."""

    def __init__(
        self,
        watched: Sequence[Watched],
        ring: CountRing,
        rows_per_second: int,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._watched = watched
        self._ring = ring
        self._limit = rows_per_second
        self._now = now
        self._queue: deque[_Job] = deque()
        self._packed = {at: self._pack(at) for at, each in enumerate(watched) if can_pack(each.inputs)}
        self._seen: dict[int, int] = {}  # packed requests at the thread's last look
        self._queued_bytes = 0
        self._many, self._counting = threading.Event(), threading.Lock()
        self._second, self._taken = 0, 0
        # Rows that were offered, packed or not, since the second in which the packed requests' step was chosen.
        self._offered, self._offered_since = 0, int(now())

    def _pack(self, model: int) -> PackedRows:
        few = len(self._watched[model].profile.features) <= _FEW_FEATURES
        on_full = partial(self._count_here, model) if few else self._many.set
        return PackedRows(self._watched[model].inputs[0], on_full, partial(self._enqueue, model))

    def start(self) -> None:
        """Count from now on, in a thread of this process."""
        threading.Thread(target=self._run, name="drift", daemon=True).start()

    def offers(self, model: int) -> Offer:
        """What counts rows of the watched model of this index, soon. It never waits and never raises."""
        packed = self._packed.get(model)
        return partial(self._enqueue, model) if packed is None else packed.offer

    def _enqueue(self, model: int, tensors: Tensors, outputs: Mapping[str, Array], rows: int) -> None:
        size = sum(array.nbytes for arrays in (tensors, outputs) for array in arrays.values())
        waiting = len(self._queue)
        if waiting >= QUEUE or (waiting and self._queued_bytes + size > QUEUE_BYTES):
            self._watched[model].on_drop(rows)
            return
        self._queued_bytes += size
        self._queue.append((model, tensors, outputs, rows))
        if (waiting >= _MANY or self._queued_bytes > _MANY_BYTES) and not self._many.is_set():
            self._many.set()

    def _count_here(self, model: int) -> None:
        """Count a model's packed requests on this thread, if no other does it."""
        if self._counting.acquire(blocking=False):
            try:
                self._count_or_drop([(model, *self._packed[model].take())])
            finally:
                self._counting.release()

    def _run(self) -> None:
        while True:
            self._many.wait(_PAUSE_SECONDS)
            self._many.clear()
            self.look()

    def look(self) -> None:
        """Count what waits, but for packed requests of which so many come that they will be counted without this."""
        self._choose_packed_step()
        seen, self._seen = self._seen, {model: len(packed) for model, packed in self._packed.items()}
        self.count_waiting({at for at, now in self._seen.items() if _FEW_PACKED < now < BLOCK and now != seen.get(at)})

    def count_waiting(self, but: Container[int] = ()) -> None:
        """Count what waits, but for the packed requests of some models."""
        with self._counting:
            self._queued_bytes = 0
            for jobs in _group_jobs([self._queue.popleft() for _ in range(len(self._queue))]):
                self._count_or_drop(jobs)
            for model, packed in self._packed.items():
                if packed and model not in but:
                    self._count_or_drop([(model, *packed.take())])

    def _count_or_drop(self, jobs: list[_Job]) -> None:
        try:
            self._count_jobs(jobs)
        except Exception as error:  # one odd block must not end the watching
            self._watched[jobs[0][0]].on_drop(sum(job[3] for job in jobs))
            log("rows could not be counted for drift", level=logging.WARNING, error=repr(error))

    def _count_jobs(self, jobs: list[_Job]) -> None:
        model, (_, tensors, outputs, _) = jobs[0][0], jobs[0]
        watched, rows = self._watched[model], sum(job[3] for job in jobs)
        self._offered += rows
        step = self._choose_step(rows)
        kept = -(-rows // step) if step else 0
        if rows > kept:
            watched.on_drop(rows - kept)
        if not kept:
            return
        offsets = [-start % step for start in accumulate((job[3] for job in jobs[:-1]), initial=0)] if step > 1 else []
        joined = {name: _join([job[1][name] for job in jobs], offsets, step) for name in tensors}
        answers = {name: _join([job[2][name] for job in jobs], offsets, step) for name in outputs}
        self._ring.add(model, count_block(watched, joined, answers, kept))

    def _choose_packed_step(self) -> None:
        """Once a second: of how many packed requests the next second counts one, by what the last one brought."""
        with self._counting:
            for model, packed in self._packed.items():
                if passed := packed.take_passed():
                    self._watched[model].on_drop(passed)
                    self._offered += passed
            seconds = int(self._now()) - self._offered_since
            if not seconds:
                return
            most = self._limit * seconds
            step = 1 if self._offered <= most else math.ceil(_MARGIN * self._offered / most)
            for packed in self._packed.values():
                packed.step = step
            self._offered, self._offered_since = 0, self._offered_since + seconds

    def _choose_step(self, rows: int) -> int:
        """Take every k-th row, so that the second's rows stay below the limit; 0 takes none."""
        second = int(self._now())
        if second != self._second:
            self._second, self._taken = second, 0
        left = max(self._limit - self._taken, 0)
        step = 1 if rows <= left else -(-rows // left) if left else 0
        self._taken += -(-rows // step) if step else 0
        return step
