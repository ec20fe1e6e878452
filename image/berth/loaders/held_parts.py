"""What the unpickler demands of every instance, held against an estimator that another library has read (skops)."""

from __future__ import annotations

from collections.abc import Collection
from functools import partial
from typing import Any

from berth.loaders.fitted import walk_objects
from berth.loaders.unpickle.allow import Name
from berth.loaders.unpickle.behaviour import is_estimator_class
from berth.loaders.unpickle.called import check_partial
from berth.loaders.unpickle.instance_state import check_built, check_state


def check_parts(estimator: Any, own: Collection[Name]) -> None:
    """Hold the scikit-learn objects of an estimator to what the unpickler demands. Raises UnsafeArtifact, LoadError.

    For formats that another library reads; the unpickler checks each instance when it gets its state.
    """
    for thing in list(walk_objects(estimator)):
        kind: Any = type(thing)
        if isinstance(thing, partial):
            check_partial(thing.func, thing.args, thing.keywords, own)
        elif is_estimator_class(kind) and type(getattr(thing, "__dict__", None)) is dict:
            check_state(kind, vars(thing), own)
            check_built(thing)
