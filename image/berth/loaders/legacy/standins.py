"""Inert stand-ins for what scikit-learn no longer has, and what predict never reads.

A stand-in keeps what the file gives it and does nothing: a loss, a scorer or a list class of another version becomes
one, and where its content matters (the columns of a remainder), the upgrade of the state around it takes it out.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np

from berth.errors import UnsafeArtifact
from berth.loaders.unpickle.allow import Name, default_allow

# Whatever else these modules held: losses, scorers, and the estimators of a constant in boosting before 0.21.
_MODULES = frozenset(
    {
        "sklearn._loss._loss",
        "sklearn._loss.glm_distribution",
        "sklearn._loss.link",
        "sklearn._loss.loss",
        "sklearn.ensemble._gb",
        "sklearn.ensemble._gb_losses",
        "sklearn.ensemble._hist_gradient_boosting.loss",
        "sklearn.ensemble.gradient_boosting",
        "sklearn.linear_model._glm.link",
        "sklearn.linear_model._sgd_fast",
        "sklearn.linear_model.sgd_fast",
        "sklearn.metrics._scorer",
        "sklearn.metrics.scorer",
    }
)
_NAMES: frozenset[Name] = frozenset(
    {
        # Of a warning that a dict of 0.20 kept.
        ("builtins", "DeprecationWarning"),
        ("builtins", "FutureWarning"),
        ("sklearn.compose._column_transformer", "_RemainderColsList"),
        ("pandas.core.indexes.base", "_new_Index"),
        ("pandas.core.indexes.base", "Index"),
        ("sklearn.utils.deprecation", "DeprecationDict"),
    }
)


class Former:
    """What stands for a thing that is gone: its name, and what the file said of it."""

    name: Name = ("", "")
    args: tuple[Any, ...] = ()
    state: Any = None

    def __new__(cls, *args: Any, **kwargs: Any) -> Former:
        made = super().__new__(cls)
        made.args = args
        return made

    def __setstate__(self, state: Any) -> None:
        self.state = state


class FormerDict(dict[Any, Any]):
    """What stands for a dict of another class."""

    name: Name = ("", "")

    def __setstate__(self, state: Any) -> None:
        """Its items are all that counts."""


def known_ufunc(module: object, name: object) -> Any:
    """What numpy before 1.20 wrote for a function such as numpy.log1p: itself, if it may be named."""
    found = getattr(np, name) if type(name) is str and ("numpy", name) in default_allow() else None
    if not isinstance(found, np.ufunc):
        raise UnsafeArtifact(f"numpy.core:_ufunc_reconstruct of {str(name)[:80]!r}")
    return found


@cache
def stand_in(pair: Name) -> Any:
    """The stand-in for a name that is gone; None for a name that has none."""
    if pair == ("numpy.core", "_ufunc_reconstruct"):
        return known_ufunc
    if pair in default_allow() or not (pair in _NAMES or pair[0] in _MODULES):
        return None
    base = FormerDict if pair[1] == "DeprecationDict" else Former
    return type(base.__name__, (base,), {"name": pair})
