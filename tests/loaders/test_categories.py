"""Categorical features of XGBoost and LightGBM: columns by name, answered as the libraries answer the frame."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from berth.errors import LoadError, UnsafeArtifact
from berth.loaders.formats import LoadOptions
from berth.loaders.unpickle.loading import parse_allow
from berth.models.store import find_version, read_manifest
from berth.publishing.adding import AddRequest, add_version
from berth.serving.opening import open_version
from berth.tensors.schema import check_tensors, decode_features

xgboost = pytest.importorskip("xgboost", reason="xgboost is not installed")
lightgbm = pytest.importorskip("lightgbm", reason="lightgbm is not installed")

_RNG = np.random.default_rng(0)
FRAME = pd.DataFrame(
    {
        "age": _RNG.normal(size=300),
        "city": pd.Categorical(_RNG.choice(["Rome", "Oslo", "Łódź"], 300)),
        "floor": pd.Categorical(_RNG.choice([10, 20, 30], 300)),
        "code": pd.Categorical(_RNG.choice(["1", "2"], 300)),
        "same": pd.Categorical(["a"] * 300),
    }
)
Y = ((FRAME["age"] > 0) ^ (FRAME["city"] == "Rome") ^ (FRAME["floor"] == 20)).astype(int).to_numpy()
# The second row has an unknown city, the third lacks its categories.
ROWS: list[dict[str, Any]] = [
    {"age": 0.5, "city": "Łódź", "floor": 20, "code": "1", "same": "a"},
    {"age": -0.5, "city": "Paris", "floor": 30, "code": "2", "same": "a"},
    {"age": None, "city": None, "floor": None, "code": "1", "same": "a"},
    {"age": 0.1, "city": "Rome", "floor": 10, "code": "2", "same": "a"},
]


def column_of(name: str) -> Any:
    """The rows' values as the frame had them; an unknown category is a missing one."""
    values: list[Any] = [row[name] for row in ROWS]
    if name == "age":
        return pd.Series(values, dtype=float)
    known: Any = FRAME[name].cat.categories
    return pd.Categorical([value if value in known else None for value in values], known)


ASKED = pd.DataFrame({name: column_of(name) for name in map(str, FRAME)})
FEW = {"n_estimators": 6, "n_jobs": 1}


def make(library: str, **more: Any) -> Any:
    if library == "xgboost":
        return xgboost.XGBClassifier(**FEW, enable_categorical=True, **more)
    return lightgbm.LGBMClassifier(**FEW, verbose=-1, **more)


def save(model: Any, path: Path) -> Path:
    if path.suffix == ".pkl":
        path.write_bytes(pickle.dumps(model))
    else:
        (model if path.suffix != ".txt" else model.booster_).save_model(str(path))
    return path


def probabilities(store: Path, file: Path, sample: Path | None = None) -> Any:
    """The probabilities that a served file gives for the rows, sent as a client sends them."""
    options = LoadOptions(pickle_allow=parse_allow("xgboost,lightgbm"))
    model = open_version(add_version(store, file, AddRequest("m", sample=sample), options), options, "warn")
    tensors = check_tensors(decode_features(ROWS, model.inputs), model.inputs, 100)
    return model.predict(tensors, ["probabilities"])["probabilities"]


FILES = [
    ("xgboost", "m.json"),
    ("xgboost", "m.ubj"),
    ("xgboost", "m.pkl"),
    ("lightgbm", "m.txt"),
    ("lightgbm", "m.pkl"),
]


@pytest.mark.parametrize(("library", "name"), FILES)
def test_categories_are_looked_up_in_the_file(library: str, name: str, tmp_path: Path) -> None:
    model = make(library).fit(FRAME, Y)
    found = probabilities(tmp_path / "store", save(model, tmp_path / name))
    np.testing.assert_allclose(found, model.predict_proba(ASKED), rtol=1e-6)
    manifest = read_manifest(find_version(tmp_path / "store", "m"))
    assert [(spec.name, spec.datatype) for spec in manifest.inputs] == [
        ("age", "FP64"), ("city", "BYTES"), ("floor", "FP64"), ("code", "BYTES"), ("same", "BYTES"),
    ]  # fmt: skip


