"""LightGBM and XGBoost files: honest ones pass the check, damaged and forged ones are refused in one line."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from berth.errors import LoadError, UnsafeArtifact
from berth.loaders.formats import LoadOptions, detect_format, load
from berth.loaders.lightgbm_text import check_lightgbm
from berth.loaders.ubjson import decode_ubjson
from berth.loaders.xgboost_file import check_xgboost
from berth.models.manifest import Manifest, digest_file
from malicious_boosters import DAMAGED, lightgbm_text, xgboost_json

lightgbm = pytest.importorskip("lightgbm")
xgboost = pytest.importorskip("xgboost")

_RNG = np.random.RandomState(0)
_ROWS = np.column_stack((_RNG.rand(200, 3), (_RNG.rand(200) * 6).round()))
_TARGET = _ROWS[:, 0] + np.isin(_ROWS[:, 3], [1, 3, 4])


@pytest.mark.parametrize("name", DAMAGED)
def test_a_bad_file_is_refused_in_one_line(name: str, tmp_path: Path) -> None:
    path = DAMAGED[name](tmp_path)
    manifest = Manifest("m", "1", detect_format(path), "2026-01-01T00:00:00Z", {path.name: digest_file(path)})
    with pytest.raises((UnsafeArtifact, LoadError), match=rf"^{path.name} ") as refusal:
        load(tmp_path, manifest, LoadOptions())
    assert "\n" not in refusal.value.message
    assert len(refusal.value.message) < 300


@pytest.mark.parametrize(
    "options",
    [
        {"objective": "regression"},
        {"objective": "regression", "linear_tree": True},
        {"objective": "regression", "num_leaves": 2},
        {"objective": "regression", "min_data_in_leaf": 1000},
        {"objective": "quantile", "boosting": "dart"},
        {"objective": "regression", "boosting": "rf", "bagging_freq": 1, "bagging_fraction": 0.5},
        {"objective": "regression", "min_data_per_group": 1, "cat_smooth": 0},
    ],
    ids=str,
)
def test_honest_lightgbm_passes(options: dict[str, Any], tmp_path: Path) -> None:
    data = lightgbm.Dataset(_ROWS, _TARGET, categorical_feature=[3] if "cat_smooth" in options else "auto")
    model = lightgbm.train({"verbose": -1, "num_threads": 1, **options}, data, 4)
    model.save_model(tmp_path / "model.txt")
    check_lightgbm(tmp_path / "model.txt")


def test_honest_lightgbm_of_classes_passes(tmp_path: Path) -> None:
    (tmp_path / "model.txt").write_text(lightgbm_text())
    check_lightgbm(tmp_path / "model.txt")


@pytest.mark.parametrize("ending", ["json", "ubj"])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"booster": "dart"},
        {"booster": "gblinear"},
        {"tree_method": "exact", "gamma": 5.0},
        {"num_parallel_tree": 3},
        {"multi_strategy": "multi_output_tree", "tree_method": "hist"},
        {"multi_strategy": "one_output_per_tree"},
    ],
    ids=str,
)
def test_honest_xgboost_passes(options: dict[str, Any], ending: str, tmp_path: Path) -> None:
    target = np.column_stack((_TARGET, _ROWS[:, 1])) if "multi_strategy" in options else _TARGET
    model = xgboost.XGBRegressor(n_estimators=3, n_jobs=1, **options).fit(_ROWS, target)
    path = tmp_path / f"model.{ending}"
    model.save_model(path)
    check_xgboost(path)


def test_ubjson_says_what_json_says(tmp_path: Path) -> None:
    model = xgboost.XGBRegressor(n_estimators=2, n_jobs=1).fit(_ROWS, _TARGET)
    model.save_model(tmp_path / "model.ubj")
    model.save_model(tmp_path / "model.json")
    binary = decode_ubjson((tmp_path / "model.ubj").read_bytes())["learner"]["gradient_booster"]["model"]["trees"][0]
    text = json.loads((tmp_path / "model.json").read_bytes())["learner"]["gradient_booster"]["model"]["trees"][0]
    assert binary.keys() == text.keys()
    np.testing.assert_array_equal(binary["left_children"], text["left_children"])


@given(st.binary(max_size=80))
def test_any_bytes_are_a_value_or_an_error(data: bytes) -> None:
    with suppress(ValueError):
        decode_ubjson(data)


def test_a_key_that_is_there_twice_is_refused(tmp_path: Path) -> None:
    text = json.dumps(xgboost_json())
    (tmp_path / "model.json").write_text(text[:-1] + ', "learner": {}}')
    with pytest.raises(LoadError, match="twice"):
        check_xgboost(tmp_path / "model.json")
