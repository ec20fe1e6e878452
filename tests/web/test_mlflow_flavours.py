"""`/invocations` answers as the folder says: predict_fn and the class of the model decide what a prediction is."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.svm import LinearSVC

import field_models
from berth.loaders.formats import LoadOptions
from berth.publishing.adding import AddRequest, add_version
from web.asking import MakeApp

ROWS, Y = field_models.NUMBERS.to_numpy(), field_models.Y
PLAIN = {"pip_requirements": ["numpy"]}  # else MLflow starts a process to find them out


def _predict_fn(mlflow: Any, folder: Path, method: str) -> Any:
    model = (LinearSVC() if method == "decision_function" else LogisticRegression()).fit(ROWS, Y)
    mlflow.sklearn.save_model(model, folder, serialization_format="pickle", pyfunc_predict_fn=method, **PLAIN)
    return getattr(model, method)(ROWS[:3])


def _xgboost(mlflow: Any, folder: Path, api: str) -> Any:
    xgboost = pytest.importorskip("xgboost")
    if api == "sklearn":
        model = xgboost.XGBClassifier(n_estimators=3, n_jobs=1).fit(ROWS, Y)
    else:
        model = xgboost.train({"objective": "binary:logistic", "nthread": 1}, xgboost.DMatrix(ROWS, label=Y), 3)
    mlflow.xgboost.save_model(model, folder, **PLAIN)
    return model.predict(ROWS[:3]) if api == "sklearn" else model.inplace_predict(ROWS[:3])


def _lightgbm(mlflow: Any, folder: Path, api: str) -> Any:
    lightgbm = pytest.importorskip("lightgbm")
    model = lightgbm.LGBMClassifier(n_estimators=3, n_jobs=1, verbose=-1).fit(ROWS, Y)
    mlflow.lightgbm.save_model(model if api == "sklearn" else model.booster_, folder, **PLAIN)
    return (model if api == "sklearn" else model.booster_).predict(ROWS[:3])


FOLDERS: dict[str, tuple[Callable[[Any, Path, str], Any], str]] = {
    "B2-predict_proba": (_predict_fn, "predict_proba"),
    "B2-decision_function": (_predict_fn, "decision_function"),
    "B2-predict": (_predict_fn, "predict"),
    "B3-xgboost-booster": (_xgboost, "booster"),
    "B3-xgboost-sklearn": (_xgboost, "sklearn"),
    "B3-lightgbm-booster": (_lightgbm, "booster"),
}


@pytest.mark.filterwarnings("ignore")  # of MLflow and of LightGBM
@pytest.mark.parametrize("case", FOLDERS)
def test_a_prediction_is_what_the_folder_says(case: str, make_app: MakeApp, tmp_path: Path) -> None:
    pytest.importorskip("mlflow", reason="mlflow-skinny is not installed")
    pytest.importorskip("yaml", reason="PyYAML is not installed")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import mlflow.lightgbm
        import mlflow.sklearn
        import mlflow.xgboost
    save, how = FOLDERS[case]
    wanted = save(mlflow, tmp_path / "folder", how)
    add_version(tmp_path / "store", tmp_path / "folder", AddRequest("m", "1"), LoadOptions(accelerate="off"))
    answer = make_app(tmp_path / "store").post("/invocations", json={"inputs": ROWS[:3].tolist()})
    assert answer.status_code == 200, answer.data
    np.testing.assert_allclose(answer.get_json()["predictions"], wanted, rtol=1e-6)
