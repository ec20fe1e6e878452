"""Histogram gradient boosting: the record of its nodes, its loss, and columns of categories."""

from __future__ import annotations

from typing import Any

import numpy as np

from berth.loaders.legacy.boosting_states import classifier_loss, rename_loss
from berth.loaders.legacy.layouts import relay_nodes, rename_keys
from berth.loaders.legacy.made_with import Series
from berth.loaders.legacy.meanings import become, former_class

_NEEDED = ("value", "feature_idx", "left", "right", "is_leaf")


def upgrade_predictor(state: dict[str, Any]) -> dict[str, Any]:
    """Nodes in today's record: before 0.24 there were no categories, and a threshold had another name."""
    from sklearn.ensemble._hist_gradient_boosting.common import PREDICTOR_RECORD_DTYPE

    if relay_nodes(state, PREDICTOR_RECORD_DTYPE, _NEEDED, {"threshold": "num_threshold"}):
        for name in ("binned_left_cat_bitsets", "raw_left_cat_bitsets"):
            state.setdefault(name, np.zeros((0, 8), np.uint32))
    return state


def _upgrade_boosting(target: Any, state: dict[str, Any], series: Series) -> None:
    rename_loss(state)
    state.setdefault("categorical_features", None)
    if "_predictors" not in state:
        return
    state.setdefault("is_categorical_", None)
    renamed = {"bin_mapper_": "_bin_mapper", "_n_features": "n_features_in_", "n_features_": "n_features_in_"}
    rename_keys(state, renamed)
    if series < (0, 22):
        become(target, former_class(f"Former{type(target).__name__}"))
    # Until 1.3 categories came as numbers, and no encoder stood before the trees.
    state.setdefault("_preprocessor", None)
    state.setdefault("_is_categorical_remapped", state["is_categorical_"])
    trees = len(state["_predictors"][0]) if state["_predictors"] else 1
    state["n_trees_per_iteration_"] = trees
    state["_baseline_prediction"] = np.asarray(state["_baseline_prediction"], np.float64).reshape(1, trees)


def _upgrade_classifier(target: Any, state: dict[str, Any], series: Series) -> None:
    if "_predictors" in state:
        trees = state["n_trees_per_iteration_"]
        state["_loss"] = classifier_loss("log_loss", 2 if trees == 1 else trees)


def _upgrade_regressor(target: Any, state: dict[str, Any], series: Series) -> None:
    if "_predictors" not in state:
        return
    from sklearn._loss.loss import HalfGammaLoss, HalfPoissonLoss, HalfSquaredError

    # Of a loss only the way back from the raw score is used: the identity, or the exponential.
    by_log: dict[Any, Any] = {"poisson": HalfPoissonLoss, "gamma": HalfGammaLoss}
    state["_loss"] = by_log.get(state.get("loss"), HalfSquaredError)()


def _upgrade_mapper(target: Any, state: dict[str, Any], series: Series) -> None:
    if "bin_thresholds_" in state:
        state.setdefault("is_categorical_", np.zeros(len(state["bin_thresholds_"]), np.uint8))
        state.setdefault("known_categories", None)
        state.setdefault("missing_values_bin_idx_", state.get("max_bins", 256))


UPGRADES = {
    "BaseHistGradientBoosting": _upgrade_boosting,
    "HistGradientBoostingClassifier": _upgrade_classifier,
    "HistGradientBoostingRegressor": _upgrade_regressor,
    "_BinMapper": _upgrade_mapper,
}
