"""Folders as MLServer's own examples and tests make them, with what MLServer's runtime would return for some rows."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

Rows = Any


@dataclass(frozen=True)
class Example:
    """A folder and, for `rows` under any input name, the outputs that Berth calls `prediction` and the like."""

    name: str
    version: str
    rows: Rows
    outputs: dict[str, Any]
    # Tensors by name instead of one matrix.
    columns: dict[str, Any] | None = None


def write_settings(folder: Path, implementation: str, name: str = "", **parameters: Any) -> None:
    """`model-settings.json` as the examples have it."""
    document: dict[str, Any] = {"implementation": implementation}
    if name:
        document["name"] = name
    if parameters:
        document["parameters"] = parameters
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "model-settings.json").write_text(json.dumps(document), "utf-8")


def mnist_svm(folder: Path) -> Example:
    """docs/examples/sklearn: a support vector classifier of digits, trained on the first half."""
    import joblib
    from sklearn import datasets, svm

    data = datasets.load_digits()
    classifier = svm.SVC(gamma=0.001).fit(data.data[:400], data.target[:400])
    write_settings(folder, "mlserver_sklearn.SKLearnModel", "mnist-svm", uri="./mnist-svm.joblib", version="v0.1.0")
    joblib.dump(classifier, folder / "mnist-svm.joblib")
    rows = data.data[400:404]
    return Example("mnist-svm", "v0.1.0", rows, {"prediction": classifier.predict(rows)})


def mms_svm(folder: Path) -> Example:
    """docs/examples/mms: no uri, so the folder's own model.joblib."""
    made = mnist_svm(folder)
    (folder / "mnist-svm.joblib").rename(folder / "model.joblib")
    write_settings(folder, "mlserver_sklearn.SKLearnModel", "mnist-mms", version="v0.1.0")
    return Example("mnist-mms", "v0.1.0", made.rows, made.outputs)


def conda_svm(folder: Path) -> Example:
    """docs/examples/conda: neither uri nor version."""
    made = mms_svm(folder)
    write_settings(folder, "mlserver_sklearn.SKLearnModel", "mnist-conda")
    return Example("mnist-conda", "1", made.rows, made.outputs)


def pandas_pipeline(folder: Path) -> Example:
    """runtimes/sklearn/tests: columns of a frame, one of them text."""
    import joblib
    import pandas as pd
    from sklearn.compose import ColumnTransformer
    from sklearn.linear_model import LinearRegression
    from sklearn.pipeline import Pipeline
    from sklearn.preprocessing import OneHotEncoder, StandardScaler

    frame = pd.DataFrame({"a": [1, 2, 3], "op": ["+", "+", "-"]})
    columns = ColumnTransformer(
        [("num", StandardScaler(), ["a"]), ("cat", OneHotEncoder(handle_unknown="ignore"), ["op"])]
    )
    model = Pipeline([("preprocessor", columns), ("regression", LinearRegression())]).fit(frame, [11, 22, -33])
    write_settings(
        folder, "mlserver_sklearn.SKLearnModel", "sklearn-pandas-model", uri="./model-pd.joblib", version="v1.2.3"
    )
    joblib.dump(model, folder / "model-pd.joblib")
    asked = pd.DataFrame({"a": [10], "op": ["-"]})
    sent = {"a": ("INT32", [10]), "op": ("BYTES", ["-"])}
    return Example("sklearn-pandas-model", "v1.2.3", None, {"prediction": model.predict(asked)}, sent)


def preprocessor(folder: Path) -> Example:
    """runtimes/sklearn/tests: a transformer alone, `predict_fn` is transform."""
    import joblib
    from sklearn.preprocessing import StandardScaler

    rows = np.array([[1.0, 2.0], [3.0, 5.0]])
    scaler = StandardScaler().fit(rows)
    write_settings(
        folder, "mlserver_sklearn.SKLearnModel", "sklearn-preprocessor", uri="./scaler.joblib",
        version="v1.2.3", extra={"predict_fn": "transform"},
    )  # fmt: skip
    joblib.dump(scaler, folder / "scaler.joblib")
    return Example("sklearn-preprocessor", "v1.2.3", rows, {"transformed": scaler.transform(rows)})


def _booster(folder: Path, ending: str) -> Example:
    """runtimes/xgboost/tests: a Booster under each of the endings that MLServer knows."""
    import xgboost as xgb

    rows = np.random.default_rng(0).random((4, 3))
    booster = xgb.train({}, xgb.DMatrix(data=rows, label=[0.1, 0.4, 0.3, 0.9]))
    name = f"xgboost-{ending}"
    write_settings(folder, "mlserver_xgboost.XGBoostModel", name, uri=f"./xgboost-model.{ending}", version="v1.2.3")
    made = folder / "made.ubj"
    booster.save_model(folder / f"xgboost-model.{ending}" if ending != "bst" else made)
    if ending == "bst":
        made.rename(folder / "xgboost-model.bst")
    return Example(name, "v1.2.3", rows, {"prediction": booster.predict(xgb.DMatrix(rows))})


