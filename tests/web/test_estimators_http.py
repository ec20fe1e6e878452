"""Every kind of fitted estimator over HTTP: /predict and V2 answer exactly what predict and predict_proba do here."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pandas as pd
import pytest
from flask.testing import FlaskClient

from berth.loaders.formats import LoadOptions
from berth.publishing.adding import AddRequest, add_version
from berth.tensors.arrays import TensorSpec
from estimator_files import expected
from estimator_table import ESTIMATORS
from web.asking import MakeApp, told

OPTIONS = LoadOptions(accelerate="off")


@pytest.fixture
def client(make_app: MakeApp, tmp_path: Path, name: str) -> FlaskClient:
    """An application over one estimator, added as a user would: the file, and for a frame a sample."""
    estimator, rows = ESTIMATORS[name]()
    artifact, sample = tmp_path / "m.joblib", None
    joblib.dump(estimator, artifact)
    if isinstance(rows, pd.DataFrame):
        sample = tmp_path / "sample.csv"
        rows.to_csv(sample, index=False)
    # A curve through one feature does not tell that it takes one.
    inputs = (TensorSpec("features", "FP64", (-1, 1)),) if name == "isotonic" else ()
    add_version(tmp_path / "store", artifact, AddRequest("m", "1", sample=sample, inputs=inputs), OPTIONS)
    return make_app(tmp_path / "store", accelerate="off", batch_max_rows=1)


def _features(rows: Any) -> list[Any]:
    """Rows as a client would send them: records of a frame, lists of a matrix, strings of a text."""
    if isinstance(rows, pd.DataFrame):
        listed: list[Any] = rows.astype(object).where(rows.notna(), None).to_dict("records")
    else:
        listed = rows.tolist() if isinstance(rows, np.ndarray) else list(rows)
    return [_without_nan(row) for row in listed]


def _without_nan(row: Any) -> Any:
    if isinstance(row, dict):
        return {key: _without_nan(value) for key, value in row.items()}
    if isinstance(row, list):
        return [_without_nan(value) for value in row]
    return None if isinstance(row, float) and math.isnan(row) else row


@pytest.mark.parametrize("name", sorted(ESTIMATORS))
def test_answers_over_http_are_those_in_process(client: FlaskClient, name: str) -> None:
    estimator, rows = ESTIMATORS[name]()
    wanted = expected(estimator, rows)
    answer = told(client.post("/predict", json={"features": _features(rows), "outputs": list(wanted)}))
    for output, values in wanted.items():
        assert answer[output] == values.tolist(), output
