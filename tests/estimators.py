"""Every scikit-learn estimator, fitted: what the pickle tests load and ci/generate-pickle-allow learns from."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from typing import Any, TypeAlias

import numpy as np
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


def _fit(estimator: Any) -> Any:
    name = type(estimator).__name__
    rng = np.random.RandomState(0)
    x: Any = _enforce_estimator_tags_X(estimator, rng.normal(size=(_ROWS, 3)))
    y = _enforce_estimator_tags_y(estimator, np.arange(_ROWS) % 2)
    if name in _INPUTS:
        x = _INPUTS[name]()
    return estimator.fit(x) if name in ("LabelBinarizer", "LabelEncoder") else estimator.fit(x, y)


def fit_each(names: frozenset[str] | None = None) -> Iterator[Fitted]:
    """(name, fitted estimator) for each public class of scikit-learn, or only for those named."""
    for name, kind in all_estimators():
        if (names is not None and name not in names) or name == "FrozenEstimator":
            continue
        for number, estimator in enumerate(_construct_instances(kind)):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                yield f"{name}-{number}", _fit(estimator)