def xgboost_bst(folder: Path) -> Example:
    return _booster(folder, "bst")


def xgboost_json(folder: Path) -> Example:
    return _booster(folder, "json")


def xgboost_ubj(folder: Path) -> Example:
    return _booster(folder, "ubj")


def mushroom(folder: Path) -> Example:
    """docs/examples/xgboost: a classifier of scikit-learn's kind, in its folder without a uri."""
    import xgboost as xgb

    rng = np.random.default_rng(1)
    rows = rng.integers(0, 2, (60, 6)).astype(float)
    target = (rows[:, 0] + rows[:, 1] > 1).astype(int)
    model = xgb.XGBClassifier(n_estimators=4, max_depth=2).fit(rows, target)
    write_settings(folder, "mlserver_xgboost.XGBoostModel", "mushroom-xgboost", version="v0.1.0")
    model.save_model(folder / "model.json")
    wanted = {"prediction": model.predict(rows[:5]), "probabilities": model.predict_proba(rows[:5])}
    return Example("mushroom-xgboost", "v0.1.0", rows[:5], wanted)


def iris_lightgbm(folder: Path) -> Example:
    """docs/examples/lightgbm: a Booster of three classes, of which MLServer returns the probabilities."""
    import lightgbm as lgb
    from sklearn.datasets import load_iris

    rows, target = load_iris(return_X_y=True)
    booster = lgb.train(
        {"objective": "multiclass", "num_class": 3, "verbose": -1}, lgb.Dataset(rows, target), num_boost_round=5
    )
    write_settings(folder, "mlserver_lightgbm.LightGBMModel", "iris-lgb", uri="./iris-lightgbm.bst", version="v0.1.0")
    booster.save_model(folder / "iris-lightgbm.bst")
    return Example("iris-lgb", "v0.1.0", rows[::50], {"prediction": booster.predict(rows[::50])})


def lightgbm_regression(folder: Path) -> Example:
    """runtimes/lightgbm/tests: a regression, found in its folder as model.bst."""
    import lightgbm as lgb

    rng = np.random.default_rng(2)
    rows = rng.random((60, 3))
    booster = lgb.train({"verbose": -1}, lgb.Dataset(rows, rows.sum(axis=1)), num_boost_round=5)
    write_settings(folder, "mlserver_lightgbm.LightGBMModel", "lightgbm-model", version="v1.2.3")
    booster.save_model(folder / "model.bst")
    return Example("lightgbm-model", "v1.2.3", rows[:4], {"prediction": booster.predict(rows[:4])})


def wine_mlflow(folder: Path) -> Example:
    """docs/examples/mlflow: an elastic net in a folder that mlflow saved."""
    import warnings

    from sklearn.linear_model import ElasticNet

    rng = np.random.default_rng(3)
    rows = rng.random((40, 4))
    model = ElasticNet(alpha=0.1).fit(rows, rows @ [1.0, 2.0, 3.0, 4.0])
    folder.mkdir(parents=True, exist_ok=True)
    with warnings.catch_warnings():  # of its own age and of pickles
        warnings.simplefilter("ignore")
        import mlflow.sklearn

        mlflow.sklearn.save_model(
            model, str(folder / "model"), serialization_format="cloudpickle", pip_requirements=["numpy"]
        )
    write_settings(folder, "mlserver_mlflow.MLflowRuntime", "wine-classifier", uri="file:./model")
    return Example("wine-classifier", "1", rows[:3], {"prediction": model.predict(rows[:3])})


def digits_onnx(folder: Path) -> Example:
    """A runtime of a user's own for ONNX."""
    from skl2onnx import to_onnx
    from sklearn.linear_model import LinearRegression

    rows = np.arange(12.0).reshape(6, 2)
    model = LinearRegression().fit(rows, rows.sum(axis=1))
    write_settings(folder, "mlserver_onnx.OnnxModel", "line-onnx", uri="./line.onnx", version="v1")
    (folder / "line.onnx").write_bytes(to_onnx(model, rows[:1]).SerializeToString())
    return Example("line-onnx", "v1", rows, {"variable": model.predict(rows)})


FOLDERS: dict[str, Callable[[Path], Example]] = {
    made.__name__: made
    for made in (
        mnist_svm, mms_svm, conda_svm, pandas_pipeline, preprocessor, xgboost_bst, xgboost_json, xgboost_ubj, mushroom,
        iris_lightgbm, lightgbm_regression, wine_mlflow, digits_onnx,
    )
}  # fmt: skip
