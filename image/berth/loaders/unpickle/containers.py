"""The opcodes that fill containers: nothing but values goes in, and nothing is hashed that could hash for ever."""

from __future__ import annotations

import pickle
from collections import deque
from collections.abc import Callable
from typing import Any

from berth.errors import LoadError, UnsafeArtifact
from berth.loaders.legacy.standins import stand_in
from berth.loaders.unpickle.called import check_open_values
from berth.loaders.unpickle.hashing import KeyBudget
from berth.loaders.unpickle.references import Reference
from berth.loaders.unpickle.stream import PickleStream

# A pickler numbers its memo one by one. Larger steps would let the file choose the keys of the memo's own dict.
_MAX_MEMO_GAP = 1024
# joblib names the class of an array in the state of its wrapper.
_WRAPPED_CLASS = "subclass"


class ContainerMachine(pickle._Unpickler):
    """The standard library's machine with every opcode that makes or fills a container replaced."""

    memo: dict[int, Any]
    stack: list[Any]
    append: Callable[[Any], None]
    source: PickleStream

    def __init__(self, source: PickleStream) -> None:
        super().__init__(source)
        self.source = source
        self.keys = KeyBudget()
        # Tuples with a Reference in them, by id: the arguments of a call, and nothing else.
        self.with_class: dict[int, tuple[Any, ...]] = {}

    def check_values(self, items: Any) -> None:
        """Raise UnsafeArtifact if one of the items is a class, or holds one."""
        for item in items:
            if type(item) is Reference and stand_in(item.pair) is not item.target:  # a stand-in's marker is inert
                raise UnsafeArtifact(f"the class {item.pair[0]}:{item.pair[1]} as a value")
            if id(item) in self.with_class:
                self.check_values(item)

    def put_items(self, target: Any, items: list[Any]) -> None:
        if not isinstance(target, list | deque):
            raise UnsafeArtifact(f"items put into a {type(target).__name__}")
        self.check_values(items)
        extend: Callable[[Any, list[Any]], None] = type(target).extend
        extend(target, items)

    def put_pairs(self, target: Any, items: list[Any]) -> None:
        if not isinstance(target, dict):
            raise UnsafeArtifact(f"keys put into a {type(target).__name__}")
        keys, values = items[::2], items[1::2]
        if len(keys) != len(values):
            raise LoadError("the file is damaged: a key without its value")
        self.check_values(keys)
        self.check_values(value for key, value in zip(keys, values, strict=True) if key != _WRAPPED_CLASS)
        check_open_values(type(target), values)

        def put(start: int, stop: int) -> None:
            for at in range(start, stop):
                target[keys[at]] = values[at]

        self.keys.put(keys, put, self.source.consumed)

    def put_members(self, target: Any, items: list[Any]) -> None:
        if type(target) is not set:
            raise UnsafeArtifact(f"members put into a {type(target).__name__}")
        self.fill_set(target, items)

    def fill_set(self, target: set[Any], items: list[Any]) -> None:
        """Add items to a set."""
        self.check_values(items)
        self.keys.put(items, lambda start, stop: target.update(items[start:stop]), self.source.consumed)

    def load_list(self) -> None:
        items = self.pop_mark()  # type: ignore[attr-defined]
        self.check_values(items)
        self.stack.append(items)

    def load_dict(self) -> None:
        items = self.pop_mark()  # type: ignore[attr-defined]
        self.stack.append({})
        self.put_pairs(self.stack[-1], items)

    def load_frozenset(self) -> None:
        members: set[Any] = set()
        self.fill_set(members, self.pop_mark())  # type: ignore[attr-defined]
        self.stack.append(frozenset(members))
        self.keys.note(self.stack[-1])

    def note_tuple(self) -> None:
        """Remember what the newest tuple unfolds to, and whether a class is in it."""
        newest = self.stack[-1]
        self.keys.note(newest)
        if any(type(item) is Reference or id(item) in self.with_class for item in newest):
            self.with_class[id(newest)] = newest

    def note_memo(self) -> None:
        """Check the newest number of the memo. Raises LoadError."""
        if next(reversed(self.memo)) > len(self.memo) + _MAX_MEMO_GAP:
            raise LoadError("the file is damaged or hostile: the numbers of its memo are out of order")
