"""Ensembles of other estimators: what was a base estimator, bagging, AdaBoost, calibration, votes and stacks."""

from __future__ import annotations

from typing import Any

import numpy as np

from berth.loaders.legacy.made_with import Series
from berth.loaders.legacy.meanings import become, former_class

_NEVER_GIVEN = ("deprecated", "warn")


def _rename(state: dict[str, Any], old: str, new: str) -> None:
    if old in state:
        value = state.pop(old)
        if new not in state or state[new] is None:
            state[new] = None if isinstance(value, str) and value in _NEVER_GIVEN else value


def _upgrade_base(target: Any, state: dict[str, Any], series: Series) -> None:
    """`base_estimator` became `estimator` in 1.2."""
    for old, new in (("base_estimator", "estimator"), ("base_estimator_", "estimator_"), ("_estimator", "estimator_")):
        _rename(state, old, new)


def _upgrade_bagging(target: Any, state: dict[str, Any], series: Series) -> None:
    if "n_features_" in state:
        state.setdefault("n_features_in_", int(state["n_features_"]))


def _former_path_length(counts: Any) -> Any:
    """Before 0.21 a leaf of one row counted as a step of its own, and one of two by the general formula."""
    more = np.maximum(counts, 2).astype(float)
    lengths = 2.0 * (np.log(more - 1.0) + np.euler_gamma) - 2.0 * (more - 1.0) / more
    return np.where(counts <= 1, 1.0, lengths)


def _upgrade_isolation(target: Any, state: dict[str, Any], series: Series) -> None:
    if "estimators_" not in state:
        return
    from sklearn.ensemble._iforest import _average_path_length

    trees = [member.tree_ for member in state["estimators_"]]
    lengths = _former_path_length if series < (0, 21) else _average_path_length
    state["_average_path_length_per_tree"] = tuple(lengths(tree.n_node_samples) for tree in trees)
    state["_decision_path_lengths"] = tuple(tree.compute_node_depths() for tree in trees)
    state.setdefault("_max_samples", state.get("max_samples_"))
    if "_max_features" not in state:
        state["_max_features"] = len(state["estimators_features_"][0])
    # Until 0.21 the old behaviour put the threshold beside the offset.
    threshold = state.pop("_threshold_", None)
    if state.pop("behaviour", "new") == "old" and threshold is not None:
        state["former_offset"] = state["offset_"]
        state["offset_"] = state["offset_"] + float(threshold)
        become(target, former_class("FormerIsolationForest"))


def _upgrade_adaboost(target: Any, state: dict[str, Any], series: Series) -> None:
    algorithm = state.pop("algorithm", "SAMME.R" if series < (1, 6) else "SAMME")
    if "estimators_" not in state:
        return
    if algorithm == "SAMME.R":
        state["former_votes"] = "logarithms"
    elif series < (0, 22):
        state["former_votes"] = "shares"
    elif series < (1, 5):
        state["former_votes"] = "ones"
    if "former_votes" in state:
        become(target, former_class("FormerAdaBoostClassifier"))


def upgrade_calibrated(state: dict[str, Any]) -> dict[str, Any]:
    """One fitted pair of an estimator and its calibrators; it does not say its version."""
    for old, new in (("base_estimator", "estimator"), ("calibrators_", "calibrators")):
        _rename(state, old, new)
    # Before 0.24 `classes` was a parameter, and often not given.
    if state.get("classes") is None:
        state["classes"] = state.get("classes_")
    return state


def _upgrade_voting(target: Any, state: dict[str, Any], series: Series) -> None:
    state["estimators"] = [
        (name, "drop" if estimator is None else estimator) for name, estimator in state.get("estimators", [])
    ]


def _upgrade_stacking(target: Any, state: dict[str, Any], series: Series) -> None:
    _rename(state, "_le", "_label_encoder")


def _upgrade_search(target: Any, state: dict[str, Any], series: Series) -> None:
    state.setdefault("multimetric_", False)


def _upgrade_dummy(target: Any, state: dict[str, Any], series: Series) -> None:
    state.setdefault("_strategy", state.get("strategy"))
    if "constant_" in state:
        state["constant_"] = np.asarray(state["constant_"])


UPGRADES = {
    "AdaBoostClassifier": _upgrade_adaboost,
    "BaseBagging": _upgrade_bagging,
    "BaseEnsemble": _upgrade_base,
    "BaseSearchCV": _upgrade_search,
    "CalibratedClassifierCV": _upgrade_base,
    "DummyClassifier": _upgrade_dummy,
    "IsolationForest": _upgrade_isolation,
    "StackingClassifier": _upgrade_stacking,
    "_BaseVoting": _upgrade_voting,
}
