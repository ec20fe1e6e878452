"""A table of small fitted estimators of many kinds, each with rows to ask it; shared by every test that needs some.

`ESTIMATORS[name]()` is `(estimator, rows)`. Fits are cached: treat what comes back as read-only.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import numpy as np
import pandas as pd
from sklearn import (
    calibration,
    cluster,
    compose,
    covariance,
    cross_decomposition,
    datasets,
    decomposition,
    discriminant_analysis,
    dummy,
    ensemble,
    gaussian_process,
    isotonic,
    linear_model,
    mixture,
    model_selection,
    multiclass,
    multioutput,
    naive_bayes,
    neighbors,
    neural_network,
    pipeline,
    preprocessing,
    svm,
    tree,
)

from berth.tensors.arrays import DATATYPES, Array, TensorSpec
from estimator_frames import FRAMES, Fitted

_ROWS = 40


@cache
def _iris() -> tuple[Any, Any]:
    features, target = datasets.load_iris(return_X_y=True)
    return features[::2], target[::2]


@cache
def _iris_frame() -> tuple[Any, Any]:
    iris = datasets.load_iris(as_frame=True)
    return iris.data[::2], iris.target[::2]


@cache
def _names() -> Any:
    return np.array(["setosa", "versicolor", "virginica"])[_iris()[1]]


@cache
def _line() -> tuple[Any, Any]:
    """A regression problem of five features and two targets."""
    features, targets = datasets.make_regression(80, 5, n_targets=2, noise=1.0, random_state=0)
    return features, targets


def _classifier(estimator: Any) -> Fitted:
    features, target = _iris()
    return estimator.fit(features, target), features[:_ROWS]


def _regressor(estimator: Any) -> Fitted:
    features, targets = _line()
    return estimator.fit(features, targets[:, 0]), features[:_ROWS]


def _greedy(fitted: Fitted) -> Fitted:
    """With all cores from now on; fitting so would start processes."""
    return fitted[0].set_params(n_jobs=-1), fitted[1]


def _clusterer(estimator: Any) -> Fitted:
    features, _ = _iris()
    return estimator.fit(features), features[:_ROWS]


def _logistic() -> Any:
    return linear_model.LogisticRegression(max_iter=500)


def _with_frame(estimator: Any) -> Fitted:
    frame, target = _iris_frame()
    return estimator.fit(frame, target), frame.head(_ROWS)


def _frame_output() -> Fitted:
    """A pipeline whose steps hand on data frames."""
    scaler = preprocessing.StandardScaler().set_output(transform="pandas")
    return _with_frame(pipeline.make_pipeline(scaler, _logistic()))


def _boost_missing() -> Fitted:
    features, target = _iris()
    features = features.copy()
    features[::5, 1] = np.nan
    features[:, 3] = features[:, 3].round()
    boost = ensemble.HistGradientBoostingClassifier(max_iter=5, categorical_features=[3])
    return boost.fit(features, target), features[:_ROWS]


def _targets(estimator: Any) -> Fitted:
    """Two regression targets."""
    features, targets = _line()
    return estimator.fit(features, targets), features[:_ROWS]


def _labels(estimator: Any) -> Fitted:
    """Two classification targets: the names as strings, and a coarse one."""
    both = np.column_stack([_names(), np.where(_iris()[1] == 0, "small", "large")])
    return _relabelled(estimator, both)


def _tags(estimator: Any) -> Fitted:
    """Any number of labels a row."""
    target = _iris()[1]
    return _relabelled(estimator, np.column_stack([target == 0, target > 0]).astype(int))


def _relabelled(estimator: Any, target: Any) -> Fitted:
    features, _ = _iris()
    return estimator.fit(features, target), features[:_ROWS]


def _counts(estimator: Any) -> Fitted:
    features, target = _iris()
    return estimator.fit(features.round(), target), features[:_ROWS].round()


def _isotonic() -> Fitted:
    features = np.linspace(0, 5, 30)
    return isotonic.IsotonicRegression(out_of_bounds="clip").fit(features, np.sqrt(features)), features.reshape(-1, 1)


def _voters() -> list[tuple[str, Any]]:
    return [("lr", _logistic()), ("nb", naive_bayes.GaussianNB()), ("tree", tree.DecisionTreeClassifier(max_depth=2))]


def _stack() -> Any:
    return ensemble.StackingClassifier(_voters(), final_estimator=_logistic(), cv=2)


def _transformed_target() -> Any:
    return compose.TransformedTargetRegressor(linear_model.Ridge(), func=np.arcsinh, inverse_func=np.sinh)


def _perceptrons(of: type, **more: Any) -> Any:
    return of(hidden_layer_sizes=(8,), solver="lbfgs", max_iter=500, tol=1e-2, random_state=0, **more)


_TABLE: dict[str, Callable[[], Fitted]] = {
    # classifiers
    "logistic": lambda: _classifier(_logistic()),
    "logistic_frame": lambda: _with_frame(_logistic()),
    "sgd_log": lambda: _classifier(linear_model.SGDClassifier(loss="log_loss", random_state=0)),
    "ridge_classifier": lambda: _classifier(linear_model.RidgeClassifier()),
    "svc": lambda: _classifier(svm.SVC()),
    "svc_calibrated": lambda: _classifier(calibration.CalibratedClassifierCV(svm.SVC(), cv=2)),
    "linear_svc": lambda: _classifier(svm.LinearSVC()),
    "nearest": lambda: _classifier(neighbors.KNeighborsClassifier(n_jobs=-1)),
    "gaussian_bayes": lambda: _classifier(naive_bayes.GaussianNB()),
    "multinomial_bayes": lambda: _counts(naive_bayes.MultinomialNB()),
    "complement_bayes": lambda: _counts(naive_bayes.ComplementNB()),
    "bernoulli_bayes": lambda: _classifier(naive_bayes.BernoulliNB(binarize=2.0)),
    "categorical_bayes": lambda: _counts(naive_bayes.CategoricalNB()),
    "lda": lambda: _classifier(discriminant_analysis.LinearDiscriminantAnalysis()),
    "qda": lambda: _classifier(discriminant_analysis.QuadraticDiscriminantAnalysis()),
    "perceptrons": lambda: _classifier(_perceptrons(neural_network.MLPClassifier)),
    "gaussian_process": lambda: _classifier(gaussian_process.GaussianProcessClassifier(optimizer=None)),
    "tree": lambda: _classifier(tree.DecisionTreeClassifier(random_state=0)),
    "forest": lambda: _classifier(ensemble.RandomForestClassifier(20, n_jobs=-1, random_state=0)),
    "forest_frame": lambda: _with_frame(ensemble.RandomForestClassifier(20, n_jobs=-1, random_state=0)),
    "extra_trees": lambda: _classifier(ensemble.ExtraTreesClassifier(10, n_jobs=-1, random_state=0)),
    "boosting": lambda: _classifier(ensemble.GradientBoostingClassifier(n_estimators=5)),
    "boosting_missing": _boost_missing,
    "adaboost": lambda: _classifier(ensemble.AdaBoostClassifier(n_estimators=5)),
    "bagging": lambda: _greedy(_classifier(ensemble.BaggingClassifier(n_estimators=4, max_features=3))),
    "voting_soft": lambda: _classifier(ensemble.VotingClassifier(_voters(), voting="soft")),
    "voting_hard": lambda: _with_frame(ensemble.VotingClassifier(_voters())),
    "stacking": lambda: _classifier(_stack()),
    "one_vs_rest": lambda: _classifier(multiclass.OneVsRestClassifier(_logistic())),
    "grid_search": lambda: _classifier(model_selection.GridSearchCV(_logistic(), {"C": [0.1, 1.0]}, cv=2)),
    "scaled": lambda: _classifier(pipeline.make_pipeline(preprocessing.StandardScaler(), _logistic())),
    "scaled_frame_output": _frame_output,
    "dummy": lambda: _classifier(dummy.DummyClassifier(strategy="prior")),
    # labels of other kinds
    "string_labels": lambda: _relabelled(_logistic(), _names()),
    "string_labels_object": lambda: _relabelled(ensemble.RandomForestClassifier(5), _names().astype(object)),
    "bool_labels": lambda: _relabelled(_logistic(), _iris()[1] == 0),
    "float_labels": lambda: _relabelled(_logistic(), (_iris()[1] == 0).astype(float)),
    "small_int_labels": lambda: _relabelled(_logistic(), _iris()[1].astype(np.int8)),
    # several targets
    "labels_forest": lambda: _labels(ensemble.RandomForestClassifier(5, random_state=0)),
    "labels_each": lambda: _labels(multioutput.MultiOutputClassifier(_logistic())),
    "labels_nearest": lambda: _labels(neighbors.KNeighborsClassifier()),
    "tags_chain": lambda: _tags(multioutput.ClassifierChain(_logistic())),
    "tags_rest": lambda: _tags(multiclass.OneVsRestClassifier(_logistic())),
    "targets_linear": lambda: _targets(linear_model.LinearRegression()),
    "targets_each": lambda: _greedy(_targets(multioutput.MultiOutputRegressor(linear_model.Ridge()))),
    "targets_chain": lambda: _targets(multioutput.RegressorChain(linear_model.Ridge())),
    "targets_forest": lambda: _targets(ensemble.RandomForestRegressor(5, n_jobs=-1)),
    # regressors
    "linear": lambda: _regressor(linear_model.LinearRegression()),
    "elastic_net": lambda: _regressor(linear_model.ElasticNet()),
    "poisson": lambda: _relabelled(linear_model.PoissonRegressor(), _iris()[1]),
    "svr": lambda: _regressor(svm.SVR()),
    "nearest_regressor": lambda: _regressor(neighbors.KNeighborsRegressor()),
    "perceptrons_regressor": lambda: _regressor(_perceptrons(neural_network.MLPRegressor)),
    "process_regressor": lambda: _regressor(gaussian_process.GaussianProcessRegressor()),
    "forest_regressor": lambda: _regressor(ensemble.RandomForestRegressor(10, n_jobs=-1)),
    "boosting_regressor": lambda: _regressor(ensemble.HistGradientBoostingRegressor(max_iter=5)),
    "pls": lambda: _targets(cross_decomposition.PLSRegression()),
    "isotonic": _isotonic,
    "transformed_target": lambda: _regressor(_transformed_target()),
    "polynomial": lambda: _regressor(pipeline.make_pipeline(preprocessing.PolynomialFeatures(), linear_model.Ridge())),
    "splines": lambda: _regressor(pipeline.make_pipeline(preprocessing.SplineTransformer(), linear_model.Ridge())),
    # clusters, outliers, mixtures, transformers
    "kmeans": lambda: _clusterer(cluster.KMeans(3, n_init=1, random_state=0)),
    "birch": lambda: _clusterer(cluster.Birch(n_clusters=3)),
    "mixture": lambda: _clusterer(mixture.GaussianMixture(3, random_state=0)),
    "isolation_forest": lambda: _clusterer(ensemble.IsolationForest(n_estimators=10, n_jobs=-1, random_state=0)),
    "local_outliers": lambda: _clusterer(neighbors.LocalOutlierFactor(novelty=True, n_jobs=-1)),
    "one_class": lambda: _clusterer(svm.OneClassSVM()),
    "envelope": lambda: _clusterer(covariance.EllipticEnvelope(random_state=0)),
    "components": lambda: _clusterer(decomposition.PCA(2)),
    **FRAMES,
}

ESTIMATORS: dict[str, Callable[[], Fitted]] = {name: cache(fit) for name, fit in _TABLE.items()}


def _column_of(rows: Any, spec: TensorSpec, at: int) -> Array:
    column = rows[spec.name] if isinstance(rows, pd.DataFrame) else pd.Series(rows[:, at])
    if spec.datatype != "BYTES":
        return np.asarray(column, DATATYPES[spec.datatype])
    return np.array([None if pd.isna(value) else value for value in column], object)


def inputs_of(rows: Any, specs: Sequence[TensorSpec]) -> dict[str, Array]:
    """The rows of the table as a client sends them to a model with these inputs: a missing string is None."""
    if isinstance(rows, list):
        return {"text": np.array(rows, object)}
    if specs and len(specs[0].shape) == 1:
        return {spec.name: _column_of(rows, spec, at) for at, spec in enumerate(specs)}
    return {"features": np.ascontiguousarray(rows, np.float64)}
