"""Every estimator of the table: accelerated and plain answers are the same, or the reason names the step."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from accelerating import Both, make_both
from berth.accelerate.make import Accelerated
from berth.accelerate.refusal import Refusal
from berth.tensors.schema import required
from estimator_table import ESTIMATORS, inputs_of

pytest.importorskip("skl2onnx", reason="acceleration needs skl2onnx")
pytest.importorskip("onnxruntime", reason="acceleration needs onnxruntime")

# Served plain, with the step that the reason names.
PLAIN = {
    "birch": "Birch",
    "categorical_bayes": "CategoricalNB",
    "dummy": "DummyClassifier",
    "envelope": "EllipticEnvelope",
    "gaussian_process": "GaussianProcessClassifier",
    "isotonic": "IsotonicRegression",
    "labels_each": "MultiOutputClassifier",
    "labels_forest": "RandomForestClassifier",
    "labels_nearest": "KNeighborsClassifier",
    "mixture": "GaussianMixture",
    "one_vs_rest": "OneVsRestClassifier",
    "one_class": "OneClassSVM",
    "splines": "splinetransformer (SplineTransformer)",
    "svr": "SVR",
    "tags_chain": "ClassifierChain",
    "targets_chain": "RegressorChain",
    "text": "TfidfVectorizer",
    "text_column": "TfidfVectorizer",
    "text_counts": "CountVectorizer",
    "text_union": "CountVectorizer",
    "transformed_target": "TransformedTargetRegressor",
}
EXACT = [name for name in ESTIMATORS if name not in PLAIN]


def _make(name: str, folder: Path, rows: int) -> Both:
    return make_both(ESTIMATORS[name]()[0], folder, rows)


def _check_same(both: Both, tensors: dict[str, np.ndarray]) -> None:
    plain, fast = both.ask(tensors)
    for spec in required(both.plain.outputs):
        wanted, found = plain[spec.name], fast[spec.name]
        assert (found.dtype, found.shape) == (wanted.dtype, wanted.shape), spec.name
        if wanted.dtype.kind == "f":
            np.testing.assert_allclose(found, wanted, rtol=1e-6, atol=1e-6)
        else:
            assert np.array_equal(found, wanted), spec.name


@pytest.mark.parametrize("name", EXACT)
def test_is_exact(name: str, tmp_path: Path) -> None:
    both = _make(name, tmp_path, 1500)
    if isinstance(both.result, Refusal):
        assert "slower" in both.result.reason
        pytest.skip(str(both.result))
    assert both.result.proof.rows == 1500
    assert both.result.proof.max_abs_error <= 1e-6
    rows = ESTIMATORS[name]()[1]
    _check_same(both, inputs_of(rows, both.plain.inputs))


@pytest.mark.parametrize("name", PLAIN)
def test_the_reason_names_the_step(name: str, tmp_path: Path) -> None:
    result = _make(name, tmp_path, 300).result
    assert isinstance(result, Refusal)
    assert PLAIN[name] in result.step, str(result)


def test_many_kinds_are_exact() -> None:
    assert len(EXACT) >= 25


@pytest.mark.slow
@pytest.mark.parametrize("name", EXACT)
def test_is_exact_on_ten_thousand_rows(name: str, tmp_path: Path) -> None:
    result = _make(name, tmp_path, 10_000).result
    if isinstance(result, Refusal):
        assert "slower" in result.reason
        pytest.skip(str(result))
    assert isinstance(result, Accelerated)
    assert result.proof.rows == 10_000
