"""SimpleImputer over a whole matrix is a few nodes, however many columns there are, and exact."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

from berth.accelerate.make import Accelerated, make_accelerated
from berth.loaders.estimator import serve_estimator
from berth.loaders.signature import describe_inputs


@pytest.mark.parametrize(
    "imputer",
    [
        SimpleImputer(),
        SimpleImputer(strategy="median", add_indicator=True),
        SimpleImputer(missing_values=-1.0, strategy="constant", fill_value=7.5, add_indicator=True),
    ],
    ids=["mean", "indicator", "marked"],
)
def test_a_matrix_is_filled_at_once(imputer: Any, tmp_path: Path) -> None:
    rows = np.random.default_rng(0).normal(size=(60, 40)).round(1)
    rows[::7, 3], rows[::5, 11] = (-1.0, -1.0) if imputer.missing_values == -1.0 else (np.nan, np.nan)
    model = make_pipeline(imputer, LogisticRegression(max_iter=1000)).fit(rows, np.arange(60) % 2)
    inputs = describe_inputs(model)
    loaded = serve_estimator(model, inputs, {})
    made = make_accelerated(loaded, inputs, loaded.outputs, {"features": rows}, tmp_path / "m.onnx", 1, rows=200)
    assert isinstance(made, Accelerated) or "slower" in str(made), made
    if isinstance(made, Accelerated):
        assert len(onnx.load(tmp_path / "m.onnx").graph.node) < 40
