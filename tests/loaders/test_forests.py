"""Forests asked tree by tree give scikit-learn's own numbers, to the last bit, and refuse what it refuses."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from sklearn import ensemble
from sklearn.datasets import load_iris

from berth.loaders.estimator import serve_estimator
from berth.loaders.forests import direct_methods

X, Y = load_iris(return_X_y=True)
FORESTS: dict[str, Any] = {
    "forest": ensemble.RandomForestClassifier(20, random_state=0),
    "extra_trees": ensemble.ExtraTreesClassifier(20, random_state=0),
    "forest_regressor": ensemble.RandomForestRegressor(20, random_state=0),
    "extra_trees_regressor": ensemble.ExtraTreesRegressor(20, random_state=0),
}


@pytest.mark.parametrize("name", FORESTS)
def test_the_same_numbers(name: str) -> None:
    estimator = FORESTS[name].fit(X, Y)
    loaded = serve_estimator(estimator, (), {})
    answer = loaded.predict({"features": X}, [spec.name for spec in loaded.outputs])
    assert direct_methods(estimator)
    assert np.array_equal(answer["prediction"], estimator.predict(X))
    if "probabilities" in answer:
        assert np.array_equal(answer["probabilities"], estimator.predict_proba(X))


def test_it_is_the_direct_way_that_answers() -> None:
    estimator = ensemble.RandomForestClassifier(5).fit(X, Y)
    loaded, all_five = serve_estimator(estimator, (), {}), estimator.predict_proba(X)
    estimator.estimators_ = estimator.estimators_[:1]  # scikit-learn's own way would now ask one tree
    assert np.array_equal(loaded.predict({"features": X}, ["probabilities"])["probabilities"], all_five)
    assert not np.array_equal(estimator.predict_proba(X), all_five)


def test_too_large_is_refused() -> None:
    loaded = serve_estimator(ensemble.RandomForestClassifier(5).fit(X, Y), (), {})
    with pytest.raises(ValueError, match="infinity"):
        loaded.predict({"features": np.array([[np.inf, 1, 1, 1]])}, ["prediction"])


def test_not_for_several_targets_nor_for_other_kinds() -> None:
    several = ensemble.RandomForestRegressor(3).fit(X, np.column_stack([Y, Y]))
    assert direct_methods(several) == {}
    assert direct_methods(ensemble.BaggingClassifier(n_estimators=2).fit(X, Y)) == {}
