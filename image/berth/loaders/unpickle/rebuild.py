"""Berth's own makers of arrays, dtypes and containers, in place of those that a pickle would call.

numpy's makers believe what the file says: `dtype.__setstate__` takes its flags from the file (an object dtype that
denies holding objects turns raw bytes into pointers), `ndarray.__setstate__` reads a list past its end and frees memory
that views still use, and `numpy.frombuffer` gives a number view of object pointers. So none of them is given an
argument here that has not been checked, and a dtype is made anew from its description.
"""

from __future__ import annotations

import copyreg
from collections import OrderedDict, defaultdict, deque
from collections.abc import Callable, Collection, Iterable
from functools import partial
from math import prod
from typing import Any

import numpy as np

from berth.errors import LoadError, UnsafeArtifact
from berth.loaders.unpickle.allow import Name
from berth.loaders.unpickle.called import check_partial, is_function
from berth.loaders.unpickle.pandas_data import array_state

_MAX_DIMENSIONS = 64
_MAX_FIELDS = 4096
_MAX_TREE_WIDTH = 2**24
_KINDS = "biufcSUVOmM"
_CONTAINER_BASES: tuple[type, ...] = (object, dict, list, tuple, set, frozenset, int, float, str)


def check_shape(shape: object) -> tuple[int, ...]:
    """The shape itself, if it is one."""
    if type(shape) is not tuple or len(shape) > _MAX_DIMENSIONS:
        raise LoadError(f"the file is damaged: {_brief(shape)} is not the shape of an array")
    if not all(isinstance(n, int | np.integer) and not isinstance(n, bool) and 0 <= n < 2**62 for n in shape):
        raise LoadError(f"the file is damaged: {_brief(shape)} is not the shape of an array")
    return tuple(int(n) for n in shape)


def _brief(value: object) -> str:
    """A value for a message; the value's own repr only where that is short and ours."""
    if type(value) in (str, int, bytes) or (type(value) is tuple and all(type(item) is int for item in value)):
        return repr(value)[:80]
    return f"a {type(value).__name__}"


def _plain_dtype(dtype: object) -> np.dtype[Any]:
    if not isinstance(dtype, np.dtype) or dtype.kind not in _KINDS:
        raise LoadError(f"the file is damaged: {_brief(dtype)} is not a dtype that Berth knows")
    return dtype


def check_dtype(dtype: object) -> np.dtype[Any]:
    """The dtype itself, if an array may have it."""
    plain = _plain_dtype(dtype)
    if plain.subdtype is not None:
        raise LoadError(f"the file is damaged: an array of {plain} cannot be")
    return plain


def new_dtype(spec: object, align: object = False, copy: object = False, metadata: object = None) -> np.dtype[Any]:
    """What `numpy.dtype("f8", False, True)` gives."""
    if type(spec) is not str or len(spec) > 100 or "," in spec:
        raise LoadError(f"the file is damaged: {_brief(spec)} is not the name of a dtype")
    return _plain_dtype(np.dtype(spec, copy=True))


def _check_fields(parts: Iterable[object]) -> None:
    """Raise LoadError for a record of too many fields: one that nests the same record is hashed in exponential time."""
    waiting, seen = list(parts), 0
    while waiting:
        part = _plain_dtype(waiting.pop())
        seen += 1
        if seen > _MAX_FIELDS:
            raise LoadError(f"the file is damaged or hostile: a record of more than {_MAX_FIELDS} fields")
        inner = part.base if part.subdtype is not None else part
        waiting.extend(field[0] for field in (inner.fields or {}).values())


def rebuild_dtype(dtype: np.dtype[Any], state: Any) -> np.dtype[Any]:
    """A new dtype as the state describes it; the flags in the state are not believed."""
    _, order, base, names, fields, size, *rest = state
    if base is not None:
        return np.dtype((_plain_dtype(base[0]), check_shape(base[1])))
    if names is not None:
        parts = [fields[name] for name in names]
        _check_fields(part[0] for part in parts)
        return np.dtype(
            {
                "names": list(names),
                "formats": [_plain_dtype(part[0]) for part in parts],
                "offsets": [int(part[1]) for part in parts],
                "itemsize": int(size),
            }
        )
    if dtype.kind in "mM" and len(rest) > 2 and rest[2] is not None:
        unit, step, *_ = rest[2][1]
        dtype = np.dtype(f"{dtype.kind}8[{int(step)}{bytes(unit).decode('ascii')}]")
    return np.dtype((dtype if order in ("|", "=") else dtype.newbyteorder(order)).str)


