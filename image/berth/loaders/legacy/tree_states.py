"""Trees: the layout of their nodes, and leaves that held counts before they held shares."""

from __future__ import annotations

from typing import Any

import numpy as np

from berth.loaders.legacy.layouts import relay_nodes
from berth.loaders.legacy.made_with import Series

_NODE_FIELDS = (
    "left_child",
    "right_child",
    "feature",
    "threshold",
    "impurity",
    "n_node_samples",
    "weighted_n_node_samples",
)
# The series in which an estimator began to accept missing values.
_TAKES_MISSING = {
    "DecisionTreeClassifier": (1, 3),
    "DecisionTreeRegressor": (1, 3),
    "RandomForestClassifier": (1, 4),
    "RandomForestRegressor": (1, 4),
    "ExtraTreeClassifier": (1, 6),
    "ExtraTreeRegressor": (1, 6),
    "ExtraTreesClassifier": (1, 6),
    "ExtraTreesRegressor": (1, 6),
}


def upgrade_tree(state: dict[str, Any]) -> dict[str, Any]:
    """Nodes in today's record; a node from before 1.3 says nothing of missing values."""
    from sklearn.tree._tree import NODE_DTYPE

    values = state.get("values")
    relaid = relay_nodes(state, NODE_DTYPE, _NODE_FIELDS, {})
    if relaid and isinstance(values, np.ndarray) and values.dtype.kind == "f":
        state["values"] = np.ascontiguousarray(values, np.float64)
    return state


def refuses_missing(table: Any) -> bool:
    """Stands in for a tree's own check of whether it accepts missing values: not before its class learnt to."""
    return False


def _check_missing(target: Any, state: dict[str, Any], series: Series) -> None:
    """A tree that refused missing values goes on doing so, instead of sending them to one side."""
    since = _TAKES_MISSING.get(type(target).__name__)
    members = state.get("estimators_", [])
    if since is not None and series < since:
        if members:
            members[0]._support_missing_values = refuses_missing
        elif "tree_" in state:
            state["_support_missing_values"] = refuses_missing


def _upgrade_shares(target: Any, state: dict[str, Any], series: Series) -> None:
    """Up to 1.3 a leaf of a classifier held the weight of each class, and predict_proba made shares of them."""
    tree = state.get("tree_")
    if series >= (1, 4) or tree is None:
        return
    values = tree.value
    sums = values.sum(axis=2, keepdims=True)
    np.divide(values, sums, out=values, where=sums != 0)


def _upgrade_names(target: Any, state: dict[str, Any], series: Series) -> None:
    state.setdefault("monotonic_cst", None)
    if "n_features_" in state:
        state.setdefault("n_features_in_", int(state["n_features_"]))
    _check_missing(target, state, series)


UPGRADES = {
    "BaseDecisionTree": _upgrade_names,
    "DecisionTreeClassifier": _upgrade_shares,
    "BaseForest": _upgrade_names,
}
