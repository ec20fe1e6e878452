"""From an allowed name to the thing itself, without walking anywhere else."""

from __future__ import annotations

import _compat_pickle
import sys
import types
from functools import partial
from importlib import import_module

import numpy as np

from berth.errors import LoadError, UnsafeArtifact
from berth.loaders.legacy.renames import todays_name
from berth.loaders.unpickle.allow import Name

_KINDS = (type, types.FunctionType, types.BuiltinFunctionType, np.ufunc)

# A mapped array is read like any other: numpy.memmap itself opens, and makes, files.
_ALIASES = {("numpy", "memmap"): ("numpy", "ndarray")}


def python3_name(module: str, name: str) -> Name:
    """Today's name for one that a protocol below 3 spells as Python 2 did."""
    renamed = _compat_pickle.NAME_MAPPING.get((module, name))
    if renamed is not None:
        return renamed
    return _compat_pickle.IMPORT_MAPPING.get(module, module), name


def todays_pair(module: str, name: str, proto: int, allow: frozenset[Name]) -> Name:
    """The name as today's Python and today's libraries spell it; what is allowed as it stands stays as it is."""
    pair = python3_name(module, name) if proto < 3 else (module, name)
    return pair if pair in allow else todays_name(pair)


def find(pair: Name) -> object:
    """The class or function under an allowed name. Raises LoadError, UnsafeArtifact."""
    sys.audit("pickle.find_class", *pair)
    module, name = _ALIASES.get(pair, pair)
    try:
        found: object = import_module(module)
        for part in name.split("."):
            found = getattr(found, part)
    except (ImportError, AttributeError) as error:
        raise LoadError(
            f"the file needs {module}:{name}, which is not there ({error}); "
            "install the version of the library that the model was saved with"
        ) from error
    check_found(pair, found)
    return found


def check_found(pair: Name, found: object) -> None:
    """Raise UnsafeArtifact if the name leads to something that merely passes by there, such as an imported os."""
    home = getattr(found, "__module__", None)
    callable_type = type(found).__name__ in ("cython_function_or_method", "_ArrayFunctionDispatcher")
    if isinstance(found, partial) or not (isinstance(found, _KINDS) or callable_type):
        raise UnsafeArtifact(f"{pair[0]}:{pair[1]} is a {type(found).__name__}, neither a class nor a function")
    if isinstance(home, str) and home.split(".")[0] != pair[0].split(".")[0]:
        raise UnsafeArtifact(f"{pair[0]}:{pair[1]} is really {home}:{getattr(found, '__qualname__', pair[1])}")