def new_array(kind: object, shape: object, typecode: object) -> np.ndarray[Any, Any]:
    """What `numpy._core.multiarray._reconstruct` gives: an empty array that a state will fill."""
    if not (isinstance(kind, type) and issubclass(kind, np.ndarray)) or issubclass(kind, np.memmap):
        raise UnsafeArtifact(f"{_brief(kind)} made as if it were an array")
    if shape != (0,):
        raise LoadError(f"the file is damaged: an array begins with the shape {_brief(shape)} instead of (0,)")
    made: np.ndarray[Any, Any] = np.ndarray.__new__(kind, (0,), "b")
    return made


def new_masked(kind: object, base: object, shape: object, typecode: object) -> np.ndarray[Any, Any]:
    """What `numpy.ma.core._mareconstruct` gives."""
    if kind is not np.ma.MaskedArray or base is not np.ndarray or shape != (0,):
        raise LoadError("the file is damaged: a masked array does not begin as one")
    return np.ma.MaskedArray(np.empty(0, "b"), mask=np.empty(0, "?"), dtype="b")


def fill_array(array: np.ndarray[Any, Any], state: Any) -> int:
    """Give a new, empty array its state, and return how many elements were used. Raises LoadError."""
    wanted = 7 if isinstance(array, np.ma.MaskedArray) else 5
    state = array_state(state)
    if type(state) is not tuple or len(state) != wanted:
        raise LoadError(f"the file is damaged: the state of an array has not {wanted} parts")
    _, shape, dtype, _, data = state[:5]
    count = prod(check_shape(shape))
    if check_dtype(dtype).hasobject:
        if type(data) is not list or len(data) != count:
            raise LoadError(f"the file is damaged: an array of {count} objects has other contents")
    elif type(data) is not bytes or len(data) != count * dtype.itemsize:
        raise LoadError(f"the file is damaged: an array of {count} x {dtype} has other contents")
    if wanted == 7 and type(state[5]) is not bytes:
        raise LoadError("the file is damaged: the mask of an array is not bytes")
    array.__setstate__(state)
    return count


def view_buffer(data: object, dtype: object, shape: object, order: object, axes: object = None) -> object:
    """What `numpy._core.numeric._frombuffer` gives."""
    if type(data) not in (bytes, bytearray) or order not in ("C", "F", "K") or check_dtype(dtype).hasobject:
        raise LoadError("the file is damaged: an array is not made of bytes")
    flat = np.frombuffer(data, dtype=check_dtype(dtype))  # type: ignore[call-overload]
    if order != "K":
        return flat.reshape(check_shape(shape), order=order)
    return flat.reshape(check_shape(shape)).transpose(check_shape(axes))


def new_scalar(dtype: object, data: object = b"") -> object:
    """What `numpy._core.multiarray.scalar` gives."""
    wanted = check_dtype(dtype)
    if wanted.hasobject or type(data) is not bytes or len(data) != wanted.itemsize:
        raise LoadError(f"the file is damaged: a scalar of {wanted} has other contents")
    return np.ndarray((), wanted, data)[()]


def encode_text(text: object, encoding: object = "latin1") -> bytes:
    """What `_codecs.encode` gives for the bytes of a protocol 2 pickle."""
    if type(text) is not str or encoding not in ("latin1", "latin-1"):
        raise UnsafeArtifact(f"a call of _codecs:encode with {_brief(encoding)} (only latin1 is ever written)")
    return text.encode("latin1")


def new_object(kind: object, base: object, state: object) -> object:
    """What `copyreg._reconstructor` gives, for protocols 0 and 1."""
    if not isinstance(kind, type) or base not in _CONTAINER_BASES or not issubclass(kind, base):
        raise UnsafeArtifact(f"{_brief(kind)} made through copyreg:_reconstructor")
    if issubclass(kind, np.ndarray | np.generic | np.dtype):
        raise UnsafeArtifact(f"a {kind.__name__} made through copyreg:_reconstructor")
    if base is not object and type(state) is not base:
        raise LoadError(f"the file is damaged: a {kind.__name__} is made of {_brief(state)}")
    return copyreg._reconstructor(kind, base, state)  # type: ignore[attr-defined]


def _maker(kind: Callable[..., object], *takes: type, most: int = 1) -> Callable[..., object]:
    """A container's constructor that accepts only what a pickler would hand it."""

    def make(*args: object) -> object:
        if len(args) > most or not all(type(arg) in takes for arg in args):
            raise LoadError(f"the file is damaged: {getattr(kind, '__name__', kind)} is made of something strange")
        return kind(*args)

    return make


def _new_defaultdict(factory: object = None) -> object:
    if factory is MAKERS["collections", "OrderedDict"]:
        return defaultdict(OrderedDict)
    if factory not in (None, int, float, str, list, dict, set, tuple, bool):
        raise UnsafeArtifact("a defaultdict with a factory that is not a plain type")
    return defaultdict(factory)


