"""Estimators of other libraries in joblib files, alone and in scikit-learn's pipelines, allowed by one word."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pytest
from sklearn.calibration import CalibratedClassifierCV
from sklearn.ensemble import VotingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import field_models
from berth.errors import UnsafeArtifact
from berth.loaders.formats import LoadOptions
from berth.loaders.unpickle.loading import parse_allow
from berth.publishing.adding import AddRequest, add_version
from berth.serving.opening import open_version

NUMBERS, Y = field_models.NUMBERS, field_models.Y
FEW: dict[str, dict[str, Any]] = {
    "lightgbm": {"n_estimators": 3, "n_jobs": 1, "verbose": -1},
    "xgboost": {"n_estimators": 3, "n_jobs": 1},
}
# (library, class, the estimator around it)
CASES: dict[str, tuple[str, str, Callable[[Any], Any]]] = {
    "A7-classifier": ("lightgbm", "LGBMClassifier", lambda model: model),
    "A7-regressor": ("lightgbm", "LGBMRegressor", lambda model: model),
    "A7-pipeline": ("lightgbm", "LGBMClassifier", lambda model: make_pipeline(StandardScaler(), model)),
    "A7-search": ("lightgbm", "LGBMClassifier", lambda model: GridSearchCV(model, {"num_leaves": [3, 5]}, cv=2)),
    "A8-classifier": ("xgboost", "XGBClassifier", lambda model: model),
    "A8-random-forest": ("xgboost", "XGBRFRegressor", lambda model: model),
    "A8-calibrated": ("xgboost", "XGBClassifier", lambda model: CalibratedClassifierCV(model, cv=2)),
    "A8-voting": (
        "xgboost",
        "XGBClassifier",
        lambda model: VotingClassifier([("a", model), ("b", LogisticRegression())], voting="soft"),
    ),
}


@pytest.mark.filterwarnings("ignore:X does not have valid feature names")
@pytest.mark.parametrize("case", CASES)
def test_one_word_allows_a_library(case: str, tmp_path: Path) -> None:
    library, name, around = CASES[case]
    model = around(getattr(pytest.importorskip(library), name)(**FEW[library])).fit(NUMBERS, Y)
    joblib.dump(model, tmp_path / "m.joblib")
    with pytest.raises(UnsafeArtifact, match=f"BERTH_PICKLE_ALLOW={library}"):
        add_version(tmp_path / "store", tmp_path / "m.joblib", AddRequest("m"), LoadOptions(accelerate="off"))
    options = LoadOptions(accelerate="off", pickle_allow=parse_allow(library))
    entry = add_version(tmp_path / "store", tmp_path / "m.joblib", AddRequest("m"), options)
    rows = NUMBERS.head(3)
    answer = open_version(entry, options, "warn").predict({"features": rows.to_numpy()}, ["prediction"])
    np.testing.assert_allclose(answer["prediction"], model.predict(rows), rtol=1e-6)
