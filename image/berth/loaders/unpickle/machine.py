"""The pickle machine: the standard library's, in Python, with every opcode that can do something replaced.

The C unpickler lets a file call whatever lies on its stack and set whatever attribute it names. Here
- a name is looked up only if exactly that pair is allowed, and a class that it leads to is no value (references.py);
- a call is made only on what such a look-up gave, and only if the list says that it may be called;
- a state is set once, on an instance and never on a class or function, through the type's own `__setstate__`;
- items go into plain containers only, and nothing is hashed that could hash for ever (containers.py, hashing.py).
joblib's arrays, whose bytes stand between the opcodes, are read here too, so joblib's own reader has no part in it.
"""

from __future__ import annotations

import pickle
import types
from collections.abc import Callable
from functools import partial
from math import prod
from typing import Any, ClassVar

import numpy as np

from berth.errors import LoadError
from berth.loaders.legacy.standins import stand_in
from berth.loaders.unpickle.allow import Name, default_allow
from berth.loaders.unpickle.calls import CallMachine
from berth.loaders.unpickle.guarded import GUARDED, Wrapper, is_guarded
from berth.loaders.unpickle.instance_state import set_state
from berth.loaders.unpickle.names import find, todays_pair
from berth.loaders.unpickle.opcodes import only, put_marked, put_one, then
from berth.loaders.unpickle.pandas_data import Missing, PandasType
from berth.loaders.unpickle.rebuild import (
    MAKERS,
    check_dtype,
    check_shape,
    fill_array,
    fill_partial,
    rebuild_dtype,
)
from berth.loaders.unpickle.references import Reference, is_value
from berth.loaders.unpickle.stream import PickleStream
from berth.loaders.unpickle.unread import Unread, unread_class

MAX_OPCODES = 50_000_000
_PLAIN = (dict, list, tuple, set, frozenset, str, bytes, bytearray, int, float, complex, bool, type(None), slice, range)
_NOT_INSTANCES = (type, types.FunctionType, types.BuiltinFunctionType, types.MethodType, types.ModuleType, np.ufunc)


