"""The pickle machine: the standard library's, in Python, with every opcode that can do something taken over.

The C unpickler lets a file call whatever lies on its stack and set whatever attribute it names. Here
- a name is looked up only if exactly that pair is allowed;
- a call is made only on what such a look-up gave, and only if the list says that it may be called;
- a state is set once, on an instance and never on a class or function, through the type's own `__setstate__`;
- items go into plain containers only, and nothing is hashed that could hash for ever.
joblib's arrays, whose bytes stand between the opcodes, are read here too, so joblib's own reader has no part in it.
"""

from __future__ import annotations

import pickle
import types
from collections import deque
from collections.abc import Callable
from functools import partial
from math import prod
from typing import Any, ClassVar

import numpy as np

from berth.errors import LoadError, UnsafeArtifact
from berth.loaders.unpickle.allow import Name, may_call
from berth.loaders.unpickle.guarded import GUARDED, Wrapper, is_guarded
from berth.loaders.unpickle.instance_state import set_state
from berth.loaders.unpickle.names import find, python3_name
from berth.loaders.unpickle.opcodes import only, put_marked, put_one, then
from berth.loaders.unpickle.rebuild import (
    MAKERS,
    check_dtype,
    check_shape,
    fill_array,
    fill_partial,
    rebuild_dtype,
)
from berth.loaders.unpickle.stream import PickleStream
from berth.loaders.unpickle.unread import Unread, stand_in

MAX_OPCODES = 50_000_000
_MAX_TUPLE_DEPTH = 200
_MAX_TUPLE_ITEMS = 50_000_000
_PLAIN = (dict, list, tuple, set, frozenset, str, bytes, bytearray, int, float, complex, bool, type(None), slice, range)
_NOT_INSTANCES = (type, types.FunctionType, types.BuiltinFunctionType, types.MethodType, types.ModuleType, np.ufunc)


class Machine(pickle._Unpickler):
    """One run over one pickle stream; a nested stream gets a machine of its own with the same rules."""

    # Of the standard library's machine.
    proto: int
    memo: dict[int, Any]
    stack: list[Any]
    metastack: list[list[Any]]
    pop_mark: Callable[[], list[Any]]

    dispatch: ClassVar[dict[int, Callable[[Any], None]]] = dict(pickle._Unpickler.dispatch)

    def __init__(self, source: PickleStream, allow: frozenset[Name], nested: bool = False) -> None:
        super().__init__(source)
        self.source = source
        self.allow = allow
        self.nested = nested
        self.copied = 0
        # By id; the objects are kept beside, so that no id is used again while the machine runs.
        self.named: dict[int, tuple[Name, object]] = {}
        self.fresh: dict[int, object] = {}
        self.built: dict[int, object] = {}
        self.tuples: dict[int, tuple[int, int]] = {}
        self.kept: list[object] = []
        self.dtype_slots: dict[int, list[int]] = {}

    def run(self) -> Any:
        """The object in the stream: the loop of the standard library, with the instructions counted."""
        self._unframer = pickle._Unframer(self.source.read, self.source.readline)  # type: ignore[attr-defined]
        self.read, self.readline = self._unframer.read, self._unframer.readline
        self.metastack, self.stack = [], []
        self.append = self.stack.append
        dispatch = self.dispatch
        for _ in range(MAX_OPCODES):
            code = self.read(1)
            if not code:
                raise LoadError("the file is truncated: it ends before its pickle does")
            if code == pickle.STOP:
                if isinstance(unread := self.stack[-1], Unread):
                    self.refuse(":".join(unread.pair))
                return self.stack.pop()
            dispatch[code[0]](self)
        raise LoadError(f"the file has more than {MAX_OPCODES} instructions; no model has")

    def refuse(self, what: str) -> Any:
        raise UnsafeArtifact(what)

    def charge(self, count: int) -> None:
        """Count what is copied inside: an honest file spends at least a byte on each item."""
        self.copied += count
        if self.copied > self.source.consumed:
            raise LoadError("the file unfolds into more than it holds; it is damaged or made to fill the memory")

    # Names

    def find_class(self, module: str, name: str) -> Any:
        pair = python3_name(module, name) if self.proto < 3 else (module, name)
        if is_guarded(pair):
            found: Any = GUARDED[pair] if pair in GUARDED else stand_in(pair)
        elif pair not in self.allow:
            self.refuse(f"{pair[0]}:{pair[1]}")
        else:
            found = MAKERS[pair] if pair in MAKERS else find(pair)
        self.named[id(found)] = (pair, found)
        return found

    def get_extension(self, code: int) -> None:
        self.refuse(f"the extension code {code}")

    def persistent_load(self, pid: Any) -> Any:
        self.refuse("a persistent id")

    # Calls

    def callee(self, found: object, arguments: int) -> Any:
        """What may be called, or a refusal. Without arguments an allowed class may always be made."""
        if id(found) not in self.named:
            self.refuse(f"a call of a {type(found).__name__} that the file put together")
        pair, _ = self.named[id(found)]
        if arguments and not (is_guarded(pair) or pair in MAKERS or may_call(pair)):
            self.refuse(f"a call of {pair[0]}:{pair[1]}")
        return found

    def load_reduce(self) -> None:
        args = self.stack.pop()
        if type(args) is not tuple:
            raise LoadError("the file is damaged: a call without its arguments")
        function = self.callee(self.stack[-1], 1)
        if args and type(args[0]) in (list, str, bytes, tuple):
            self.charge(len(args[0]))
        made = function(*args)
        if isinstance(made, np.ndarray) and made.size == 0:
            self.fresh[id(made)] = made
        self.stack[-1] = made

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
        self.callee(kind, len(args) + len(kwargs))
        if not isinstance(kind, type) or issubclass(kind, np.ndarray | np.dtype | type):
            self.refuse(f"a new instance of {getattr(kind, '__name__', kind)}")
        self.append(kind.__new__(kind, *args, **kwargs))

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
            fill_partial(target, state) if isinstance(target, partial) else set_state(target, state)
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
        array = type(self)(self.source, self.allow, nested=True).run()
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

    # Containers

    def put_items(self, target: Any, items: list[Any]) -> None:
        if not isinstance(target, list | deque):
            self.refuse(f"items put into a {type(target).__name__}")
        type(target).extend(target, items)

    def put_pairs(self, target: Any, items: list[Any]) -> None:
        if not isinstance(target, dict):
            self.refuse(f"keys put into a {type(target).__name__}")
        for key, value in zip(items[::2], items[1::2], strict=True):
            target[key] = value

    def put_members(self, target: Any, items: list[Any]) -> None:
        if type(target) is not set:
            self.refuse(f"members put into a {type(target).__name__}")
        target.update(items)

    def note_tuple(self) -> None:
        """Bound what the newest tuple unfolds to: hashing a deep or shared one never ends, or ends in a crash."""
        newest = self.stack[-1]
        inner = [self.tuples.get(id(item), (1, len(item))) for item in newest if type(item) is tuple]
        if not inner:
            return
        depth, items = 1 + max(one[0] for one in inner), len(newest) + sum(one[1] for one in inner)
        if depth > _MAX_TUPLE_DEPTH or items > _MAX_TUPLE_ITEMS:
            raise LoadError("the file is damaged or hostile: its tuples are nested too deeply")
        self.tuples[id(newest)] = (depth, items)
        self.kept.append(newest)

    def note_memo(self) -> None:
        """Remember where a dtype lies in the memo."""
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
