"""XGBoost and LightGBM: exactly what their scikit-learn classes answer."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.datasets import load_iris

from berth.errors import LoadError
from berth.loaders.formats import LoadOptions, load
from berth.models.manifest import Manifest
from berth.tensors.arrays import TensorSpec

xgboost = pytest.importorskip("xgboost", reason="xgboost is not installed")
lightgbm = pytest.importorskip("lightgbm", reason="lightgbm is not installed")

FLOWERS, KIND = load_iris(return_X_y=True)
HOLES = np.where(np.random.default_rng(0).random(FLOWERS.shape) < 0.1, np.nan, FLOWERS)
OPTIONS = LoadOptions(cpu_threads=2)
FEW = {"n_estimators": 8, "n_jobs": 1}


def save(model: Any, folder: Path, suffix: str) -> Any:
    """The model's file in the folder; LightGBM writes one form whatever its name."""
    path = str(folder / f"model{suffix}")
    (model.booster_ if suffix == ".txt" else model).save_model(path)
    return model


def make_xgboost(**more: Any) -> Any:
    return xgboost.XGBClassifier(**FEW, **more)


def make_lightgbm(**more: Any) -> Any:
    return lightgbm.LGBMClassifier(**FEW, verbose=-1, **more)


FORMS = [
    pytest.param(make_xgboost, "xgboost", ".json", "FP32", id="xgboost-json"),
    pytest.param(make_xgboost, "xgboost", ".ubj", "FP32", id="xgboost-ubj"),
    pytest.param(make_lightgbm, "lightgbm", ".txt", "FP64", id="lightgbm"),
]


@pytest.mark.parametrize("target", [KIND, (KIND > 0).astype(int)], ids=["three", "two"])
@pytest.mark.parametrize(("make", "format_", "suffix", "datatype"), FORMS)
def test_a_classifier_answers_as_its_class_does(
    tmp_path: Path,
    manifest_of: Callable[..., Manifest],
    make: Callable[..., Any],
    format_: str,
    suffix: str,
    datatype: str,
    target: Any,
) -> None:
    model = save(make().fit(HOLES, target), tmp_path, suffix)
    loaded = load(tmp_path, manifest_of(tmp_path, format_), OPTIONS)
    labels = tuple(range(target.max() + 1))
    assert loaded.inputs == (TensorSpec("features", "FP64", (-1, 4)),)
    assert loaded.outputs == (
        TensorSpec("prediction", "INT64", (-1,)),
        TensorSpec("probabilities", datatype, (-1, len(labels)), labels=labels),
    )
    got = loaded.predict({"features": HOLES}, ["probabilities", "prediction"])
    assert list(got) == ["probabilities", "prediction"]
    np.testing.assert_array_equal(got["probabilities"], model.predict_proba(HOLES))
    np.testing.assert_array_equal(got["prediction"], model.predict(HOLES))
    assert got["probabilities"].dtype == model.predict_proba(HOLES).dtype
    assert list(loaded.predict({"features": HOLES[:1]}, ["prediction"])) == ["prediction"]
    assert list(loaded.built_with) == [format_]


@pytest.mark.parametrize(("make", "format_", "suffix", "datatype"), FORMS)
def test_threads_get_their_own_rows(
    tmp_path: Path,
    manifest_of: Callable[..., Manifest],
    check_threads: Callable[..., None],
    make: Callable[..., Any],
    format_: str,
    suffix: str,
    datatype: str,
) -> None:
    save(make().fit(FLOWERS, KIND), tmp_path, suffix)
    check_threads(load(tmp_path, manifest_of(tmp_path, format_), OPTIONS), "features", FLOWERS, "probabilities")


@pytest.mark.parametrize(
    ("model", "format_", "suffix"),
    [
        (xgboost.XGBRegressor(**FEW), "xgboost", ".ubj"),
        (xgboost.XGBRegressor(**FEW, booster="gblinear"), "xgboost", ".json"),
        (xgboost.XGBRegressor(**FEW, objective="reg:quantileerror", quantile_alpha=[0.1, 0.9]), "xgboost", ".json"),
        (lightgbm.LGBMRegressor(**FEW, verbose=-1, objective="poisson"), "lightgbm", ".txt"),
    ],
)
def test_a_regressor_answers_as_its_class_does(
    tmp_path: Path, manifest_of: Callable[..., Manifest], model: Any, format_: str, suffix: str
) -> None:
    save(model.fit(FLOWERS[:, 1:], FLOWERS[:, 0]), tmp_path, suffix)
    loaded = load(tmp_path, manifest_of(tmp_path, format_), OPTIONS)
    want = model.predict(FLOWERS[:, 1:])
    (output,) = loaded.outputs
    assert output.shape == (-1, *want.shape[1:])
    got = loaded.predict({"features": FLOWERS[:, 1:]}, ["prediction"])["prediction"]
    np.testing.assert_array_equal(got, want)
    assert got.dtype == want.dtype