def new_partial(function: object, *args: object) -> partial[Any]:
    """What `functools.partial` gives before its state says what it is a partial of."""
    if args or not is_function(function):
        raise UnsafeArtifact(f"functools:partial of {_brief(function)}")
    made: partial[Any] = partial(function)  # type: ignore[misc,operator,arg-type]
    return made


def fill_partial(target: partial[Any], state: Any, own: Collection[Name]) -> None:
    """Give a partial its state, which names its function again."""
    if type(state) is not tuple or len(state) != 4 or state[3]:
        raise UnsafeArtifact("functools:partial with a state that no pickler writes")
    function, args, keywords, _ = state
    check_partial(function, args, keywords, own)
    target.__setstate__((function, args, keywords, None))  # type: ignore[attr-defined]


def new_decision_tree(features: object, classes: object, outputs: object) -> object:
    """What `sklearn.tree._tree.Tree` gives, which believes the numbers of classes that it is given."""
    from sklearn.tree._tree import Tree

    counts = (features, outputs)
    if not all(isinstance(count, int | np.integer) and 0 <= count <= _MAX_TREE_WIDTH for count in counts):
        raise LoadError(f"the file is damaged: a tree of {_brief(features)} features and {_brief(outputs)} outputs")
    if type(classes) is not np.ndarray or classes.dtype != np.intp or classes.shape != (outputs,):
        raise LoadError("the file is damaged: a tree whose numbers of classes are not those of its outputs")
    if classes.size and not (classes.min() > 0 and classes.max() <= _MAX_TREE_WIDTH):
        raise LoadError("the file is damaged: a tree with a number of classes that no tree has")
    made: object = Tree(features, classes, outputs)
    return made


def new_tree(kind: object) -> object:
    """What the `newObj` of scikit-learn's neighbour trees and distance metrics gives."""
    if not isinstance(kind, type) or not kind.__module__.startswith("sklearn."):
        raise UnsafeArtifact(f"newObj of {_brief(kind)}, which is no class of scikit-learn")
    made: object = kind.__new__(kind)  # type: ignore[call-overload]
    return made


def _new_bits(kind: object = "MT19937") -> object:
    made = getattr(np.random, kind, None) if type(kind) is str else kind
    if not isinstance(made, type) or not issubclass(made, np.random.BitGenerator):
        raise UnsafeArtifact(f"a random generator made of {_brief(kind)}")
    return made()


def _random_maker(kind: Callable[[Any], object]) -> Callable[..., object]:
    """numpy's own maker calls whatever its second argument is; this one never does."""

    def make(bits: object = "MT19937", maker: object = None) -> object:
        return kind(bits if isinstance(bits, np.random.BitGenerator) else _new_bits(bits))

    return make


_NUMPY: dict[str, Callable[..., object]] = {
    "multiarray:_reconstruct": new_array,
    "multiarray:scalar": new_scalar,
    "numeric:_frombuffer": view_buffer,
}

# What a file calls under these names is Berth's own function; the named one is never looked up.
MAKERS: dict[tuple[str, str], Callable[..., object]] = {
    **{
        (f"numpy.{core}.{name.split(':')[0]}", name.split(":")[1]): maker
        for core in ("core", "_core")
        for name, maker in _NUMPY.items()
    },
    ("numpy", "dtype"): new_dtype,
    ("numpy.ma.core", "_mareconstruct"): new_masked,
    ("numpy.random._pickle", "__bit_generator_ctor"): _new_bits,
    ("numpy.random._pickle", "__generator_ctor"): _random_maker(np.random.Generator),
    ("numpy.random._pickle", "__randomstate_ctor"): _random_maker(np.random.RandomState),
    ("sklearn.tree._tree", "Tree"): new_decision_tree,
    ("sklearn.neighbors._kd_tree", "newObj"): new_tree,
    ("sklearn.neighbors._ball_tree", "newObj"): new_tree,
    ("sklearn.metrics._dist_metrics", "newObj"): new_tree,
    ("copyreg", "_reconstructor"): new_object,
    ("_codecs", "encode"): encode_text,
    ("builtins", "set"): _maker(set, list),
    ("builtins", "frozenset"): _maker(frozenset, list),
    ("builtins", "bytes"): _maker(bytes, most=0),
    ("builtins", "bytearray"): _maker(bytearray, bytes),
    ("builtins", "complex"): _maker(complex, int, float, most=2),
    ("builtins", "slice"): _maker(slice, int, type(None), str, most=3),
    ("builtins", "range"): _maker(range, int, most=3),
    ("collections", "OrderedDict"): _maker(OrderedDict, most=0),
    ("collections", "deque"): _maker(deque, tuple, list, int, type(None), most=2),
    ("collections", "defaultdict"): _new_defaultdict,
}
