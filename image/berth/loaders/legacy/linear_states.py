"""Linear models, support vectors, discriminants and latent variables."""

from __future__ import annotations

from typing import Any

import numpy as np

from berth.loaders.legacy.layouts import rename_keys
from berth.loaders.legacy.made_with import Series
from berth.loaders.legacy.meanings import become, former_class

_RENAMED_LOSSES = {"log": "log_loss", "squared_loss": "squared_error"}


def _former_link(state: dict[str, Any], series: Series) -> str | None:
    """How a logistic regression of several classes, or a multinomial one of two, made its probabilities."""
    default = "ovr" if series < (0, 22) else "auto"
    multi, solver = state.pop("multi_class", default), state.get("solver", "lbfgs")
    one_by_one = ("liblinear", "newton-cholesky") if series < (1, 6) else ("liblinear",)
    if multi == "warn" or (multi in ("auto", "deprecated") and solver in one_by_one):
        multi = "ovr"
    if "coef_" not in state or len(state.get("classes_", ())) < 2:
        return None
    if len(state["classes_"]) == 2:
        return "softmax" if multi == "multinomial" else None
    return "ovr" if multi == "ovr" else None


def _upgrade_logistic(target: Any, state: dict[str, Any], series: Series) -> None:
    link = _former_link(state, series)
    if link is not None:
        state["former_link"] = link
        become(target, former_class(f"Former{type(target).__name__}"))


def _upgrade_sgd(target: Any, state: dict[str, Any], series: Series) -> None:
    state["loss"] = _RENAMED_LOSSES.get(state.get("loss", ""), state.get("loss"))
    for name in ("coef_", "intercept_"):
        if f"standard_{name}" in state:
            state.setdefault(name, state[f"standard_{name}"])


def _upgrade_vectors(target: Any, state: dict[str, Any], series: Series) -> None:
    rename_keys(state, {"n_support_": "_n_support", "probA_": "_probA", "probB_": "_probB"})
    if state.get("_n_support") is not None:
        support = np.ascontiguousarray(state["_n_support"], np.int32)
        if len(state.get("class_weight_", ())) == 0 and "classes_" not in state:
            # A regression has one count, which was not kept before 0.22.
            support = np.array([len(state["support_"]), 0], np.int32)
        state["_n_support"] = support
    for name in ("_probA", "_probB"):
        state.setdefault(name, np.empty(0))
    state.setdefault("_num_iter", np.array([0], np.int32))
    if state.get("probability") is False:
        state["probability"] = "deprecated"
    several = len(state.get("classes_", ())) > 2 and state.get("decision_function_shape") == "ovr"
    if several and series < (0, 21) and hasattr(type(target), "decision_function"):
        become(target, former_class(f"Former{type(target).__name__}"))


def _upgrade_ridge(target: Any, state: dict[str, Any], series: Series) -> None:
    if "_label_binarizer" in state:
        state.setdefault("classes_", state["_label_binarizer"].classes_)


def _upgrade_latent(target: Any, state: dict[str, Any], series: Series) -> None:
    """Until 1.2 the coefficients of PLS were for scaled columns, and its predictions a matrix."""
    rename_keys(state, {"x_mean_": "_x_mean", "x_std_": "_x_std", "y_mean_": "_y_mean", "y_std_": "_y_std"})
    coefficients = state.pop("_coef_", None)
    if coefficients is None and "coef_" in state:
        coefficients = state["coef_"].T
    if series < (1, 3) and coefficients is not None:
        state["coef_"] = coefficients / state["_x_std"]
        state.setdefault("intercept_", state["_y_mean"])
        state["_predict_1d"] = False


def _upgrade_discriminant(target: Any, state: dict[str, Any], series: Series) -> None:
    if series < (0, 21) and len(state.get("classes_", ())) > 2:
        become(target, former_class("FormerLinearDiscriminantAnalysis"))


UPGRADES = {
    "BaseLibSVM": _upgrade_vectors,
    "BaseSGD": _upgrade_sgd,
    "LinearDiscriminantAnalysis": _upgrade_discriminant,
    "LogisticRegression": _upgrade_logistic,
    "_PLS": _upgrade_latent,
    "_RidgeClassifierMixin": _upgrade_ridge,
}
