"""Gradient boosting: today's loss for the one that the parameters name, and what stood before the first tree."""

from __future__ import annotations

from typing import Any

import numpy as np

from berth.errors import LoadError
from berth.loaders.legacy.made_with import Series
from berth.loaders.legacy.meanings import former_class
from berth.loaders.legacy.standins import Former

# What keeps an exponential of a share below one, so that it passes for a probability.
_SHIFT = 1.5
_LOSSES = {
    "deviance": "log_loss",
    "ls": "squared_error",
    "lad": "absolute_error",
    "least_squares": "squared_error",
    "least_absolute_deviation": "absolute_error",
    "binary_crossentropy": "log_loss",
    "categorical_crossentropy": "log_loss",
    "auto": "log_loss",
}


def rename_loss(state: dict[str, Any]) -> None:
    """The parameter `loss` as it is spelt today."""
    loss = state.get("loss")
    if type(loss) is str:
        state["loss"] = _LOSSES.get(loss, loss)


def classifier_loss(loss: str, classes: int) -> Any:
    """Today's loss of a classifier."""
    from sklearn._loss.loss import ExponentialLoss, HalfBinomialLoss, HalfMultinomialLoss

    if loss == "exponential":
        return ExponentialLoss()
    return HalfBinomialLoss() if classes == 2 else HalfMultinomialLoss(n_classes=classes)


def _former_link(link: Any, series: Series, shift: float) -> Any:
    """The way from the first probabilities to raw scores as it was; the way back has not changed."""
    if series >= (1, 8):
        return link
    made = former_class(f"Former{type(link).__name__}")()
    vars(made).update(vars(link))
    made.former_shift, made.former_centred = shift, series >= (1, 4)
    return made


def _constant(values: Any) -> Any:
    """A regressor that always predicts the same, as today's boosting begins with."""
    from sklearn.dummy import DummyRegressor

    made = DummyRegressor()
    made.n_outputs_, made.constant_ = 1, np.array([[float(values)]])
    return made


def _priors(shares: Any) -> Any:
    """A classifier that always predicts these shares."""
    from sklearn.dummy import DummyClassifier

    made = DummyClassifier(strategy="prior")
    made.n_outputs_, made.n_classes_, made.sparse_output_, made._strategy = 1, len(shares), False, "prior"
    made.classes_, made.class_prior_ = np.arange(len(shares)), np.asarray(shares, float)
    return made


def _first_of(former: Former) -> Any:
    """Today's estimator for one of those that boosting began with before 0.21."""
    kind, said = former.name[1], former.state or {}
    if kind == "ZeroEstimator":
        return "zero"
    if kind == "PriorProbabilityEstimator":
        # Scores began at the shares themselves, not at their logarithms.
        return _priors(np.exp(np.asarray(said["priors"], float) - _SHIFT))
    if kind in ("LogOddsEstimator", "ScaledLogOddsEstimator"):
        scale = 2.0 if kind.startswith("Scaled") else 1.0
        share = 1.0 / (1.0 + np.exp(-scale * float(said["prior"])))
        return _priors([1.0 - share, share])
    if kind in ("MeanEstimator", "QuantileEstimator"):
        return _constant(said["mean" if kind == "MeanEstimator" else "quantile"])
    raise LoadError(f"boosting that begins with a {kind} is not supported")


def _upgrade_boosting(target: Any, state: dict[str, Any], series: Series) -> None:
    rename_loss(state)
    state.pop("loss_", None)
    if "estimators_" not in state:
        return
    first = state.get("init_")
    if isinstance(first, Former):
        state["init_"] = _first_of(first)
        state["former_shift"] = _SHIFT if first.name[1] == "PriorProbabilityEstimator" else 0.0
    state["n_trees_per_iteration_"] = int(state["estimators_"].shape[1])
    if "n_features_" in state:
        state.setdefault("n_features_in_", int(state["n_features_"]))


def _upgrade_classifier(target: Any, state: dict[str, Any], series: Series) -> None:
    if "classes_" in state:
        count = len(state["classes_"])
        state.setdefault("n_classes_", count)
        state["_loss"] = loss = classifier_loss(state["loss"], count)
        loss.link = _former_link(loss.link, series, state.pop("former_shift", 0.0))


def _upgrade_regressor(target: Any, state: dict[str, Any], series: Series) -> None:
    # The raw score is the prediction; the link of every loss is the identity.
    if "estimators_" in state:
        from sklearn._loss.loss import HalfSquaredError

        state["_loss"] = HalfSquaredError()


UPGRADES = {
    "BaseGradientBoosting": _upgrade_boosting,
    "GradientBoostingClassifier": _upgrade_classifier,
    "GradientBoostingRegressor": _upgrade_regressor,
}
