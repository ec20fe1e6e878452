"""What columns may hold is found out in few predictions, also where there are thousands of them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from sklearn.compose import ColumnTransformer
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from berth.accelerate.limits import Limits
from berth.accelerate.tried_limits import learn_limits
from berth.loaders.estimator import serve_estimator
from berth.loaders.signature import describe_inputs, example_row
from berth.tensors.arrays import Tensors


def _learn(model: Any) -> tuple[Limits, int]:
    """The limits, and how many predictions they took."""
    inputs, tries = describe_inputs(model), 0
    loaded = serve_estimator(model, inputs, {})

    def takes(tensors: Tensors) -> bool:
        nonlocal tries
        tries += 1
        try:
            loaded.predict(tensors, ["prediction"])
        except ValueError:
            return False
        return True

    limits = learn_limits(model, takes, example_row(model, inputs), inputs)
    assert limits is not None
    return limits, tries


@pytest.mark.parametrize("width", [8, 1200])
def test_columns_that_go_the_same_way_are_tried_together(width: int) -> None:
    half = width // 2
    parts = [("a", StandardScaler(), slice(0, half)), ("b", SimpleImputer(), slice(half, width))]
    rows = np.random.default_rng(0).normal(size=(20, width))
    model = make_pipeline(ColumnTransformer(parts), LogisticRegression()).fit(rows, [0, 1] * 10)
    limits, tries = _learn(model)
    assert [column.missing for column in limits["features"]] == [False] * half + [True] * half
    assert not any(column.infinite or column.huge is False for column in limits["features"])
    assert tries < 200


def test_one_column_of_another_kind_among_many_is_found() -> None:
    width, odd = 150, 77
    parts = [("a", StandardScaler(), [at for at in range(width) if at != odd]), ("b", SimpleImputer(), [odd])]
    rows = np.random.default_rng(0).normal(size=(20, width))
    model = make_pipeline(ColumnTransformer(parts), LogisticRegression()).fit(rows, [0, 1] * 10)
    limits, _ = _learn(model)
    assert [at for at, column in enumerate(limits["features"]) if column.missing] == [odd]


def test_the_values_that_a_column_knows_are_found_in_few_tables() -> None:
    rows = np.column_stack([np.arange(200.0), np.arange(200.0) % 2])
    parts = [("c", OneHotEncoder(), [0]), ("n", StandardScaler(), [1])]
    limits, tries = _learn(make_pipeline(ColumnTransformer(parts), LogisticRegression()).fit(rows, [0, 1] * 100))
    (column, other) = limits.get("features") or tuple(one for (one,) in limits.values())
    assert column.known == tuple(np.arange(200.0))
    assert other.known is None
    assert tries < 100
