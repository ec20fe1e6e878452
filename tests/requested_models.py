"""The models that the requests of corpus/field/requests are for: one of each kind of input and output."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pandas as pd
from sklearn.datasets import load_iris
from sklearn.ensemble import HistGradientBoostingClassifier, IsolationForest
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.naive_bayes import MultinomialNB
from sklearn.pipeline import make_pipeline

from berth.loaders.formats import LoadOptions
from berth.publishing.adding import AddRequest, add_version
from berth.tensors.arrays import TensorSpec

_CODE = {
    # Two outputs, neither of them called prediction.
    "pair": """
def load(directory):
    return lambda inputs: {"total": inputs["x"].sum(axis=1), "twice": inputs["x"] * 2}
""",
    # Rows of two by two.
    "cube": """
def load(directory):
    return lambda inputs: {"prediction": inputs["image"].sum(axis=(1, 2))}
""",
    # What comes in goes out.
    "word": """
def load(directory):
    return lambda inputs: {"prediction": inputs["word"]}
""",
}
_SPECS: dict[str, tuple[Any, Any]] = {
    "pair": (("x", "FP64", (-1, 2)), [("total", "FP64", (-1,)), ("twice", "FP64", (-1, 2))]),
    "cube": (("image", "FP32", (-1, 2, 2)), [("prediction", "FP32", (-1,))]),
    "word": (("word", "BYTES", (-1,)), [("prediction", "BYTES", (-1,))]),
}
_PAIRS: Any = pd.DataFrame({"age": [20.0, 30.0, 40.0, np.nan] * 20, "fare": [1.0, 2.0, np.nan, 4.0] * 20})


def _people() -> tuple[Any, Any]:
    from sklearn.compose import ColumnTransformer
    from sklearn.preprocessing import OneHotEncoder, StandardScaler

    frame = pd.DataFrame(
        {"age": [20.0, 30.0, 40.0, 50.0], "city": ["Rome", "Oslo", "Rome", "Bern"], "member": [1.0, 0.0, 1.0, 0.0]}
    )
    columns = ColumnTransformer(
        [("city", OneHotEncoder(handle_unknown="ignore"), ["city"]), ("numbers", StandardScaler(), ["age", "member"])]
    )
    return make_pipeline(columns, LogisticRegression()).fit(frame, ["no", "no", "yes", "yes"]), frame


def _iris() -> tuple[Any, Any]:
    rows, target = load_iris(return_X_y=True, as_frame=True)
    return LogisticRegression(max_iter=1000).fit(rows, target), rows


def _matrix() -> tuple[Any, None]:
    rows = np.array([[1.0, 2.0], [-3.0, 4.0], [60.0, 70.0], [50.0, 80.0]])
    return LogisticRegression().fit(rows, [1, 1, 0, 0]), None


def _flowers() -> tuple[Any, None]:
    rows, target = load_iris(return_X_y=True)
    return LogisticRegression(max_iter=1000).fit(rows, target), None


def _two_targets() -> tuple[Any, None]:
    rows = np.arange(20.0).reshape(10, 2)
    return LinearRegression().fit(rows, np.stack([rows.sum(axis=1), rows[:, 0]], axis=1)), None


ESTIMATORS: dict[str, Callable[[], tuple[Any, Any]]] = {
    "iris": _iris,
    "flowers": _flowers,
    "matrix": _matrix,
    "people": _people,
    "texts": lambda: (make_pipeline(CountVectorizer(), MultinomialNB()).fit(["good fine", "bad awful"], [1, 0]), None),
    "gaps": lambda: (HistGradientBoostingClassifier(max_iter=3).fit(_PAIRS, [0, 1, 1, 0] * 20), _PAIRS),
    "targets": _two_targets,
    "outliers": lambda: (IsolationForest(n_estimators=5, random_state=0).fit(np.arange(40.0).reshape(20, 2)), None),
}


def add_requested_models(store: Path, folder: Path) -> None:
    """Every model, as version 1 of its name."""
    for name, make in ESTIMATORS.items():
        model, sample = make()
        file, csv = folder / f"{name}.joblib", folder / f"{name}.csv"
        joblib.dump(model, file)
        if sample is not None:
            sample.to_csv(csv, index=False)
        options = LoadOptions(accelerate="auto" if name == "iris" else "off")  # that takes a second each
        add_version(store, file, AddRequest(name, "1", sample=None if sample is None else csv), options)
    for name, code in _CODE.items():
        (folder / name).mkdir()
        (folder / name / "model.py").write_text(code, "utf-8")
        given, answers = _SPECS[name]
        outputs = tuple(TensorSpec(*answer) for answer in answers)
        request = AddRequest(name, "1", "python", inputs=(TensorSpec(*given),), outputs=outputs)
        add_version(store, folder / name, request, LoadOptions(allow_code=True))