class Machine(CallMachine):
    """One run over one pickle stream; a nested stream gets a machine of its own with the same rules."""

    # Of the standard library's machine.
    proto: int
    metastack: list[list[Any]]
    pop_mark: Callable[[], list[Any]]

    dispatch: ClassVar[dict[int, Callable[[Any], None]]] = dict(pickle._Unpickler.dispatch)

    def __init__(self, source: PickleStream, allow: frozenset[Name], nested: bool = False) -> None:
        super().__init__(source)
        self.allow = allow
        self.own = allow - default_allow()
        self.nested = nested
        self.built: dict[int, object] = {}
        self.dtype_slots: dict[int, list[int]] = {}

    def run(self) -> Any:
        """The object in the stream: the loop of the standard library, with the instructions counted."""
        self._unframer = pickle._Unframer(self.source.read, self.source.readline)  # type: ignore[attr-defined]
        self.read, self.readline = self._unframer.read, self._unframer.readline
        self.metastack, self.stack = [], []
        self.append = self.stack.append
        dispatch, most = self.dispatch, self.source.bound_instructions(MAX_OPCODES)
        for _ in range(most):
            code = self.read(1)
            if code == pickle.STOP:
                return self.finish()
            step = dispatch.get(code[0]) if code else None
            if step is None:
                raise LoadError(f"{code!r} is no instruction of a pickle: the file is damaged, or something else")
            step(self)
        raise LoadError(f"the file has more than {most} instructions, which no model of its size has")

    def finish(self) -> Any:
        """What the stream has made, if it is whole and a value."""
        for made in self.unbuilt.values():
            self.refuse(f"{'functools:' if isinstance(made, partial) else ''}{type(made).__name__} without its state")
        self.check_values([self.stack[-1]])
        if isinstance(unread := self.stack[-1], Unread):
            self.refuse(":".join(unread.pair))
        return self.stack.pop()

    # Names

    def find_class(self, module: str, name: str) -> Any:
        pair = todays_pair(module, name, self.proto, self.allow)
        if is_guarded(pair):
            found: Any = GUARDED[pair] if pair in GUARDED else unread_class(pair)
        elif pair not in self.allow:
            found = stand_in(pair) or self.refuse(f"{pair[0]}:{pair[1]}")
        else:
            found = MAKERS[pair] if pair in MAKERS else find(pair)
        if isinstance(found, PandasType):
            return found  # it makes nothing, and only Berth's own makers of pandas' objects read it
        if isinstance(found, Missing):
            missing = found.value()
            self.named[id(missing)] = (pair, missing)  # which may get no state
            return missing
        if is_guarded(pair) or not is_value(pair, found):
            return Reference(pair, found)
        self.named[id(found)] = (pair, found)
        return found

    def get_extension(self, code: int) -> None:
        self.refuse(f"the extension code {code}")

    def persistent_load(self, pid: Any) -> Any:
        self.refuse("a persistent id")

    def load_inst(self) -> None:
        module = self.readline()[:-1].decode("ascii")
        self.find_class(module, self.readline()[:-1].decode("ascii"))
        self.refuse("an instance made the way of Python 2 (INST)")

    def load_obj(self) -> Any:
        self.refuse("an instance made the way of Python 2 (OBJ)")

    def load_bytearray8(self) -> None:
        self.append(bytearray(self.read(int.from_bytes(self.read(8), "little"))))

    # State

    def load_build(self) -> None:
        state = self.stack.pop()
        target = self.stack[-1]
        kind = type(target)
        self.unbuilt.pop(id(target), None)
        if type(target) is Reference:
            self.refuse(f"a state set on {target.pair[1]}, which has none")
        if id(target) in self.named or isinstance(target, _NOT_INSTANCES) or kind in _PLAIN:
            self.refuse(f"a state set on {getattr(target, '__name__', 'a ' + kind.__name__)}, which has none")
        if isinstance(target, np.dtype):
            self.replace_dtype(target, rebuild_dtype(target, state))
        elif isinstance(target, np.ndarray):
            if self.fresh.pop(id(target), None) is None:
                self.refuse("a second state set on an array")
            self.charge(fill_array(target, state))
        else:
            if id(target) in self.built:
                self.refuse(f"a second state set on a {kind.__name__}")
            self.built[id(target)] = target
            self.check_values(state if type(state) is tuple else [state])
            if isinstance(target, partial):
                fill_partial(target, state, self.own)
            else:
                set_state(target, state, self.own)
            if isinstance(target, Wrapper):
                self.stack[-1] = self.read_array(target)

    def replace_dtype(self, old: np.dtype[Any], new: np.dtype[Any]) -> None:
        """A dtype is never changed, because an array may have it already: the memo forgets the old one instead."""
        self.stack[-1] = new
        for slot in self.dtype_slots.pop(id(old), []):
            if self.memo.get(slot) is old:
                self.memo[slot] = new

    def read_array(self, wrapper: Wrapper) -> Any:
        """The array whose bytes follow in the stream, as joblib puts them."""
        if self.nested:
            raise LoadError("the file is damaged: a joblib array inside an array of objects")
        dtype, shape = check_dtype(wrapper.dtype), check_shape(wrapper.shape)
        if dtype.hasobject:
            return self.read_nested()
        if wrapper.numpy_array_alignment_bytes is not None:
            self.source.skip(int.from_bytes(self.source.read(1), "little"))
        return self.read_plain(dtype, shape, wrapper.order == "F")

    def read_nested(self) -> Any:
        inner = type(self)(self.source, self.allow, nested=True)
        inner.keys = self.keys
        array = inner.run()
        if not isinstance(array, np.ndarray):
            raise LoadError("the file is damaged: an array of objects is something else")
        return array

    def read_plain(self, dtype: np.dtype[Any], shape: tuple[int, ...], fortran: bool) -> Any:
        count = prod(shape)
        self.source.check_room(count * dtype.itemsize or count)
        flat = np.empty(count, dtype)
        if flat.nbytes:
            self.source.readinto(memoryview(flat.view(np.uint8).data))
        array = flat.reshape(shape[::-1]).transpose() if fortran else flat.reshape(shape)
        return array.astype(dtype.newbyteorder("=")) if dtype.byteorder == ">" else array

    def note_memo(self) -> None:
        """Remember where a dtype lies in the memo."""
        super().note_memo()
        if isinstance(self.stack[-1], np.dtype):
            self.dtype_slots.setdefault(id(self.stack[-1]), []).append(next(reversed(self.memo)))


Machine.dispatch.update(
    {
        pickle.REDUCE[0]: only("load_reduce"),
        pickle.NEWOBJ[0]: only("load_newobj"),
        pickle.NEWOBJ_EX[0]: only("load_newobj_ex"),
        pickle.BUILD[0]: only("load_build"),
        pickle.STACK_GLOBAL[0]: only("load_stack_global"),
        pickle.FROZENSET[0]: only("load_frozenset"),
        pickle.DICT[0]: only("load_dict"),
        pickle.LIST[0]: only("load_list"),
        pickle.INST[0]: only("load_inst"),
        pickle.OBJ[0]: only("load_obj"),
        pickle.BYTEARRAY8[0]: only("load_bytearray8"),
        pickle.APPEND[0]: put_one("put_items", 1),
        pickle.APPENDS[0]: put_marked("put_items"),
        pickle.SETITEM[0]: put_one("put_pairs", 2),
        pickle.SETITEMS[0]: put_marked("put_pairs"),
        pickle.ADDITEMS[0]: put_marked("put_members"),
        **{code[0]: then(code, "note_tuple") for code in (pickle.TUPLE, pickle.TUPLE1, pickle.TUPLE2, pickle.TUPLE3)},
        **{
            code[0]: then(code, "note_memo") for code in (pickle.PUT, pickle.BINPUT, pickle.LONG_BINPUT, pickle.MEMOIZE)
        },
    }
)
