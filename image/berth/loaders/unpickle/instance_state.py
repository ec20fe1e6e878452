"""What the BUILD opcode does, without trusting attributes that the file itself has set."""

from __future__ import annotations

import sys
import types
from typing import Any

from berth.errors import LoadError, UnsafeArtifact
from berth.loaders.unpickle.pandas_data import fill_pandas
from berth.loaders.unpickle.unread import Unread


def set_state(target: Any, state: Any) -> None:
    """Give an instance its state. Raises UnsafeArtifact, LoadError."""
    if isinstance(target, Unread) or fill_pandas(target, state):
        return
    if type(state) is dict:
        check_attributes(target, state)
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
        check_attributes(target, state)
        target.__dict__.update((sys.intern(key), value) for key, value in state.items())
    for key, value in (slots or {}).items():
        if not isinstance(getattr(type(target), key, None), types.MemberDescriptorType):
            raise UnsafeArtifact(f"the slot {key!r} set on a {type(target).__name__}, which has no such slot")
        setattr(target, key, value)


def check_attributes(target: object, state: dict[Any, Any]) -> None:
    """Raise UnsafeArtifact for attributes that change what an object is."""
    for key in state:
        if type(key) is not str or (key.startswith("__") and key.endswith("__")):
            raise UnsafeArtifact(f"the attribute {str(key)[:80]!r} set on a {type(target).__name__}")