def test_several_targets(tmp_path: Path, manifest_of: Callable[..., Manifest]) -> None:
    targets = np.column_stack((KIND > 0, KIND > 1)).astype(int)
    model = save(make_xgboost().fit(FLOWERS, targets), tmp_path, ".json")
    loaded = load(tmp_path, manifest_of(tmp_path, "xgboost"), OPTIONS)
    got = loaded.predict({"features": FLOWERS}, ["prediction", "probabilities"])
    assert [spec.shape for spec in loaded.outputs] == [(-1, 2), (-1, 2)]
    np.testing.assert_array_equal(got["prediction"], model.predict(FLOWERS))
    np.testing.assert_array_equal(got["probabilities"], model.predict_proba(FLOWERS))


def test_early_stopping_is_kept(tmp_path: Path, manifest_of: Callable[..., Manifest]) -> None:
    noise = np.random.default_rng(1).permutation(KIND)
    model = xgboost.XGBClassifier(n_estimators=40, n_jobs=1, early_stopping_rounds=3)
    save(model.fit(FLOWERS[::2], KIND[::2], eval_set=[(FLOWERS[1::2], noise[1::2])], verbose=False), tmp_path, ".json")
    loaded = load(tmp_path, manifest_of(tmp_path, "xgboost"), OPTIONS)
    assert model.best_iteration + 1 < model.get_booster().num_boosted_rounds()
    got = loaded.predict({"features": FLOWERS}, ["probabilities"])["probabilities"]
    np.testing.assert_array_equal(got, model.predict_proba(FLOWERS))


@pytest.mark.parametrize(("make", "format_", "suffix", "datatype"), FORMS)
def test_column_names_and_labels(
    tmp_path: Path,
    manifest_of: Callable[..., Manifest],
    make: Callable[..., Any],
    format_: str,
    suffix: str,
    datatype: str,
) -> None:
    model = save(make().fit(pd.DataFrame(FLOWERS, columns=list("abcd")), KIND), tmp_path, suffix)
    labels = ("setosa", "versicolor", "virginica")
    declared = (TensorSpec("probabilities", datatype, (-1, 3), labels=labels),)
    loaded = load(tmp_path, manifest_of(tmp_path, format_, outputs=declared), OPTIONS)
    assert loaded.inputs[0].columns == ("a", "b", "c", "d")
    assert loaded.outputs == (TensorSpec("prediction", "BYTES", (-1,)), *declared)
    got = loaded.predict({"features": FLOWERS}, ["prediction"])["prediction"]
    assert list(got) == [labels[kind] for kind in model.predict(pd.DataFrame(FLOWERS, columns=list("abcd")))]
    declared = (TensorSpec("probabilities", datatype, (-1, 2), labels=("yes", "no")),)
    with pytest.raises(LoadError, match="names 2 labels, the model has 3"):
        load(tmp_path, manifest_of(tmp_path, format_, outputs=declared), OPTIONS)


@pytest.mark.parametrize("text", ["", "nonsense", "{}", '{"learner": {}}', "[1, 2]"])
@pytest.mark.parametrize(("format_", "suffix"), [("xgboost", ".json"), ("xgboost", ".ubj"), ("lightgbm", ".txt")])
def test_other_files_are_a_load_error(
    tmp_path: Path, manifest_of: Callable[..., Manifest], text: str, format_: str, suffix: str
) -> None:
    (tmp_path / f"model{suffix}").write_text(text)
    with pytest.raises(LoadError, match=rf"model\{suffix} is not an? (XGBoost|LightGBM) model"):
        load(tmp_path, manifest_of(tmp_path, format_), OPTIONS)


def test_infinity_is_a_value_error(tmp_path: Path, manifest_of: Callable[..., Manifest]) -> None:
    save(make_xgboost(booster="gblinear").fit(FLOWERS, KIND), tmp_path, ".json")
    loaded = load(tmp_path, manifest_of(tmp_path, "xgboost"), OPTIONS)
    with pytest.raises(ValueError, match="inf"):
        loaded.predict({"features": np.full((1, 4), np.inf)}, ["prediction"])
