"""What is inside a fitted estimator: walk through it, and make it behave in a server of many threads."""

from __future__ import annotations

import gc
import types
from collections.abc import Iterator
from typing import Any

import numpy as np

from berth.errors import LoadError

_LEAVES = (
    str, bytes, bytearray, int, float, complex, type(None), np.generic, np.dtype, np.ufunc, type, types.ModuleType,
    types.FunctionType, types.BuiltinFunctionType, types.CodeType, types.FrameType,
)  # fmt: skip


def _parts_of(thing: Any) -> Iterator[Any]:
    """What `thing` holds directly, whatever kind of container it is; numbers and text hold nothing."""
    if isinstance(thing, np.ndarray):
        if thing.dtype.hasobject:
            yield from thing.ravel().tolist()
    else:
        # Keys of dicts, deques, partials and slots too: no list of containers is complete.
        yield from gc.get_referents(thing)


def walk_objects(estimator: Any) -> Iterator[Any]:
    """`estimator` and every object that it holds, directly or not, but for numbers, text, classes and functions."""
    seen: set[int] = set()
    # What a walk makes on its way is kept, so that no id is used again.
    kept: list[Any] = []
    waiting = [estimator]
    while waiting:
        thing = waiting.pop()
        if isinstance(thing, _LEAVES) or id(thing) in seen:
            continue
        seen.add(id(thing))
        kept.append(thing)
        yield thing
        waiting.extend(_parts_of(thing))


def walk_fitted(estimator: Any) -> Iterator[Any]:
    """`estimator` and every object in it that has parameters: steps, members of ensembles, prototypes."""
    for thing in walk_objects(estimator):
        if hasattr(thing, "get_params") and hasattr(thing, "__dict__"):
            yield thing


# What each of these is set to where an estimator has it.
_QUIET: dict[str, object] = {"n_jobs": 1, "_n_threads": 1, "verbose": 0, "memory": None}


def reset_jobs(estimator: Any) -> None:
    """Set every `n_jobs` to 1: a forest with -1 would start as many threads as there are cores, in each request.

    Also the number of threads that KMeans took from the machine that fitted it, `verbose`, which prints between the
    lines of the log, and `memory`, a folder for what is computed while fitting.
    """
    for part in walk_fitted(estimator):
        for name in _QUIET.keys() & vars(part).keys():
            vars(part)[name] = _QUIET[name]


def check_fitted(estimator: Any) -> None:
    """That `fit` was called before the file was written. Raises LoadError.

    Of classes from elsewhere that is not known; a row shows it.
    """
    from sklearn.exceptions import NotFittedError
    from sklearn.utils.validation import check_is_fitted

    if not type(estimator).__module__.startswith("sklearn.") or not hasattr(estimator, "fit"):
        return
    try:
        check_is_fitted(estimator)
    except NotFittedError as error:
        raise LoadError(f"{type(estimator).__name__} is not fitted; call fit before you save it") from error
    except Exception:  # a class of an older version may lack what this reads
        return


def is_sklearn_only(estimator: Any) -> bool:
    """Whether no class from elsewhere is in it, which might want the frame it was fitted with."""
    return all(type(part).__module__.startswith("sklearn.") for part in walk_fitted(estimator))


def drop_feature_names(estimator: Any) -> None:
    """Forget the names of the features, so that a plain matrix is accepted without a warning.

    scikit-learn only compares the names. Hiding its warning instead costs more in each request, and
    `warnings.catch_warnings` is not safe between threads.
    """
    for part in walk_fitted(estimator):
        vars(part).pop("feature_names_in_", None)
