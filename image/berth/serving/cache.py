"""Predictions that were made before, for models whose outputs depend on their input alone.

The key holds everything that a prediction depends on: model, version, digest, wanted outputs in order, and each input's
name, dtype, shape and bytes. (A reference server's cache forgot the model in its key and returned another's.)
"""

from __future__ import annotations

import hashlib
import threading
import time
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass

from berth.tensors.arrays import Array, Tensors

# What an entry costs beside its arrays: key, dictionary, array headers.
_ENTRY_BYTES = 600


@dataclass(frozen=True, slots=True)
class Cached:
    """One prediction, and when it was made (`time.monotonic()`)."""

    answer: dict[str, Array]
    made: float
    size_bytes: int


def _feed(digest: hashlib.blake2b, *parts: object) -> None:
    """Every part with its length before it, so that no two lists of parts look the same."""
    for part in parts:
        data = part if isinstance(part, bytes) else repr(part).encode("utf-8", "surrogatepass")
        digest.update(len(data).to_bytes(8, "little"))
        digest.update(data)


def encode_key(name: str, version: str, sha256: str, outputs: Sequence[str], tensors: Tensors) -> bytes:
    """32 bytes that stand for the whole question."""
    digest = hashlib.blake2b(digest_size=32)
    _feed(digest, name, version, sha256, tuple(outputs))
    for key in sorted(tensors):
        array = tensors[key]
        data = repr(array.tolist()) if array.dtype.hasobject else array.tobytes()
        _feed(digest, key, array.dtype.str, array.shape, data)
    return digest.digest()


def _size(answer: dict[str, Array]) -> int:
    size = _ENTRY_BYTES
    for array in answer.values():
        size += array.nbytes
        if array.dtype.hasobject:
            size += sum(len(str(value)) + 60 for value in array.ravel())
    return size


class PredictionCache:
    """The predictions used last, up to `max_bytes` of them. Safe for any thread; errors never get in."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._lock = threading.Lock()
        self._entries: OrderedDict[bytes, Cached] = OrderedDict()
        self._bytes = 0

    @property
    def size_bytes(self) -> int:
        """Memory that the entries take, about."""
        return self._bytes

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, key: bytes) -> Cached | None:
        """The prediction kept under a key, which makes it the newest."""
        with self._lock:
            found = self._entries.get(key)
            if found is not None:
                self._entries.move_to_end(key)
            return found

    def put(self, key: bytes, answer: dict[str, Array]) -> None:
        """Keep a prediction, and drop the oldest ones until all fit; one that is too large by itself is not kept."""
        # A copy: a row of a joint result would keep the whole batch alive.
        kept = {name: array.copy() for name, array in answer.items()}
        for array in kept.values():
            array.setflags(write=False)
        entry = Cached(kept, time.monotonic(), _size(kept))
        if entry.size_bytes > self._max_bytes:
            return
        with self._lock:
            old = self._entries.pop(key, None)
            self._bytes += entry.size_bytes - (old.size_bytes if old else 0)
            self._entries[key] = entry
            while self._bytes > self._max_bytes:
                _, dropped = self._entries.popitem(last=False)
                self._bytes -= dropped.size_bytes
