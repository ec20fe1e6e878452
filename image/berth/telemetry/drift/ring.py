"""Counts of the last minutes, in a memory-mapped file a worker: they survive its death and are summed when read.

A file is a ring of slots; each slot holds its number (time divided by a slot's seconds), the rows that were counted
and the count of every bin of every feature of every model. A slot whose number is another than now's is zeroed before
it is written, and left out when it is too old to be read. Only the worker writes its file; anyone may read it.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from itertools import pairwise
from pathlib import Path

import numpy as np

from berth.tensors.arrays import Array

SLOTS = 12
_HEAD = 1  # the slot's number


class CountRing:
    """One worker's counts: for each model so many int64 values, over `minutes` in 12 slots.

    `sizes` are the models' numbers of values, the same in every worker. Raises OSError when the disk is full.
    """

    def __init__(self, path: Path, sizes: Sequence[int], minutes: float, now: Callable[[], float] = time.time) -> None:
        self._now = now
        self._seconds = minutes * 60 / SLOTS
        self._starts = np.cumsum([_HEAD, *sizes]).tolist()
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("w+b") as file:
            # Allocated as a whole: a page that the disk has no room for would be a fatal signal later.
            os.posix_fallocate(file.fileno(), 0, self._starts[-1] * SLOTS * 8)
        # As a plain array: each slice of a memmap takes several times as long.
        self._values = np.asarray(np.memmap(path, np.int64, "r+", shape=(SLOTS, self._starts[-1])))

    def add(self, model: int, counts: Array) -> None:
        """Add `counts` ([sizes[model]]) to the slot of this moment."""
        number = int(self._now() // self._seconds)
        slot = self._values[number % SLOTS]
        if slot[0] != number:
            slot[:] = 0
            slot[0] = number
        slot[self._starts[model] : self._starts[model + 1]] += counts


def _read(path: Path, width: int) -> Array | None:
    with suppress(OSError, ValueError):
        values = np.fromfile(path, np.int64)
        if values.size == SLOTS * width:
            return values.reshape(SLOTS, width)
    return None  # a worker has just begun to write it


def sum_rings(folder: Path, sizes: Sequence[int], minutes: float, now: float) -> list[Array]:
    """Each model's counts over all workers and the whole window ([sizes[model]] int64 each)."""
    starts = np.cumsum([_HEAD, *sizes]).tolist()
    number = int(now // (minutes * 60 / SLOTS))
    total = np.zeros(starts[-1], np.int64)
    for path in folder.glob("*.counts"):
        if (slots := _read(path, starts[-1])) is not None:
            total += slots[(slots[:, 0] > number - SLOTS) & (slots[:, 0] <= number)].sum(axis=0, dtype=np.int64)
    return [total[low:high] for low, high in pairwise(starts)]
