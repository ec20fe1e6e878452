"""Forests evaluated tree by tree: scikit-learn checks the rows and makes a job for each tree, in every request."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from berth.tensors.arrays import Array

_CLASSIFIERS = ("RandomForestClassifier", "ExtraTreesClassifier")
_REGRESSORS = ("RandomForestRegressor", "ExtraTreesRegressor")


def direct_methods(estimator: Any) -> dict[str, Callable[[Any], Array]]:
    """Quicker ways to the same numbers, by the name of the method they stand for; none for other estimators.

    The trees' sums are added in scikit-learn's order, so they are the same to the last bit.
    """
    name = type(estimator).__name__
    known = name in (*_CLASSIFIERS, *_REGRESSORS) and type(estimator).__module__.startswith("sklearn.ensemble.")
    if not known or estimator.n_outputs_ > 1:
        return {}
    trees = [member.tree_ for member in estimator.estimators_]

    def mean(table: Any) -> Array:
        rows = estimator._validate_X_predict(table)
        total: Array = trees[0].predict(rows)
        for tree in trees[1:]:
            total += tree.predict(rows)
        total /= len(trees)
        return total

    if name in _CLASSIFIERS:
        return {"predict_proba": mean}
    return {"predict": lambda table: mean(table)[:, 0]}
