"""What the BUILD opcode does, without trusting attributes that the file itself has set.

Every instance passes here, wherever in the file it lies: a state of another version is brought to today's layout before
it is set, and `check_built` judges the instance after.
"""

from __future__ import annotations

import inspect
import sys
import types
from collections.abc import Collection
from functools import lru_cache
from typing import Any

from berth.errors import LoadError, UnsafeArtifact
from berth.loaders.legacy.upgrade import upgrade_state
from berth.loaders.unpickle import behaviour
from berth.loaders.unpickle.allow import Name
from berth.loaders.unpickle.called import check_calls, check_metric, is_own
from berth.loaders.unpickle.pandas_data import fill_pandas
from berth.loaders.unpickle.unread import Unread


def check_state(kind: type, state: Any, own: Collection[Name]) -> None:
    """Raise UnsafeArtifact or LoadError for a state that an instance of `kind` must not get."""
    if kind.__module__.startswith("numpy.random"):
        behaviour.check_bits(kind, state)
    if kind.__name__.startswith("PyFuncDistance"):
        check_metric(state, own)
    parts = state if type(state) is tuple and len(state) == 2 else (state,)
    for part in parts:
        if type(part) is dict and all(type(key) is str for key in part):
            check_calls(kind, part, own)


def check_built(instance: Any) -> None:
    """Raise UnsafeArtifact or LoadError for an instance that must not have the state it has now."""
    kind: Any = type(instance)
    attributes = getattr(instance, "__dict__", None)
    if type(attributes) is not dict:
        return
    if behaviour.is_estimator_class(kind):
        behaviour.check_vectorizer(kind, attributes)
        behaviour.check_sizes(kind, attributes)
        behaviour.check_inverse_covariance(kind, attributes)


def set_state(target: Any, state: Any, own: Collection[Name] = ()) -> None:
    """Give an instance its state. Raises UnsafeArtifact, LoadError."""
    if isinstance(target, Unread) or fill_pandas(target, state):
        return
    # The file is judged by what it says; the upgrade may then set what no file may.
    check_attributes(target, state, own)
    check_state(type(target), state, own)
    _set(target, upgrade_state(target, state))
    check_built(target)


def _set(target: Any, state: Any) -> None:
    setstate = getattr(type(target), "__setstate__", None)
    if setstate is not None:
        setstate(target, state)
        return
    slots = None
    if type(state) is tuple and len(state) == 2:
        state, slots = state
    for attributes in (state, slots):
        if type(attributes) not in (dict, type(None)):
            raise LoadError(f"the file is damaged: a {type(target).__name__} without a proper state")
    if state:
        target.__dict__.update((sys.intern(key), value) for key, value in state.items())
    for key, value in (slots or {}).items():
        if not isinstance(getattr(type(target), key, None), types.MemberDescriptorType):
            raise UnsafeArtifact(f"the slot {key!r} set on a {type(target).__name__}, which has no such slot")
        setattr(target, key, value)


def check_attributes(target: Any, state: Any, own: Collection[Name]) -> None:
    """Raise UnsafeArtifact for attributes that change what an object is."""
    kind: Any = type(target)
    library = not is_own(kind, own)
    if library and type(state) is not dict and type(getattr(kind, "__setstate__", None)) is types.FunctionType:
        raise UnsafeArtifact(f"a {type(state).__name__} as the state of a {kind.__name__}")
    for part in state if type(state) is tuple and len(state) == 2 else (state,):
        for key in part if type(part) is dict else ():
            if type(key) is not str or (key.startswith("__") and key.endswith("__")):
                raise UnsafeArtifact(f"the attribute {str(key)[:80]!r} set on a {kind.__name__}")
            if library and _is_method(kind, key):
                raise UnsafeArtifact(f"the attribute {key[:80]!r} set on a {kind.__name__}, in place of its method")


@lru_cache(4096)
def _is_method(kind: type, key: str) -> bool:
    """Whether an attribute of a class is a method, which one of the instance would hide; a property is not."""
    found = inspect.getattr_static(kind, key, None)
    return callable(found) or (hasattr(type(found), "__get__") and not hasattr(type(found), "__set__"))
