"""The state of an object from an older scikit-learn, before it is set: one table of who upgrades which class.

A state that names the installed version goes through untouched. Any other is completed: what its class calls otherwise
today is renamed, what is computed in `fit` today is computed from what the file holds, and a parameter that came later
gets its default. Where the meaning changed, the object becomes one of the classes in `meanings`.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import cache
from typing import Any, TypeAlias

from berth.errors import LoadError
from berth.loaders.fitted import walk_fitted
from berth.loaders.legacy import (
    boosting_states,
    column_states,
    ensemble_states,
    histogram_states,
    linear_states,
    small_states,
    tree_states,
    widths,
)
from berth.loaders.legacy.made_with import VERSION_KEY, Series, check_series, is_foreign, say_made_with

# (object, state, series) -> None: the state is changed in place.
Upgrade: TypeAlias = Callable[[Any, dict[str, Any], Series], None]
# (state) -> state, for classes that do not say their version.
Layout: TypeAlias = Callable[[Any], Any]

LAYOUTS: dict[str, Layout] = {
    "MinkowskiDistance64": small_states.upgrade_minkowski,
    "Tree": tree_states.upgrade_tree,
    "TreePredictor": histogram_states.upgrade_predictor,
    "_CalibratedClassifier": ensemble_states.upgrade_calibrated,
}
# By the names of classes, base classes first.
UPGRADES: dict[str, Upgrade] = {
    **tree_states.UPGRADES,
    **boosting_states.UPGRADES,
    **histogram_states.UPGRADES,
    **ensemble_states.UPGRADES,
    **linear_states.UPGRADES,
    **column_states.UPGRADES,
    **small_states.UPGRADES,
}


# Since when a class means what it means today, where nothing here brings over what it meant before.
_MEANT_SINCE: dict[str, Series] = {
    "MissingIndicator": (0, 21),
    "OneVsOneClassifier": (0, 21),
}


def _check_known(kind: type, state: dict[str, Any], version: str, series: Series) -> None:
    """Raise LoadError for a state whose meaning is known to be another than today's, and cannot be brought over."""
    numbered = kind.__name__ == "OneHotEncoder" and state.get("n_values") not in (None, "auto")
    if numbered or series < _MEANT_SINCE.get(kind.__name__, (0, 0)):
        raise LoadError(f"{say_made_with(version)}, where a {kind.__name__} meant something else")


@cache
def _parameters(kind: Any, defaults: bool = True) -> dict[str, Any]:
    """The parameters of an estimator with their defaults; those that have one, or all."""
    if not hasattr(kind, "_get_param_names"):
        return {}
    found = inspect.signature(kind.__init__).parameters.values()
    return {one.name: one.default for one in found if one.default is not inspect.Parameter.empty or not defaults}


def upgrade_fitted(estimator: Any, version: str) -> None:
    """Upgrade an estimator that something else than the unpickler has read. Raises LoadError."""
    for part in walk_fitted(estimator):
        if type(part).__module__.startswith("sklearn."):
            state = upgrade_state(part, {**vars(part), VERSION_KEY: version})
            del state[VERSION_KEY]
            vars(part).clear()
            vars(part).update(state)


def upgrade_state(target: Any, state: Any) -> Any:
    """The state that today's class of `target` accepts. Raises LoadError for a version that cannot be read."""
    kind: Any = type(target)
    if kind.__module__ == "scipy.interpolate._bsplines" and type(state) is dict:
        return small_states.upgrade_spline(state)
    if not kind.__module__.startswith("sklearn."):
        return state
    if kind.__name__ in LAYOUTS:
        return LAYOUTS[kind.__name__](state)
    if type(state) is not dict:
        return state
    version = state.get(VERSION_KEY)
    if type(version) is not str or not is_foreign(version):
        return state
    series = check_series(version)
    _check_known(kind, state, version, series)
    for base in reversed(kind.__mro__):
        if base.__name__ in UPGRADES:
            UPGRADES[base.__name__](target, state, series)
    if "base_estimator" in state and "estimator" in _parameters(kind, defaults=False):
        state.setdefault("estimator", state.pop("base_estimator"))
    for name, default in _parameters(kind).items():
        state.setdefault(name, default)
    widths.set_width(target, state)
    return state
