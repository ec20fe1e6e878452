"""Estimators as older versions meant them, where today's class of the same name predicts otherwise.

Each is today's class with the one method that changed put back. An object that has been read as today's class becomes
one of these; nothing else makes them, and no file can name them.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np

# What a former class is made from: today's class by module and name, and the function that makes the class.
_MADE: dict[str, tuple[str, str]] = {
    "FormerAdaBoostClassifier": ("sklearn.ensemble", "AdaBoostClassifier"),
    "FormerIsolationForest": ("sklearn.ensemble", "IsolationForest"),
    "FormerLinearDiscriminantAnalysis": ("sklearn.discriminant_analysis", "LinearDiscriminantAnalysis"),
    "FormerLogisticRegression": ("sklearn.linear_model", "LogisticRegression"),
    "FormerLogisticRegressionCV": ("sklearn.linear_model", "LogisticRegressionCV"),
    "FormerHalfLogitLink": ("sklearn._loss.link", "HalfLogitLink"),
    "FormerHistGradientBoostingClassifier": ("sklearn.ensemble", "HistGradientBoostingClassifier"),
    "FormerHistGradientBoostingRegressor": ("sklearn.ensemble", "HistGradientBoostingRegressor"),
    "FormerLogitLink": ("sklearn._loss.link", "LogitLink"),
    "FormerMultinomialLogit": ("sklearn._loss.link", "MultinomialLogit"),
    "FormerNuSVC": ("sklearn.svm", "NuSVC"),
    "FormerSVC": ("sklearn.svm", "SVC"),
}


def _logistic_probabilities(self: Any, X: Any) -> Any:
    """One sigmoid a class, made to sum to one; or, of two classes, the softmax of the score and its opposite."""
    from sklearn.utils.extmath import softmax

    if self.former_link == "ovr":
        return self._predict_proba_lr(X)
    decision = self.decision_function(X)
    return softmax(np.column_stack([-decision, decision]), copy=False)


def _discriminant_probabilities(self: Any, X: Any) -> Any:
    """Before 0.22: one sigmoid a class, made to sum to one."""
    return self._predict_proba_lr(X)


def _log_probabilities(self: Any, X: Any) -> Any:
    return np.log(self.predict_proba(X))


def _votes(self: Any, member: Any, X: Any) -> Any:
    """What one member of AdaBoost says of each class, before it is weighed."""
    if self.former_votes == "ones":
        return (member.predict(X) == self.classes_[:, np.newaxis]).T.astype(np.float64)
    shares = member.predict_proba(X)
    if self.former_votes == "shares":
        return shares
    logs = np.log(np.clip(shares, np.finfo(shares.dtype).eps, None))
    return (self.n_classes_ - 1) * (logs - logs.mean(axis=1, keepdims=True))


def _boosted_scores(self: Any, X: Any) -> Any:
    """SAMME.R adds the members' logarithms, all of one weight; SAMME before 1.4 the weights of who says so."""
    X = self._check_X(X)
    kind = self.former_votes
    if kind == "shares":  # its scores were made from votes, its probabilities from shares
        self_votes = [(m.predict(X) == self.classes_[:, np.newaxis]).T * w for m, w in _weighed(self)]
    else:
        weights = _weighed(self) if kind == "ones" else [(member, 1.0) for member in self.estimators_]
        self_votes = [_votes(self, member, X) * weight for member, weight in weights]
    scores = sum(self_votes) / self.estimator_weights_.sum()
    if self.n_classes_ == 2:
        scores[:, 0] *= -1
        return scores.sum(axis=1)
    return scores


def _weighed(self: Any) -> list[tuple[Any, float]]:
    return list(zip(self.estimators_, self.estimator_weights_.tolist(), strict=False))


def _boosted_probabilities(self: Any, X: Any) -> Any:
    if self.former_votes != "shares":
        return self._compute_proba_from_decision(self.decision_function(X), self.n_classes_)
    X = self._check_X(X)
    total = sum(member.predict_proba(X) * weight for member, weight in _weighed(self))
    powers = np.exp(total / self.estimator_weights_.sum() / (self.n_classes_ - 1))
    sums = powers.sum(axis=1, keepdims=True)
    return powers / np.where(sums == 0, 1.0, sums)


def _isolation_scores(self: Any, X: Any) -> Any:
    return self.score_samples(X) - self.former_offset


def _isolation_labels(self: Any, X: Any) -> Any:
    return np.where(self.score_samples(X) < self.offset_, -1, 1)


def _first_scores(self: Any, y_pred: Any, out: Any = None) -> Any:
    """Before 1.8 the first probabilities were kept off zero by more, and before 1.4 logarithms were not centred."""
    eps = np.finfo(np.float32).eps
    kept = np.clip(y_pred, eps, 1 - eps, dtype=np.float64)
    if kept.ndim > 1 and not self.former_centred:
        return np.log(kept) + self.former_shift
    return super(type(self), self).link(kept)


def _hist_rows(self: Any, X: Any, *, reset: bool) -> Any:
    """Before 0.22 a missing value was an error."""
    from sklearn.utils.validation import check_array

    return check_array(X, dtype=np.float64)


def _no_scores(self: Any) -> Any:
    """Before 0.21 the scores of a row depended on the other rows of the call, so there are none here."""
    raise AttributeError("decision_function of an SVC from before 0.21 depends on the other rows of the request")


# fmt: off
_METHODS: dict[str, dict[str, Any]] = {
    "FormerAdaBoostClassifier": {"decision_function": _boosted_scores, "predict_proba": _boosted_probabilities},
    "FormerIsolationForest": {"decision_function": _isolation_scores, "predict": _isolation_labels},
    "FormerLinearDiscriminantAnalysis": {
        "predict_proba": _discriminant_probabilities, "predict_log_proba": _log_probabilities
    },
    "FormerLogisticRegression": {"predict_proba": _logistic_probabilities, "predict_log_proba": _log_probabilities},
    "FormerLogisticRegressionCV": {"predict_proba": _logistic_probabilities, "predict_log_proba": _log_probabilities},
    "FormerHalfLogitLink": {"link": _first_scores},
    "FormerHistGradientBoostingClassifier": {"_preprocess_X": _hist_rows},
    "FormerHistGradientBoostingRegressor": {"_preprocess_X": _hist_rows},
    "FormerLogitLink": {"link": _first_scores},
    "FormerMultinomialLogit": {"link": _first_scores},
    "FormerNuSVC": {"decision_function": property(_no_scores)},
    "FormerSVC": {"decision_function": property(_no_scores)},
}
# fmt: on


@cache
def former_class(name: str) -> Any:
    """One of the classes by its name."""
    from importlib import import_module

    module, base = _MADE[name]
    today = getattr(import_module(module), base)
    methods = {**_METHODS[name], "__module__": today.__module__, "__doc__": f"{base} as older versions meant it."}
    return type(name, (today,), methods)


def become(target: Any, kind: type) -> None:
    """Make an object of today's class one of a former class."""
    target.__class__ = kind
