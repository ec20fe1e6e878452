"""What a file gets for a name: a function or a scalar type as it is, and a marker for everything else.

A library calls what it finds in an estimator's parameters: `FunctionTransformer(func=np.ndarray)` builds an array over
memory that the file chooses. Classes and makers are therefore handed out as a `Reference`, which is neither callable
nor a class. Only the machine unwraps one, and only where a pickler writes it: as what is called, or as the leading
arguments of a function that rebuilds instances.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from berth.loaders.legacy.standins import stand_in
from berth.loaders.unpickle.allow import Name, default_allow, may_call

# Types that an estimator holds as a dtype; beside these, every numpy scalar type.
_SCALARS = (object, bool, int, float, complex, str, bytes)

# How many leading arguments of a call are classes. Names of Cython's makers begin with __pyx_unpickle_ and take one.
_CLASS_ARGUMENTS = {
    "_reconstruct": 1,
    "_mareconstruct": 2,
    "_reconstructor": 2,
    "__bit_generator_ctor": 1,
    "newObj": 1,
    "_new_Index": 1,
    # numpy before 1.24 hands its maker of bit generators to the maker of what holds one.
    "__randomstate_ctor": 2,
    "__generator_ctor": 2,
    "defaultdict": 1,
}


class Reference:
    """Stands for a class, or for a maker of instances, that the file names."""

    __slots__ = ("pair", "target")

    def __init__(self, pair: Name, target: object) -> None:
        self.pair = pair
        self.target = target


def is_value(pair: Name, target: object) -> bool:
    """Whether a file may hold what the name leads to as a value: a scalar type, or a function that it may not call."""
    if stand_in(pair) is target:
        return False
    if pair not in default_allow():
        return True  # the user's own, from BERTH_PICKLE_ALLOW
    if isinstance(target, type):
        return target in _SCALARS or issubclass(target, np.generic)
    return not may_call(pair)


def count_class_arguments(pair: Name) -> int:
    """How many of the leading arguments of a call to `pair` may be classes."""
    if pair not in default_allow() and stand_in(pair) is None:
        return 0
    return 1 if pair[1].startswith("__pyx_unpickle_") else _CLASS_ARGUMENTS.get(pair[1], 0)


def unwrap(args: tuple[object, ...], count: int) -> tuple[Any, ...]:
    """The arguments with the classes behind the references among the first `count`."""
    return tuple(arg.target if at < count and isinstance(arg, Reference) else arg for at, arg in enumerate(args))