@pytest.mark.parametrize(("library", "name"), FILES)
def test_numbers_in_a_sample_find_categories_that_are_texts(library: str, name: str, tmp_path: Path) -> None:
    model = make(library).fit(FRAME, Y)
    sample = tmp_path / "X.csv"
    FRAME.head(20).to_csv(sample, index=False)  # its column `code` looks like whole numbers
    file = save(model, tmp_path / name)
    options = LoadOptions(pickle_allow=parse_allow("xgboost,lightgbm"))
    served = open_version(
        add_version(tmp_path / "store", file, AddRequest("m", sample=sample), options), options, "warn"
    )
    code = int if served.inputs[3].datatype == "INT64" else str
    rows = [{**row, "code": code(row["code"])} for row in (ROWS[0], ROWS[3])]
    tensors = check_tensors(decode_features(rows, served.inputs), served.inputs, 100)
    found = served.predict(tensors, ["probabilities"])["probabilities"]
    np.testing.assert_allclose(found, model.predict_proba(ASKED.iloc[[0, 3]]), rtol=1e-6)


@pytest.mark.parametrize("library", ["xgboost", "lightgbm"])
def test_a_pickled_booster_knows_them_too(library: str, tmp_path: Path) -> None:
    model = make(library).fit(FRAME, Y)
    booster = model.get_booster() if library == "xgboost" else model.booster_
    found = probabilities(tmp_path / "store", save(booster, tmp_path / "m.pkl"))
    np.testing.assert_allclose(found, model.predict_proba(ASKED), rtol=1e-6)


def test_codes_without_names_are_numbers(tmp_path: Path) -> None:
    rows = np.column_stack([FRAME["age"], FRAME["city"].cat.codes])
    data = xgboost.DMatrix(rows, label=Y, feature_types=["q", "c"], enable_categorical=True)
    booster = xgboost.train({"objective": "binary:logistic", "nthread": 1}, data, 4)
    booster.save_model(tmp_path / "m.json")
    entry = add_version(tmp_path / "store", tmp_path / "m.json", AddRequest("m"), LoadOptions())
    model = open_version(entry, LoadOptions(), "warn")
    assert model.inputs[0].shape == (-1, 2)
    found = model.predict({"features": rows[:5]}, ["probabilities"])["probabilities"][:, 1]
    np.testing.assert_allclose(found, booster.predict(data)[:5], rtol=1e-6)


FORGED = [
    ("trees.0.categories_nodes", lambda nodes: [10**6, *nodes[1:]]),
    ("trees.0.categories_nodes", lambda nodes: nodes[::-1]),
    ("trees.0.categories_sizes", lambda sizes: [2**31 - 1, *sizes[1:]]),
    ("trees.0.categories_segments", lambda starts: [*starts[:-1], 10**6]),
    ("trees.0.categories", lambda values: [2**30, *values[1:]]),
    ("trees.0.categories", lambda values: [-5, *values[1:]]),
    ("trees.0.split_type", lambda kinds: [1] * len(kinds)),
    ("cats.feature_segments", lambda ends: [*ends[:-1], 10**6]),
    ("cats.sorted_idx", lambda order: [10**6, *order[1:]]),
    ("cats.enc", lambda encoded: encoded[:-1]),
    ("cats.enc.1.offsets", lambda offsets: [*offsets[:-1], 10**6]),
]


@pytest.mark.parametrize(("path", "change"), FORGED)
def test_forged_categories_are_refused(path: str, change: Any, tmp_path: Path) -> None:
    file = save(make("xgboost").fit(FRAME, Y), tmp_path / "m.json")
    document = json.loads(file.read_text("utf-8"))
    place = document["learner"]["gradient_booster"]["model"]
    *steps, last = path.split(".")
    for step in steps:
        place = place[int(step) if step.isdigit() else step]
    place[last] = change(place[last])
    file.write_text(json.dumps(document), "utf-8")
    with pytest.raises(UnsafeArtifact, match="damaged or forged"):
        probabilities(tmp_path / "store", file)


def test_lists_that_belong_to_no_feature_are_refused(tmp_path: Path) -> None:
    file = save(make("lightgbm").fit(FRAME, Y), tmp_path / "m.txt")
    file.write_text(file.read_text("utf-8").replace("[categorical_feature: 1,2,3,4]", "[categorical_feature: 1]"))
    with pytest.raises(LoadError, match="4 lists of categories for 1 categorical"):
        probabilities(tmp_path / "store", file)
