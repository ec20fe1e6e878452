"""Model files that people brought: each is served as scikit-learn answers, or refused with the step that works."""

from __future__ import annotations

import json
import math
import pickle
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pytest

from berth.errors import BerthError
from berth.loaders.formats import LoadOptions
from berth.loaders.unpickle.loading import parse_allow
from berth.models.store import Entry, read_manifest
from berth.publishing.adding import AddRequest, add_version
from berth.serving.opening import open_version
from berth.serving.predictor import Predictor
from berth.tensors.arrays import TensorSpec
from berth.web.predict import answer_request
from field_models import MODELS

CASES = json.loads((Path(__file__).parents[1] / "corpus" / "field" / "models.json").read_text("utf-8"))
# Of the file itself: with a class of the test's it names more than the allow-list knows.
_ALLOWED = {"never": "field_models:Never"}


def _add(case: dict[str, Any], made: Any, directory: Path, options: LoadOptions) -> Entry:
    joblib.dump(made, directory / "model.joblib")
    sample = directory / "sample.csv" if "sample" in case else None
    if sample is not None:
        sample.write_text(case["sample"], "utf-8")
    inputs = tuple(TensorSpec(name, datatype, (-1,)) for name, datatype in case.get("inputs", ()))
    request = AddRequest("m", sample=sample, inputs=inputs, steps=tuple(case.get("steps", ())))
    return add_version(directory / "store", directory / "model.joblib", request, options)


@pytest.mark.parametrize("case", CASES, ids=[case["id"] for case in CASES])
def test_field_models(case: dict[str, Any], tmp_path: Path) -> None:
    made, answers, row = MODELS[case["model"]]()
    allow = parse_allow(case.get("allow", _ALLOWED.get(case["model"], "")))
    options = LoadOptions(pickle_allow=allow, accelerate="auto" if case.get("accelerated") else "off")
    if "says" in case:
        with pytest.raises(BerthError) as refusal:
            _add(case, made, tmp_path, options)
        assert case["says"] in refusal.value.message
        assert not list((tmp_path / "store").glob("m/*/model.json"))
        return
    entry = _add(case, made, tmp_path, options)
    manifest = read_manifest(entry)
    assert manifest.example is not None
    if "rows" in case:
        assert [len(rows) for rows in manifest.example["inputs"].values()] == [case["rows"]]
    model = open_version(entry, options, "warn")
    assert model.accelerated is bool(case.get("accelerated"))
    predictor = Predictor(1, 100)
    answer = answer_request(
        case["request"],
        model,
        lambda model, tensors, wanted: predictor.predict(model, tensors, wanted, math.inf).outputs,
    )
    for name in case["request"].get("outputs", ["prediction"]):
        method = "predict" if name == "prediction" else name
        np.testing.assert_allclose(answer[name], getattr(answers, method)(row))


@pytest.mark.parametrize("word", ["xgboost", "lightgbm", "catboost", "imblearn", "category_encoders"])
def test_a_library_is_allowed_by_one_word(word: str) -> None:
    names = parse_allow(f"{word},own.module:Name")
    assert {module.split(".")[0] for module, _ in names} == {word, "own"}


@pytest.mark.parametrize("library", ["xgboost", "lightgbm"])
def test_a_pickled_booster_answers_as_its_own_file(library: str, tmp_path: Path) -> None:
    module = pytest.importorskip(library)
    rows, target = np.random.default_rng(0).normal(size=(60, 2)), np.arange(60) % 2
    if library == "xgboost":
        booster = module.train({"objective": "binary:logistic", "nthread": 1}, module.DMatrix(rows, label=target), 3)
        wanted = booster.inplace_predict(rows[:2])
    else:
        data = module.Dataset(rows, target)
        booster = module.train({"objective": "binary", "verbose": -1, "num_threads": 1}, data, 3)
        wanted = booster.predict(rows[:2])
    (tmp_path / "model.pkl").write_bytes(pickle.dumps(booster))
    options = LoadOptions(pickle_allow=parse_allow(library))
    entry = add_version(tmp_path / "store", tmp_path / "model.pkl", AddRequest("m"), options)
    model = open_version(entry, options, "warn")
    answer = model.predict({"features": rows[:2]}, ["probabilities"])["probabilities"]
    np.testing.assert_allclose(answer[:, 1], wanted, rtol=1e-6)
