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
from berth.loaders.legacy.made_with import VERSION_KEY, Series, check_series, is_foreign

# (object, state, series) -> None: the state is changed in place.
Upgrade: TypeAlias = Callable[[Any, dict[str, Any], Series], None]
# (state) -> state, for classes that do not say their version.
Layout: TypeAlias = Callable[[Any], Any]

LAYOUTS: dict[str, Layout] = {
    "Tree": tree_states.upgrade_tree,
    "TreePredictor": histogram_states.upgrade_predictor,
    "_CalibratedClassifier": ensemble_states.upgrade_calibrated,
}
# By the names of classes, base classes first.
UPGRADES: dict[str, Upgrade] = (
    tree_states.UPGRADES
    | boosting_states.UPGRADES
    | histogram_states.UPGRADES
    | ensemble_states.UPGRADES
    | linear_states.UPGRADES
    | column_states.UPGRADES
    | small_states.UPGRADES
)


@cache
def _parameters(kind: type) -> dict[str, Any]:
    """The parameters of an estimator that have a default."""
    if not hasattr(kind, "_get_param_names"):
        return {}
    found = inspect.signature(kind.__init__).parameters.values()  # type: ignore[misc]
    return {one.name: one.default for one in found if one.default is not inspect.Parameter.empty}


def upgrade_state(target: Any, state: Any) -> Any:
    """The state that today's class of `target` takes. Raises LoadError for a version that cannot be read."""
    kind = type(target)
    if not kind.__module__.startswith("sklearn.") or type(state) is not dict:
        return state
    if kind.__name__ in LAYOUTS:
        return LAYOUTS[kind.__name__](state)
    version = state.get(VERSION_KEY)
    if type(version) is not str or not is_foreign(version):
        return state
    series = check_series(version)
    for base in reversed(kind.__mro__):
        if base.__name__ in UPGRADES:
            UPGRADES[base.__name__](target, state, series)
    for name, default in _parameters(kind).items():
        state.setdefault(name, default)
    widths.set_width(target, state)
    return state
