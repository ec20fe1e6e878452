"""Trees in double precision: thresholds hit exactly and one step beside, missing values, categories, odd trees."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn import datasets, ensemble, tree
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from accelerating import Both, make_both
from berth.accelerate.ensembles import describe_ensemble
from berth.accelerate.make import Accelerated
from berth.accelerate.ranges import near, thresholds
from berth.accelerate.refusal import Refusal
from berth.tensors.arrays import Array

pytest.importorskip("skl2onnx", reason="acceleration needs skl2onnx")
pytest.importorskip("onnxruntime", reason="acceleration needs onnxruntime")

X, Y = datasets.load_iris(return_X_y=True)
# Several values a column that float32 rounds: there the two precisions part.
FINE = X + np.random.default_rng(0).uniform(0, 1e-7, X.shape)
GAPPY = np.where(np.random.default_rng(1).random(X.shape) < 0.15, np.nan, X)

TREES: dict[str, Any] = {
    "tree": tree.DecisionTreeClassifier(random_state=0),
    "tree_regressor": tree.DecisionTreeRegressor(random_state=0),
    "extra_tree": tree.ExtraTreeClassifier(random_state=0),
    "forest": ensemble.RandomForestClassifier(30, random_state=0),
    "shallow_tree": tree.DecisionTreeClassifier(max_depth=2, random_state=0),
    "shallow_forest": ensemble.RandomForestClassifier(30, max_depth=2, random_state=0),
    "forest_regressor": ensemble.RandomForestRegressor(30, random_state=0),
    "extra_trees": ensemble.ExtraTreesClassifier(30, random_state=0),
    "bagging": ensemble.BaggingClassifier(n_estimators=10, max_features=2, random_state=0),
    "bagging_regressor": ensemble.BaggingRegressor(n_estimators=10, random_state=0),
    "boosting": ensemble.GradientBoostingClassifier(n_estimators=10, random_state=0),
    "boosting_regressor": ensemble.GradientBoostingRegressor(n_estimators=10, random_state=0),
    "hist": ensemble.HistGradientBoostingClassifier(max_iter=10),
    "hist_regressor": ensemble.HistGradientBoostingRegressor(max_iter=10),
    "adaboost": ensemble.AdaBoostClassifier(n_estimators=10, random_state=0),
}


def _edges(estimator: Any, width: int) -> Array:
    """A row for every threshold and each of its neighbours, the other columns as they are in the data."""
    rows = []
    for column, splits in thresholds(estimator, width).items():
        values = near(splits).ravel()
        some = np.resize(FINE, (len(values), width)).copy()
        some[:, column] = values
        rows.append(some)
    return np.concatenate(rows)


def _check_exact(both: Both, features: Array) -> None:
    assert isinstance(both.result, Accelerated), str(both.result)
    plain, fast = both.ask({"features": features})
    for name, wanted in plain.items():
        if name == "probabilities" or both.plain.outputs[0].datatype == "FP64":
            np.testing.assert_allclose(fast[name], wanted, rtol=0, atol=1e-12)
        else:
            assert np.array_equal(fast[name], wanted)


@pytest.mark.parametrize("name", TREES)
def test_every_threshold_and_its_neighbours(name: str, tmp_path: Path) -> None:
    estimator = TREES[name].fit(FINE, Y)
    _check_exact(make_both(estimator, tmp_path, 500), _edges(estimator, X.shape[1]))


@pytest.mark.parametrize(("name", "looks_up"), [("forest", False), ("shallow_forest", True), ("boosting", False)])
def test_only_leaves_of_several_classes_are_looked_up(name: str, looks_up: bool, tmp_path: Path) -> None:
    import onnx

    make_both(TREES[name].fit(FINE, Y), tmp_path, 50)
    operators = {node.op_type for node in onnx.load(tmp_path / "accelerated.onnx").graph.node}
    assert ("ReduceSum" in operators) == looks_up


_MISSING = ["tree", "forest", "shallow_forest", "extra_trees", "hist", "hist_regressor", "forest_regressor"]


@pytest.mark.parametrize("name", _MISSING)
def test_missing_values(name: str, tmp_path: Path) -> None:
    both = make_both(TREES[name].fit(GAPPY, Y), tmp_path, 500)
    _check_exact(both, np.concatenate([GAPPY, np.full((1, 4), np.nan)]))


@pytest.mark.parametrize("name", ["tree", "forest", "boosting"])
def test_what_is_no_float32_is_refused_by_both(name: str, tmp_path: Path) -> None:
    both = make_both(TREES[name].fit(X, Y), tmp_path, 200)
    # Trees and forests take what is missing even if nothing was in training.
    for bad in (np.inf, -np.inf, 1e39, *([np.nan] if name == "boosting" else [])):
        row = {"features": np.array([[5.0, bad, 1.0, 1.0]])}
        for form in (both.plain, both.fast):
            assert form is not None
            with np.errstate(over="ignore"), pytest.raises(ValueError, match=r"NaN|infin|large|missing"):
                form.predict(row, both.names)


def test_two_classes_on_a_tie_choose_the_first(tmp_path: Path) -> None:
    features, target = np.array([[0.0], [0.0], [1.0], [1.0]]), np.array(["a", "b", "b", "a"])
    both = make_both(ensemble.RandomForestClassifier(10, bootstrap=False).fit(features, target), tmp_path, 50)
    plain, fast = both.ask({"features": features})
    assert fast["prediction"].tolist() == plain["prediction"].tolist() == ["a"] * 4


@pytest.mark.parametrize("loss", ["log_loss", "exponential"])
def test_boosting_two_classes(loss: str, tmp_path: Path) -> None:
    estimator = ensemble.GradientBoostingClassifier(loss=loss, n_estimators=10).fit(X, Y == 1)
    both = make_both(estimator, tmp_path, 500)
    _check_exact(both, _edges(estimator, 4))
    assert both.ask({"features": X})[1]["prediction"].dtype == bool


@pytest.mark.parametrize("loss", ["poisson", "gamma", "quantile", "absolute_error"])
def test_hist_boosting_losses(loss: str, tmp_path: Path) -> None:
    quantile = {"quantile": 0.7} if loss == "quantile" else {}
    estimator = ensemble.HistGradientBoostingRegressor(loss=loss, max_iter=10, **quantile).fit(X, Y + 1.0)
    _check_exact(make_both(estimator, tmp_path, 500), X)


def test_two_classes_of_hist_boosting_and_infinities(tmp_path: Path) -> None:
    both = make_both(ensemble.HistGradientBoostingClassifier(max_iter=10).fit(X, Y == 1), tmp_path, 500)
    _check_exact(both, np.concatenate([X, [[np.inf, -np.inf, np.nan, 0.0]]]))


def _categories(missing: bool) -> tuple[Array, Array]:
    rng = np.random.default_rng(3)
    colour = rng.integers(0, 90, 600).astype(float)
    if missing:
        colour[rng.random(600) < 0.2] = np.nan
    features = np.column_stack([rng.normal(size=600), colour])
    return features, (np.nan_to_num(colour, nan=7.0).astype(int) * 37 % 11 > 5).astype(int)


@pytest.mark.parametrize("missing", [False, True])
def test_categories_known_unknown_and_missing(missing: bool, tmp_path: Path) -> None:
    features, target = _categories(missing)
    estimator = ensemble.HistGradientBoostingClassifier(max_iter=20, categorical_features=[1], max_bins=100)
    both = make_both(estimator.fit(features, target), tmp_path, 2000)
    asked = np.array([[0.1, value] for value in [*range(-1, 95), 3.5, 1000.0, -0.0, np.nan]])
    _check_exact(both, asked)


def test_categories_of_a_frame(tmp_path: Path) -> None:
    colour = pd.Categorical(["red", "blue", None, "green"] * 50)
    frame = pd.DataFrame({"size": np.arange(200.0), "colour": colour})
    estimator = ensemble.HistGradientBoostingClassifier(max_iter=10, min_samples_leaf=2)
    both = make_both(estimator.fit(frame, [0, 1, 1, 0] * 50), tmp_path, 500)
    assert isinstance(both.result, Accelerated), str(both.result)
    sent = {"size": np.arange(5.0), "colour": np.array(["red", "blue", None, "green", "mauve"], object)}
    plain, fast = both.ask(sent)
    assert np.array_equal(plain["prediction"], fast["prediction"])


def test_several_values(tmp_path: Path) -> None:
    estimator = ensemble.RandomForestRegressor(10).fit(X, np.column_stack([Y, Y * 2.0, -Y]))
    _check_exact(make_both(estimator, tmp_path, 300), X)


def test_a_tree_without_a_split(tmp_path: Path) -> None:
    for estimator in (tree.DecisionTreeRegressor(max_depth=1), ensemble.RandomForestRegressor(5)):
        both = make_both(estimator.fit(X, np.full(len(X), 2.5)), tmp_path, 50)
        assert both.ask({"features": X[:3]})[1]["prediction"].tolist() == [2.5] * 3


def test_a_scaler_in_front(tmp_path: Path) -> None:
    estimator = make_pipeline(StandardScaler(), ensemble.RandomForestClassifier(20, random_state=0)).fit(FINE, Y)
    _check_exact(make_both(estimator, tmp_path, 1500), FINE)


def test_a_beginning_of_its_own_is_refused_by_name() -> None:
    estimator = ensemble.GradientBoostingClassifier(n_estimators=2, init=tree.DecisionTreeClassifier(max_depth=1))
    found = describe_ensemble(estimator.fit(X, Y))
    assert isinstance(found, Refusal)
    assert "init=DecisionTreeClassifier" in str(found)


def test_more_rows_than_fit_one_run(tmp_path: Path) -> None:
    both = make_both(ensemble.RandomForestClassifier(5, random_state=0).fit(X, Y), tmp_path, 100)
    _check_exact(both, np.resize(FINE, (9001, 4)))


def test_neighbours_are_one_step_away() -> None:
    found = near(np.array([0.1])).ravel()
    single = np.float32(0.1)
    for wanted in (0.1, np.nextafter(0.1, 1), np.nextafter(0.1, 0), single, np.nextafter(single, np.float32(1))):
        assert float(wanted) in found
