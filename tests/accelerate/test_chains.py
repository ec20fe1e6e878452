"""Chains of numpy's functions: which models have one, and that it predicts what the model and onnxruntime do."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from scipy.special import expit, softmax
from sklearn.datasets import load_breast_cancer, load_diabetes, load_iris
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import Lasso, LinearRegression, LogisticRegression, Ridge, SGDClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler, StandardScaler
from sklearn.svm import LinearSVC

from accelerating import make_both
from berth.accelerate.chains import read_chains
from berth.accelerate.make import Accelerated
from berth.accelerate.prove import prove
from berth.accelerate.session import load_accelerated
from berth.errors import LoadError

pytest.importorskip("skl2onnx", reason="acceleration needs skl2onnx")

IRIS, CANCER, DIABETES = (load(return_X_y=True) for load in (load_iris, load_breast_cancer, load_diabetes))
NAMES = (IRIS[0], np.array(["setosa", "versicolor", "virginica"])[IRIS[1]])
TWO = (DIABETES[0], np.column_stack([DIABETES[1], -DIABETES[1]]))
LINEAR = {
    "three classes": (LogisticRegression(max_iter=500), IRIS),
    "classes of text": (LogisticRegression(max_iter=500), NAMES),
    "two classes, scaled": (make_pipeline(StandardScaler(), LogisticRegression()), CANCER),
    "scaled to a range": (make_pipeline(MinMaxScaler(), SGDClassifier(random_state=0)), IRIS),
    "support vectors": (LinearSVC(), IRIS),
    "numbers": (Ridge(), DIABETES),
    "numbers, scaled": (make_pipeline(StandardScaler(), LinearRegression()), DIABETES),
    "sparse": (Lasso(), DIABETES),
    "two numbers a row": (Ridge(), TWO),
}


def read_meta(path: Path) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(onnx.load(path).metadata_props[0].value)
    return document


def write_meta(path: Path, meta: dict[str, Any]) -> None:
    model = onnx.load(path)
    model.metadata_props[0].value = json.dumps(meta)
    path.write_bytes(model.SerializeToString())


@pytest.mark.parametrize("name", LINEAR)
def test_a_linear_models_outputs_are_chains(name: str, tmp_path: Path) -> None:
    estimator, (features, target) = LINEAR[name]
    both = make_both(estimator.fit(features, target), tmp_path, 300)
    assert isinstance(both.result, Accelerated), str(both.result)
    assert both.fast is not None
    meta = read_meta(tmp_path / "accelerated.onnx")
    assert set(meta["chains"]) >= set(meta["outputs"].values())
    for rows in (features[:1], features, np.tile(features, (12, 1))):  # the last are too many for the chain
        found = both.fast.predict({"features": rows}, ["prediction"])["prediction"]
        wanted = estimator.predict(rows)
        assert found.tolist() == (pytest.approx(wanted, rel=1e-9) if found.dtype.kind == "f" else wanted.tolist())
        if "probabilities" in meta["outputs"]:
            for names in (["probabilities"], ["prediction", "probabilities"], ["probabilities", "prediction"]):
                outputs = both.fast.predict({"features": rows}, names)
                assert list(outputs) == names
                assert outputs["probabilities"] == pytest.approx(estimator.predict_proba(rows), rel=1e-9, abs=1e-15)


def test_what_is_one_against_the_others_has_no_chain(tmp_path: Path) -> None:
    make_both(SGDClassifier(loss="log_loss", random_state=0).fit(*IRIS), tmp_path, 100)
    meta = read_meta(tmp_path / "accelerated.onnx")
    assert list(meta["chains"]) == [meta["outputs"]["prediction"]]


def test_trees_have_none(tmp_path: Path) -> None:
    make_both(RandomForestClassifier(3, random_state=0).fit(*IRIS), tmp_path, 100)
    assert "chains" not in read_meta(tmp_path / "accelerated.onnx")


@pytest.mark.filterwarnings("error")  # nothing overflows
def test_scores_become_probabilities_at_the_edges_of_doubles() -> None:
    scores = np.array([[-1e308], [-800.0], [-40.0], [0.0], [40.0], [800.0], [1e308]])
    (found,) = read_chains([[["Sigmoid", None], ["Complement", None]]])(scores)
    assert found[:, 1].tolist() == pytest.approx(expit(scores[:, 0]).tolist(), rel=1e-15, abs=0)
    assert found.sum(axis=1).tolist() == [1.0] * 7
    three, compute = np.column_stack([scores, -scores, np.zeros(7)]) / 2, read_chains([[["Softmax", None]]])
    assert compute(three)[0] == pytest.approx(softmax(three, axis=1), abs=0)
    for row in three:  # one alone is computed in another way
        assert compute(row[None])[0] == pytest.approx(softmax(row[None], axis=1), abs=0)
    assert np.isnan(compute(np.array([[1.0, np.nan]]))[0]).all()
    assert np.isnan(compute(np.array([[np.nan, 1.0]]))[0]).all()


def test_a_large_model_has_none(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    features = rng.normal(size=(40, 3000))
    make_both(LogisticRegression(max_iter=5).fit(features, np.arange(40) % 3), tmp_path, 100)
    assert "chains" not in read_meta(tmp_path / "accelerated.onnx")


def test_a_chain_that_is_wrong_is_not_proven(tmp_path: Path) -> None:
    """The proof computes each output alone as well: with all others the graph serves it."""
    both = make_both(LogisticRegression(max_iter=500).fit(*IRIS), tmp_path, 100)
    path, outputs = tmp_path / "accelerated.onnx", both.plain.outputs
    meta = read_meta(path)
    steps = meta["chains"][meta["outputs"]["prediction"]]
    assert steps.pop(2)[0] == "Add"  # the intercepts
    write_meta(path, meta)
    fast = load_accelerated(path, both.plain.inputs, outputs, 1).predict
    told = prove(both.plain.predict, fast, {"features": IRIS[0]}, outputs)
    assert isinstance(told, str)
    assert "of prediction are wrong" in told


@pytest.mark.parametrize(
    "steps",
    [[["Sort", None]], [["Add", {"dtype": "object", "shape": [1], "data": ""}]], [["Add", {"shape": [1]}]],
     [["Add", {"dtype": "float64", "shape": [3], "data": "AAAA"}]], [["Gather"]], 7],
)  # fmt: skip
def test_a_chain_of_something_else_is_not_loaded(steps: Any, tmp_path: Path) -> None:
    both = make_both(LogisticRegression(max_iter=500).fit(*IRIS), tmp_path, 100)
    path = tmp_path / "accelerated.onnx"
    meta = read_meta(path)
    write_meta(path, meta | {"chains": {meta["outputs"]["prediction"]: steps}})
    with pytest.raises(LoadError, match="not an accelerated model that berth wrote"):
        load_accelerated(path, both.plain.inputs, both.plain.outputs, 1)


def test_a_step_at_a_time() -> None:
    weights = {"dtype": "float64", "shape": [2, 1], "data": "AAAAAAAA8D8AAAAAAAAAQA=="}  # 1 and 2
    flat = {"dtype": "int64", "shape": [1], "data": "//////////8="}  # -1
    score: list[list[Any]] = [["Identity", None], ["MatMul", weights], ["Reshape", flat]]
    rows = np.array([[3.0, 4.0], [0.0, 0.0]])
    assert read_chains([score])(rows)[0].tolist() == [11.0, 0.0]
    above: list[Any] = ["Greater", {"dtype": "float64", "shape": [], "data": "AAAAAAAAAEA="}]  # 2
    label = [*score, above, ["Cast", None], ["Gather", ["no", "yes"]]]
    found = read_chains([label, score, score[:2]])(rows)  # they part at different places
    assert [each.tolist() for each in found] == [["yes", "no"], [11.0, 0.0], [[11.0], [0.0]]]
