"""Every scikit-learn estimator, fitted: what the pickle tests load and ci/generate-pickle-allow learns from."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from typing import Any, TypeAlias

import numpy as np
from scipy import sparse, special
from sklearn.calibration import CalibratedClassifierCV
from sklearn.cluster import FeatureAgglomeration
from sklearn.compose import ColumnTransformer, TransformedTargetRegressor
from sklearn.ensemble import (
    AdaBoostClassifier,
    GradientBoostingClassifier,
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
)
from sklearn.experimental import enable_iterative_imputer  # noqa: F401
from sklearn.feature_selection import SelectKBest, f_classif, mutual_info_classif
from sklearn.frozen import FrozenEstimator
from sklearn.gaussian_process import GaussianProcessRegressor, kernels
from sklearn.impute import IterativeImputer, KNNImputer, SimpleImputer
from sklearn.linear_model import LogisticRegression, LogisticRegressionCV, Ridge, SGDClassifier
from sklearn.metrics import f1_score, make_scorer
from sklearn.model_selection import GridSearchCV, KFold, RandomizedSearchCV, StratifiedKFold
from sklearn.neighbors import KernelDensity, KNeighborsClassifier, KNeighborsRegressor, LocalOutlierFactor
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import FeatureUnion, make_pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, OrdinalEncoder, StandardScaler
from sklearn.svm import SVC
from sklearn.tree import DecisionTreeClassifier
from sklearn.utils import all_estimators
from sklearn.utils._test_common.instance_generator import _construct_instances
from sklearn.utils.estimator_checks import _enforce_estimator_tags_X, _enforce_estimator_tags_y

Fitted: TypeAlias = tuple[str, Any]
_ROWS = 60

# What cannot be fitted on a matrix of numbers.
_INPUTS: dict[str, Callable[[], Any]] = {
    "CountVectorizer": lambda: ["one two", "two three", "three one"],
    "TfidfVectorizer": lambda: ["one two", "two three", "three one"],
    "HashingVectorizer": lambda: ["one two", "two three", "three one"],
    "DictVectorizer": lambda: [{"a": 1.0, "b": "x"}, {"a": 2.0, "b": "y"}],
    "FeatureHasher": lambda: [{"a": 1.0}, {"b": 2.0}],
    "MultiLabelBinarizer": lambda: [("a", "b"), ("c",)],
    "LabelBinarizer": lambda: ["a", "b", "c"],
    "LabelEncoder": lambda: np.array(["a", "b", "c"], dtype=object),
    "PatchExtractor": lambda: np.zeros((3, 8, 8)),
    "IsotonicRegression": lambda: np.arange(_ROWS, dtype=float),
}

_ALONE = ("LabelBinarizer", "LabelEncoder", "MultiLabelBinarizer")


def _fit(estimator: Any) -> Any:
    name = type(estimator).__name__
    # For estimators with random_state=None: what they put into a file must not depend on chance.
    np.random.seed(0)
    rng = np.random.RandomState(0)
    x: Any = _enforce_estimator_tags_X(estimator, rng.normal(size=(_ROWS, 3)))
    y = _enforce_estimator_tags_y(estimator, np.arange(_ROWS) % 2)
    if name in _INPUTS:
        x = _INPUTS[name]()
    return estimator.fit(x) if name in _ALONE else estimator.fit(x, y)


def fit_each(names: frozenset[str] | None = None) -> Iterator[Fitted]:
    """(name, fitted estimator) for each public class of scikit-learn, or only for those named."""
    for name, kind in all_estimators():
        if (names is not None and name not in names) or name == "FrozenEstimator":
            continue
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            fitted = [_fit(estimator) for estimator in _construct_instances(kind)]
        yield from ((f"{name}-{number}", estimator) for number, estimator in enumerate(fitted))


_KERNELS = (
    kernels.ConstantKernel() * kernels.RBF() + kernels.WhiteKernel(),
    kernels.Matern(nu=1.5) + kernels.RationalQuadratic(),
    kernels.DotProduct() ** 2 + kernels.RBF(),
    kernels.PairwiseKernel(metric="rbf") + kernels.Exponentiation(kernels.RBF(), 2),
)
_LOSSES = ("squared_error", "absolute_error", "gamma", "poisson", "quantile")
_SGD_LOSSES = ("hinge", "log_loss", "modified_huber", "squared_hinge", "perceptron", "squared_error", "huber")
_CRITERIA = ("gini", "entropy", "log_loss")


def _numeric() -> tuple[Any, Any]:
    rng = np.random.RandomState(0)
    return np.abs(rng.normal(size=(_ROWS, 3))) + 0.1, np.arange(_ROWS) % 3 + 1


def _unusual() -> Iterator[Any]:
    """Estimators with the parameters that put other classes and functions into the file."""
    for kernel in _KERNELS:
        yield GaussianProcessRegressor(kernel, alpha=1.0)
    for loss in _LOSSES:
        yield HistGradientBoostingRegressor(loss=loss, quantile=0.5, max_iter=3)
    for loss in _SGD_LOSSES:
        yield SGDClassifier(loss=loss)
    for criterion in _CRITERIA:
        yield DecisionTreeClassifier(criterion=criterion)
    for algorithm in ("kd_tree", "ball_tree", "brute"):
        for metric in ("euclidean", "manhattan", "chebyshev", "minkowski"):
            yield KNeighborsClassifier(algorithm=algorithm, metric=metric, p=3 if metric == "minkowski" else 2)
    for algorithm in ("kd_tree", "ball_tree"):
        yield KernelDensity(algorithm=algorithm)
    yield KNeighborsRegressor(algorithm="ball_tree", metric="seuclidean", metric_params={"V": np.ones(3)})
    yield LocalOutlierFactor(novelty=True)
    for function in (np.log1p, np.sqrt, np.abs, np.square, special.expit, np.nan_to_num, None):
        yield FunctionTransformer(function)
    yield SelectKBest(f_classif, k=2)
    yield SelectKBest(mutual_info_classif, k=2)
    yield FeatureAgglomeration(2, pooling_func=np.median)
    yield GridSearchCV(Ridge(), {"alpha": [1, 2]}, cv=KFold(3), scoring="r2")
    yield GridSearchCV(LogisticRegression(), {"C": [1, 2]}, cv=StratifiedKFold(3), scoring=make_scorer(f1_score))
    yield RandomizedSearchCV(Ridge(), {"alpha": [0.1, 1.0]}, n_iter=2, random_state=np.random.RandomState(1))
    yield GridSearchCV(Ridge(), {"alpha": [1, 2]}, scoring=["r2", "neg_mean_squared_error"], refit="r2")
    yield LogisticRegressionCV(cv=3, l1_ratios=(0.0,), use_legacy_attributes=False, scoring="accuracy")
    yield CalibratedClassifierCV(SVC(), method="isotonic")
    yield FrozenEstimator(LogisticRegression().fit(*_numeric()))
    yield MLPClassifier((4,), solver="sgd", max_iter=5, early_stopping=True)
    yield MLPClassifier((4,), solver="adam", max_iter=5)
    yield AdaBoostClassifier(DecisionTreeClassifier(max_depth=1), n_estimators=3)
    for loss in ("log_loss",):
        yield GradientBoostingClassifier(loss=loss, n_estimators=3, init="zero")
    yield HistGradientBoostingClassifier(categorical_features=[0], max_iter=3)
    yield TransformedTargetRegressor(Ridge(), func=np.log1p, inverse_func=np.expm1)
    yield FeatureUnion([("a", StandardScaler()), ("b", KNNImputer())])
    yield make_pipeline(IterativeImputer(max_iter=2), SimpleImputer(strategy="median"), StandardScaler(), SVC())
    yield ColumnTransformer(
        [("n", StandardScaler(), [0, 1]), ("c", OneHotEncoder(dtype=np.float32, handle_unknown="ignore"), slice(2, 3))]
    )
    yield OrdinalEncoder(dtype=np.int64, handle_unknown="use_encoded_value", unknown_value=-1)
    yield OneHotEncoder(min_frequency=2, handle_unknown="infrequent_if_exist")


def fit_unusual() -> Iterator[Fitted]:
    """(name, fitted estimator) for what the plain constructors above do not reach."""
    x, y = _numeric()
    np.random.seed(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fitted = [estimator.fit(x, y) for estimator in _unusual()]
        words = np.array([["a", 1.5], ["b", 2.5], [None, np.nan]] * 9, dtype=object)
        fitted.append(make_pipeline(SimpleImputer(strategy="most_frequent"), OneHotEncoder()).fit(words))
        fitted += [KNeighborsClassifier().fit(matrix(x), y) for matrix in (sparse.csr_array, sparse.csr_matrix)]
    yield from ((f"unusual-{number}-{type(estimator).__name__}", estimator) for number, estimator in enumerate(fitted))
