"""Bounds on what hashing the keys of a file may cost.

A dict or set of integers with equal hashes takes quadratic time, a tuple or frozenset that shares its parts takes
exponential time to hash or to compare, and both happen inside one call that nothing interrupts. So what a key unfolds
to is counted before it is hashed, and the time that keys take is measured every few keys. Strings and bytes need
neither: their hashes are randomised and cached.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, TypeVar

from berth.errors import LoadError

_MAX_DEPTH = 200
# Nodes of the tuples and frozensets that are hashed: this many, and this many for each byte of the file.
_FREE_NODES = 2**20
_NODES_PER_BYTE = 16
# CPU time of this thread; keys with honest hashes take 0.1 to 0.3 microseconds each, growing the table included.
_FREE_SECONDS = 0.05
_SECONDS_PER_KEY = 20e-6
_CHUNK = 64
_RANDOMISED = (str, bytes)
_T = TypeVar("_T")


class KeyBudget:
    """Counts the nodes and the seconds that the keys of one file have cost."""

    def __init__(self) -> None:
        # By id: (depth, nodes) of nested tuples and frozensets. They are kept, so that no id is used again.
        self._unfolded: dict[int, tuple[int, int]] = {}
        self._kept: list[object] = []
        self._nodes = 0
        self._keys = 0
        self._seconds = 0.0

    def _unfold(self, item: Any) -> tuple[int, int]:
        return self._unfolded.get(id(item)) or (1, 1 + len(item))

    def note(self, made: tuple[Any, ...] | frozenset[Any]) -> None:
        """Remember what a new tuple or frozenset unfolds to. Raises LoadError."""
        inner = [self._unfold(item) for item in made if isinstance(item, tuple | frozenset)]
        if not inner:
            return
        depth, nodes = 1 + max(one[0] for one in inner), 1 + len(made) + sum(one[1] for one in inner)
        if depth > _MAX_DEPTH:
            raise LoadError(f"the file is damaged or hostile: its tuples are nested more than {_MAX_DEPTH} deep")
        self._unfolded[id(made)] = (depth, nodes)
        self._kept.append(made)

    def put(self, keys: list[Any], put: Callable[[int, int], None], consumed: int) -> None:
        """Have `put(start, stop)` insert the keys, a few at a time. Raises LoadError for keys made to be slow."""
        if all(type(key) in _RANDOMISED for key in keys):
            put(0, len(keys))
            return
        limit = _FREE_NODES + _NODES_PER_BYTE * consumed
        for start in range(0, len(keys), _CHUNK):
            chunk = keys[start : start + _CHUNK]
            self._nodes += sum(self._unfold(key)[1] for key in chunk if isinstance(key, tuple | frozenset))
            if self._nodes > limit:
                raise LoadError("the file is damaged or hostile: its keys unfold into more than the file holds")
            self.measure(len(chunk), lambda: put(start, start + len(chunk)))  # noqa: B023

    def measure(self, count: int, insert: Callable[[], _T]) -> _T:
        """What `insert` returns, which hashes `count` keys. Raises LoadError if that was slow."""
        begun = time.thread_time()
        made = insert()
        self._seconds += time.thread_time() - begun
        self._keys += count
        if self._seconds > _FREE_SECONDS + _SECONDS_PER_KEY * self._keys:
            raise LoadError("the file is damaged or hostile: its keys have colliding hashes, so that they stall a dict")
        return made
