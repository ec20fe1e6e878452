"""The opcodes that call something: only what a name led to, and only what the list lets a file call."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from berth.errors import LoadError, UnsafeArtifact
from berth.loaders.unpickle.allow import Name, may_call
from berth.loaders.unpickle.called import check_open_values
from berth.loaders.unpickle.containers import ContainerMachine
from berth.loaders.unpickle.guarded import is_guarded
from berth.loaders.unpickle.pandas_data import INDEX_MAKERS
from berth.loaders.unpickle.rebuild import MAKERS
from berth.loaders.unpickle.references import Reference, count_class_arguments, unwrap
from berth.loaders.unpickle.stream import PickleStream

# Compiled classes that read freed or missing memory until they have a state.
_NEEDS_STATE = (
    "sklearn.metrics._dist_metrics",
    "sklearn.neighbors._ball_tree",
    "sklearn.neighbors._kd_tree",
    "sklearn.tree._tree",
)
_SETS = {("builtins", "set"): set, ("builtins", "frozenset"): frozenset}


class CallMachine(ContainerMachine):
    """The machine with REDUCE, NEWOBJ and NEWOBJ_EX replaced."""

    def __init__(self, source: PickleStream) -> None:
        super().__init__(source)
        self.copied = 0
        # By id; the objects are kept beside, so that no id is used again while the machine runs.
        self.named: dict[int, tuple[Name, object]] = {}
        self.fresh: dict[int, object] = {}
        self.unbuilt: dict[int, object] = {}

    def refuse(self, what: str) -> Any:
        raise UnsafeArtifact(what)

    def charge(self, count: int) -> None:
        """Count what is copied inside: an honest file spends at least a byte on each item."""
        self.copied += count
        if self.copied > self.source.consumed:
            raise LoadError("the file unfolds into more than it holds; it is damaged or made to fill the memory")

    def callee(self, found: object, arguments: int) -> tuple[Name, Any]:
        """What may be called, with its name, or a refusal. Without arguments an allowed class may always be made."""
        if type(found) is Reference:
            pair, target = found.pair, found.target
        elif id(found) in self.named:
            pair, target = self.named[id(found)]
        else:
            raise UnsafeArtifact(f"a call of a {type(found).__name__} that the file put together")
        if arguments and not (is_guarded(pair) or pair in MAKERS or may_call(pair)):
            self.refuse(f"a call of {pair[0]}:{pair[1]}")
        return pair, target

    def load_reduce(self) -> None:
        args = self.stack.pop()
        if type(args) is not tuple:
            raise LoadError("the file is damaged: a call without its arguments")
        pair, function = self.callee(self.stack[-1], 1)
        args = unwrap(args, count_class_arguments(pair))
        self.check_values(args)
        if args and type(args[0]) in (list, str, bytes, tuple):
            self.charge(len(args[0]))
        self.stack[-1] = self.note_made(self.call(pair, function, args))

    def call(self, pair: Name, function: Callable[..., Any], args: tuple[Any, ...]) -> Any:
        """What an allowed function makes of the arguments; what it hashes is measured."""
        if pair in _SETS and len(args) == 1 and type(args[0]) is list:
            members: set[Any] = set()
            self.fill_set(members, args[0])
            return members if _SETS[pair] is set else frozenset(members)
        if type(args[-1] if args else None) in (dict, set, frozenset):
            if function in INDEX_MAKERS:
                import pandas  # noqa: F401 - its import must not count as hashing
            return self.keys.measure(len(args[-1]), lambda: function(*args))
        return function(*args)

    def note_made(self, made: Any) -> Any:
        """Remember what a call has made, where that matters later."""
        if isinstance(made, np.ndarray) and made.size == 0:
            self.fresh[id(made)] = made
        elif isinstance(made, tuple | frozenset):
            self.keys.note(made)
        elif isinstance(made, dict):
            check_open_values(type(made), made.values())
        elif isinstance(made, partial) or type(made).__module__ in _NEEDS_STATE:
            self.unbuilt[id(made)] = made
        return made

    def load_newobj(self) -> None:
        args = self.stack.pop()
        self.make_instance(self.stack.pop(), args, {})

    def load_newobj_ex(self) -> None:
        kwargs = self.stack.pop()
        args = self.stack.pop()
        self.make_instance(self.stack.pop(), args, kwargs)

    def make_instance(self, kind: Any, args: Any, kwargs: Any) -> None:
        if type(args) is not tuple or type(kwargs) is not dict:
            raise LoadError("the file is damaged: an instance without its arguments")
        _, kind = self.callee(kind, len(args) + len(kwargs))
        self.check_values(args)
        if not isinstance(kind, type) or issubclass(kind, np.ndarray | np.dtype | type):
            self.refuse(f"a new instance of {getattr(kind, '__name__', kind)}")
        self.append(self.note_made(kind.__new__(kind, *args, **kwargs)))
