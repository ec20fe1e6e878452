"""What is inside a fitted estimator: walk through it, and make it behave in a server of many threads."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from berth.errors import LoadError, UnsafeArtifact

_CONTAINERS = (list, tuple, set, frozenset)


def _parts_of(thing: Any) -> Iterator[Any]:
    """What `thing` holds directly; numbers and text hold nothing."""
    if isinstance(thing, dict):
        yield from thing.values()
    elif isinstance(thing, _CONTAINERS):
        yield from thing
    elif isinstance(thing, np.ndarray):
        if thing.dtype == object:
            yield from thing.flat
    elif hasattr(thing, "get_params") or type(thing).__module__.startswith("sklearn."):
        # sklearn's own helpers are no estimators, but hold some: _CalibratedClassifier is one.
        yield from vars(thing).values() if hasattr(thing, "__dict__") else ()


def walk_fitted(estimator: Any) -> Iterator[Any]:
    """`estimator` and every object in it that has parameters: steps, members of ensembles, prototypes."""
    seen: set[int] = set()
    waiting = [estimator]
    while waiting:
        thing = waiting.pop()
        if isinstance(thing, (str, bytes, int, float, type, type(None))) or id(thing) in seen:
            continue
        seen.add(id(thing))
        if hasattr(thing, "get_params") and hasattr(thing, "__dict__"):
            yield thing
        waiting.extend(_parts_of(thing))


def reset_jobs(estimator: Any) -> None:
    """Set every `n_jobs` to 1: a forest with -1 would start as many threads as there are cores, in each request."""
    for part in walk_fitted(estimator):
        if "n_jobs" in vars(part):
            part.n_jobs = 1


def check_reads_no_files(estimator: Any) -> None:
    """That no text vectorizer opens files that a request names. Raises UnsafeArtifact."""
    for part in walk_fitted(estimator):
        if (source := getattr(part, "input", "content")) != "content" and hasattr(part, "decode_error"):
            raise UnsafeArtifact(
                f"{type(part).__name__}(input={str(source)[:20]!r}) would read any file that a request names; "
                "save it with input='content'"
            )


def check_fitted(estimator: Any) -> None:
    """That `fit` was called before the file was written. Raises LoadError.

    Of classes from elsewhere nobody knows; they are found out by a row.
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
    """Forget the names of the features, so that a plain matrix is taken without a warning.

    scikit-learn only compares the names. Hiding its warning instead costs more in each request, and
    `warnings.catch_warnings` is not safe between threads.
    """
    for part in walk_fitted(estimator):
        vars(part).pop("feature_names_in_", None)
