"""Large JSON bodies whose bulk is numbers: parsed straight into numpy, without a Python object a number.

orjson makes a list of Python floats, and checking their types and copying them takes twice as long as parsing them.
simdjson keeps the numbers in its own buffer, from which an array is one copy. It is used only where its result is
certain to be the one that the exact path gives; for everything else `decode_numbers` returns None: whole numbers (they
may be meant as INT64 or as BOOL), null, text, ragged rows, a duplicate key, anything that is not JSON.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import numpy as np

from berth.tensors.arrays import Array

if TYPE_CHECKING:
    from simdjson import Parser

# Below it the exact path is as quick.
LARGE_BYTES = 16384
# A parser keeps memory of several times its largest body; one that parsed a larger body is dropped.
_KEPT_BYTES = 1 << 21
# Where the protocols have their rows and tensors; a list anywhere else stays a list.
_BULK = frozenset({"features", "instances", "inputs", "data"})
# Objects in one another: a V2 request has three levels.
_MOST_DEPTH = 8
_MOST_KEYS = 32
# A piece of a body and what it is compared with stay in the processor's cache.
_COUNTED_BYTES = 1 << 16

# One body at a time in each process: several at once evict one another from the processor's cache.
_turn = threading.Lock()
_kept: list[Parser] = []


class _Odd(Exception):
    """The document is for the exact path."""


def _has_fraction(numbers: Array) -> bool:
    return bool((numbers != np.rint(numbers)).any())


def _count_lists(body: bytes) -> int:
    """The bytes in `body` that begin a list, in a third of the time of `bytes.count`, which goes byte by byte."""
    letters = np.frombuffer(body, np.uint8)
    return sum(
        int(np.count_nonzero(letters[at : at + _COUNTED_BYTES] == ord("[")))
        for at in range(0, len(body), _COUNTED_BYTES)
    )


class _Walk:
    """One document made of simdjson's views; counts its lists, so that none goes unseen."""

    def __init__(self) -> None:
        from simdjson import Array, Object

        self._array, self._object = Array, Object
        self.lists = 0

    def convert(self, value: Any, depth: int = 0, bulk: bool = False) -> Any:
        """`value` as Python objects, and as arrays where it is `bulk`. Raises _Odd."""
        if depth > _MOST_DEPTH:
            raise _Odd
        if isinstance(value, self._object):
            return self._convert_object(value, depth, bulk)
        if isinstance(value, self._array):
            return self._convert_list(value, depth, bulk)
        return value

    def _convert_object(self, value: Any, depth: int, bulk: bool) -> dict[str, Any]:
        names = list(value.keys())
        if len(names) > _MOST_KEYS:  # each is looked up from the front
            raise _Odd
        if len(set(names)) != len(names) or any("\0" in name for name in names):  # simdjson looks up a C string
            raise _Odd
        # `items` would make Python lists of the values.
        return {name: self.convert(value[name], depth + 1, bulk or name in _BULK) for name in names}

    def _convert_list(self, value: Any, depth: int, bulk: bool) -> Any:
        self.lists += 1
        if len(value) == 0:
            return []
        first = value[0]
        if bulk and isinstance(first, int | float):
            return self._numbers(value, (len(value),))
        if bulk and isinstance(first, self._array) and len(first) and isinstance(first[0], int | float):
            self.lists += len(value)
            return self._numbers(value, (len(value), self._width(value)))
        # The shape of a tensor stands beside its data, in an object that `inputs` holds: short lists stay lists.
        return [self.convert(item, depth + 1, bulk) for item in value]

    def _width(self, rows: Any) -> int:
        widths = {len(row) if isinstance(row, self._array) else -1 for row in rows}
        if len(widths) != 1 or -1 in widths:
            raise _Odd
        return int(widths.pop())

    @staticmethod
    def _numbers(value: Any, shape: tuple[int, ...]) -> Any:
        """The numbers of a list, or of a list of rows, as float64; short ones stay lists."""
        if len(shape) == 1 and shape[0] <= _MOST_DEPTH:
            return value.as_list()
        array = np.frombuffer(value.as_buffer(of_type="d"))
        if array.size != np.prod(shape) or not (_has_fraction(array[:_MOST_KEYS]) or _has_fraction(array)):
            raise _Odd
        return array.reshape(shape)


def _convert(parser: Parser, body: bytes) -> Any:
    walk = _Walk()
    converted = walk.convert(parser.parse(body))
    # as_buffer flattens whatever depth it finds; a list inside a row is one that was not counted.
    return converted if walk.lists == _count_lists(body) else None


def decode_numbers(body: bytes) -> Any:
    """The document in `body` with float64 arrays ([n] or [n, m]) for its lists of numbers; None for the exact path."""
    from simdjson import Parser

    with _turn:
        parser = _kept.pop() if _kept else Parser()
        try:
            converted = _convert(parser, body)
        except (_Odd, ValueError, TypeError, RuntimeError):
            return None  # the exception holds views of the parser's memory, so that one is not used again
        if len(body) <= _KEPT_BYTES:
            _kept.append(parser)
        return converted
