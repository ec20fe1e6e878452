"""What happened to each arm: counts that only grow, in a memory-mapped file a worker, so that they survive its death.

A file has 64 places, one for each arm that the worker met:

    key (256 bytes, NUL-padded UTF-8)   experiment, arm, half-life in days and split, with NULs between
    values                              float64, in the order of VALUES, then the buckets of the response times
    cells                               65,536 bits: units fall into them by their hash, and a bit stays set

Only the worker writes its file, anyone may read it. The cells count different units without knowing any: with n units
about m(1 - exp(-n/m)) of m bits are set (K.-Y. Whang et al., "A linear-time probabilistic counting algorithm for
database applications", ACM TODS 15, 1990), and the bits of several workers are joined by OR.

Rewards that fade (a half-life) are counted with the weight 2^((now - start) / half-life), so that their sums only grow
too; whoever reads them divides by the weight of the moment.
"""

from __future__ import annotations

import mmap
import os
import threading
import time
from bisect import bisect_left
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from berth.telemetry.metrics.buckets import SECONDS

VALUES = ("requests", "sticky", "failed", "rewards", "sum", "squares", "faded_rewards", "faded_sum", "faded_squares",
          "agree", "differ", "shadow_failed", "dropped")  # fmt: skip
WIDTH = len(VALUES) + len(SECONDS) + 1
CELLS = 65_536
PLACES = 64
DAY_SECONDS = 86_400
SUFFIX = ".counts"
# The split under which a shadow is counted.
SHADOW = "shadow"
_KEY_BYTES = 256
_PLACE_BYTES = _KEY_BYTES + 8 * WIDTH + CELLS // 8
_FIRST_BUCKET = len(VALUES)
_AT = {name: at for at, name in enumerate(VALUES)}


@dataclass(frozen=True, slots=True)
class ArmKey:
    """What counts belong to: an arm of an experiment, as long as its half-life and its split are the same."""

    experiment: str
    arm: str
    half_life_days: float = 0.0
    split: str = ""

    def encode(self) -> str:
        """The key as files and peers write it."""
        return "\0".join((self.experiment, self.arm, f"{self.half_life_days:g}", self.split))


def decode_key(text: str) -> ArmKey:
    """The key of `ArmKey.encode`. Raises ValueError."""
    experiment, arm, half_life, split = text.split("\0")
    return ArmKey(experiment, arm, float(half_life), split)


class ArmPlace:
    """One arm's counts in this worker. Safe for any thread."""

    def __init__(self, place: memoryview, key: ArmKey, start: float) -> None:
        self._values = place[_KEY_BYTES : _KEY_BYTES + 8 * WIDTH].cast("d")
        self._cells = place[_KEY_BYTES + 8 * WIDTH :]
        self._half_life = key.half_life_days * DAY_SECONDS
        self._start = start
        self._lock = threading.Lock()

    def count_request(self, unit: int, sticky: bool, seconds: float, failed: bool) -> None:
        """A request went to the arm; `unit` is the hash of what it was assigned by."""
        values, bucket = self._values, _FIRST_BUCKET + bisect_left(SECONDS, seconds)
        with self._lock:
            values[0] += 1
            values[bucket] += 1
            if sticky:  # others are units of their own
                values[1] += 1
                cell = (unit >> 20) % CELLS
                self._cells[cell >> 3] |= 1 << (cell & 7)
            if failed:
                values[2] += 1

    def count_reward(self, reward: float, now: float) -> None:
        """A prediction of the arm was worth so much."""
        weight = 2.0 ** ((now - self._start) / self._half_life) if self._half_life else 1.0
        with self._lock:
            for name, amount in (("rewards", 1.0), ("sum", reward), ("squares", reward * reward)):
                self._values[_AT[name]] += amount
                self._values[_AT[f"faded_{name}"]] += amount * weight

    def observe_seconds(self, seconds: float) -> None:
        """A shadow predicted, in so many seconds."""
        with self._lock:
            self._values[_FIRST_BUCKET + bisect_left(SECONDS, seconds)] += 1

    def count(self, name: str) -> None:
        """One more of a value of VALUES."""
        with self._lock:
            self._values[_AT[name]] += 1


class CountFile:
    """This worker's file. Raises OSError when the disk is full."""

    def __init__(self, folder: Path, source: str, start: float) -> None:
        self._start = start
        self._places: dict[ArmKey, ArmPlace | None] = {}
        self._lock = threading.Lock()
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / f"{source}@{start:.3f}{SUFFIX}").open("w+b") as file:
            # Allocated as a whole: a page that the disk has no room for would be a fatal signal later.
            os.posix_fallocate(file.fileno(), 0, PLACES * _PLACE_BYTES)
            self._map = memoryview(mmap.mmap(file.fileno(), PLACES * _PLACE_BYTES))

    def find(self, key: ArmKey) -> ArmPlace | None:
        """An arm's counts, made on first use; None where the file has no place left."""
        if key in self._places:
            return self._places[key]
        with self._lock:
            if key not in self._places:
                self._places[key] = self._make(key)
            return self._places[key]

    def _make(self, key: ArmKey) -> ArmPlace | None:
        text, at = key.encode().encode(), len(self._places)
        if at >= PLACES or len(text) >= _KEY_BYTES:
            return None
        place = self._map[at * _PLACE_BYTES : (at + 1) * _PLACE_BYTES]
        place[: len(text)] = text
        return ArmPlace(place, key, self._start)


def read_counts(path: Path) -> Iterator[tuple[str, tuple[float, ...], bytes]]:
    """Key, values and cells of each arm in a worker's file; nothing for one that is only begun."""
    data = memoryview(b"")
    with suppress(OSError):
        data = memoryview(path.read_bytes())
    for at in range(0, len(data) - _PLACE_BYTES + 1, _PLACE_BYTES):
        place = data[at : at + _PLACE_BYTES]
        if not place[0]:
            return
        key = bytes(place[:_KEY_BYTES]).rstrip(b"\0")
        # A split may be empty: then the key ends in the NUL before it.
        text = key.decode("utf-8", "replace")
        text += "\0" * (3 - text.count("\0"))
        values = tuple(place[_KEY_BYTES : _KEY_BYTES + 8 * WIDTH].cast("d"))
        yield text, values, bytes(place[_KEY_BYTES + 8 * WIDTH :])


def open_counts(folder: Path, host: str, now: float | None = None) -> CountFile:
    """A file for this process, after the fork. Raises OSError."""
    return CountFile(folder, f"{host}-{os.getpid()}", time.time() if now is None else now)
