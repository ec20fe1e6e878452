"""Reads which names a pickle uses: the same machine, with inert stand-ins for everything that it would make.

A walk over opcodes alone loses its way in joblib's files, where raw bytes stand between them, and can be fooled through
the memo. This runs the stack and the memo as loading does, so it sees the names that loading sees, yet imports and
calls nothing; only the dtypes of arrays are made, by Berth's own maker, to know how many bytes to pass over.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np

from berth.loaders.legacy.made_with import VERSION_KEY
from berth.loaders.legacy.standins import stand_in
from berth.loaders.unpickle.allow import Name, may_call
from berth.loaders.unpickle.guarded import PARTIAL, WRAPPER, Wrapper, is_guarded
from berth.loaders.unpickle.machine import Machine
from berth.loaders.unpickle.names import todays_pair
from berth.loaders.unpickle.rebuild import MAKERS, rebuild_dtype
from berth.loaders.unpickle.stream import PickleStream
from berth.loaders.unpickle.unread import GETATTR, Unread, is_unread, unread_class

_DTYPE: Name = ("numpy", "dtype")


@dataclass(frozen=True)
class PickleGlobal:
    """A name in a pickle; where there is none, `module` is empty and `name` says what was found."""

    module: str
    name: str
    allowed: bool


class Named:
    """Stands for what a name would have led to."""

    def __init__(self, pair: Name) -> None:
        self.pair = pair


class Inert:
    """Stands for whatever a call or an instance would have been."""


class GlobalRecorder(Machine):
    """A machine that makes nothing and keeps a list."""

    def __init__(self, source: PickleStream, allow: frozenset[Name], nested: bool = False) -> None:
        super().__init__(source, allow, nested)
        self.seen: dict[Name, bool] = {}
        self.called: set[Name] = set()
        self.versions: set[str] = set()

    def globals(self) -> list[PickleGlobal]:
        """What has been seen, each name once; misused ones count as not allowed."""
        return [PickleGlobal(module, name, allowed) for (module, name), allowed in self.seen.items()]

    def note(self, pair: Name, allowed: bool) -> None:
        self.seen[pair] = allowed and self.seen.get(pair, True)

    def refuse(self, what: str) -> Any:
        self.note(("", what), allowed=False)

    def find_class(self, module: str, name: str) -> Any:
        pair = todays_pair(module, name, self.proto, self.allow)
        self.note((module, name), allowed=is_guarded(pair) or pair in self.allow or stand_in(pair) is not None)
        return Named(pair)

    def load_stack_global(self) -> None:
        name, module = self.stack.pop(), self.stack.pop()
        if type(name) is str and type(module) is str:
            self.append(self.find_class(module, name))
        else:
            self.refuse("a name that the file computes")
            self.append(Inert())

    def get_extension(self, code: int) -> None:
        super().get_extension(code)
        self.append(Inert())

    def persistent_load(self, pid: Any) -> Any:
        super().persistent_load(pid)
        return Inert()

    def check_call(self, target: object, arguments: bool) -> Name:
        """The name behind a call; one that may not be called is noted as not allowed."""
        if not isinstance(target, Named):
            self.refuse("a call of something that the file put together")
            return ("", "")
        if arguments:
            self.called.add(target.pair)
        if arguments and target.pair in self.allow and not (target.pair in MAKERS or may_call(target.pair)):
            self.note(target.pair, allowed=False)
        return target.pair

    def load_reduce(self) -> None:
        args = self.stack.pop()
        pair = self.check_call(self.stack[-1], arguments=True)
        if pair == PARTIAL and not (len(args) == 1 and isinstance(args[0], Named)):
            self.note(pair, allowed=False)
        if pair == GETATTR and not (args and isinstance(args[0], Unread)):
            self.note(pair, allowed=False)
        made = unread_class(pair)() if is_unread(pair) or pair == GETATTR else Inert()
        self.stack[-1] = MAKERS[_DTYPE](*args) if pair == _DTYPE else made

    def make_instance(self, kind: Any, args: Any, kwargs: Any) -> None:
        pair = self.check_call(kind, arguments=bool(args) or bool(kwargs))
        self.append(Wrapper() if pair == WRAPPER else unread_class(pair)() if is_unread(pair) else Inert())

    def load_inst(self) -> None:
        self.pop_mark()
        module = self.readline()[:-1].decode("ascii")
        self.find_class(module, self.readline()[:-1].decode("ascii"))
        self.refuse("an instance made the way of Python 2 (INST)")
        self.append(Inert())

    def load_obj(self) -> None:
        self.pop_mark()
        super().load_obj()
        self.append(Inert())

    def load_build(self) -> None:
        state = self.stack.pop()
        target = self.stack[-1]
        if type(state) is dict and type(state.get(VERSION_KEY)) is str:
            self.versions.add(state[VERSION_KEY])
        if isinstance(target, np.dtype):
            self.replace_dtype(target, rebuild_dtype(target, state))
        elif isinstance(target, Wrapper):
            target.__dict__.update(state)
            self.stack[-1] = self.read_array(target)
        elif isinstance(target, Named):
            self.refuse(f"a state set on {target.pair[0]}:{target.pair[1]}")
        elif not isinstance(target, (Inert, Unread)):
            self.refuse(f"a state set on a {type(target).__name__}")

    def read_nested(self) -> Any:
        inner = GlobalRecorder(self.source, self.allow, nested=True)
        inner.run()
        for pair, allowed in inner.seen.items():
            self.note(pair, allowed)
        self.called |= inner.called
        self.versions |= inner.versions
        return Inert()

    def read_plain(self, dtype: np.dtype[Any], shape: tuple[int, ...], fortran: bool) -> Any:
        self.source.skip(prod(shape) * dtype.itemsize)
        return Inert()

    def put_items(self, target: Any, items: list[Any]) -> None:
        if type(target) is list:
            target.extend(items)

    def put_pairs(self, target: Any, items: list[Any]) -> None:
        if type(target) is dict:
            target.update((key, value) for key, value in zip(items[::2], items[1::2], strict=True) if type(key) is str)

    def put_members(self, target: Any, items: list[Any]) -> None:
        """Nothing is hashed here that is not a string."""

    def load_dict(self) -> None:
        items = self.pop_mark()
        self.append({})
        self.put_pairs(self.stack[-1], items)

    def load_frozenset(self) -> None:
        self.pop_mark()
        self.append(Inert())
