"""The proof sees one wrong label, one number that is off by more than 1e-6, and a form that is not the same."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from sklearn.datasets import load_iris
from sklearn.ensemble import RandomForestClassifier

from accelerating import make_both
from berth.accelerate.prove import Proof, compare_output, prove
from berth.accelerate.session import load_accelerated
from berth.models.model import PredictFunction
from berth.tensors.arrays import Array, TensorSpec

pytest.importorskip("skl2onnx", reason="acceleration needs skl2onnx")
pytest.importorskip("onnxruntime", reason="acceleration needs onnxruntime")

X, Y = load_iris(return_X_y=True)
OUTPUTS = [TensorSpec("prediction", "INT64", (-1,)), TensorSpec("probabilities", "FP64", (-1, 2))]
ROWS = {"features": np.arange(200.0)[:, None]}


def _answering(wrong: dict[str, tuple[int, float]] | None = None) -> PredictFunction:
    """A model whose answers follow from its rows; some cells may be changed."""

    def predict(tensors: dict[str, Array], wanted: list[str]) -> dict[str, Array]:
        first = tensors["features"][:, 0]
        answer = {"prediction": first.astype(int) % 2, "probabilities": np.column_stack([first, -first]) / 200}
        for name, (row, more) in (wrong or {}).items():
            at = np.flatnonzero(first == row)
            answer[name][at] = (answer[name][at] + more).astype(answer[name].dtype)
        return {name: answer[name] for name in wanted}

    return predict  # type: ignore[return-value]


def test_equal_answers() -> None:
    found = prove(_answering(), _answering(), ROWS, OUTPUTS)
    assert isinstance(found, Proof)
    assert (found.rows, found.max_abs_error) == (200, 0.0)


def test_a_small_error_is_told() -> None:
    found = prove(_answering(), _answering({"probabilities": (199, 5e-7)}), ROWS, OUTPUTS)
    assert isinstance(found, Proof)
    assert found.max_abs_error == pytest.approx(5e-7)


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"prediction": (199, 1.0)}, "1 of 200 values of prediction are wrong"),
        ({"probabilities": (0, 2e-6)}, "probabilities is off by 2e-06"),
        ({"probabilities": (77, np.nan)}, "probabilities is off by inf"),
    ],
)
def test_one_wrong_cell_is_seen(wrong: dict[str, tuple[int, float]], told: str) -> None:
    assert prove(_answering(), _answering(wrong), ROWS, OUTPUTS) == told


def test_a_row_alone_is_compared_too() -> None:
    def alone(tensors: dict[str, Array], wanted: list[str]) -> dict[str, Array]:
        answer = _answering()(tensors, wanted)
        return {name: array[0] if len(array) == 1 else array for name, array in answer.items()}

    assert "instead of" in str(prove(_answering(), alone, ROWS, OUTPUTS))  # type: ignore[arg-type]


def test_numbers_that_are_labels_may_not_differ_at_all() -> None:
    plain, fast = np.array([1.0, 2.0]), np.array([1.0, 2.0 + 1e-9])
    assert compare_output("prediction", plain, fast, exact=False) == pytest.approx(5e-10)
    assert "wrong" in str(compare_output("prediction", plain, fast, exact=True))


def test_large_values_in_proportion() -> None:
    assert compare_output("v", np.array([1e9]), np.array([1e9 + 1]), exact=False) == pytest.approx(1e-9)
    assert "off" in str(compare_output("v", np.array([1e9]), np.array([1e9 + 1e4]), exact=False))


def _move_threshold(path: Path) -> None:
    """One split of one tree, one part in a million higher."""
    model = onnx.load(path)
    trees = next(node for node in model.graph.node if node.op_type == "TreeEnsemble")
    splits = next(attribute for attribute in trees.attribute if attribute.name == "nodes_splits")
    values = numpy_helper.to_array(splits.t).copy()
    values[0] *= 1 + 1e-6
    splits.t.CopyFrom(numpy_helper.from_array(values))
    path.write_bytes(model.SerializeToString())


def test_one_threshold_moved_a_little_is_seen(tmp_path: Path) -> None:
    from berth.accelerate.limits import decode_limits
    from berth.accelerate.proving_rows import make_rows

    estimator = RandomForestClassifier(20, random_state=0).fit(X, Y)
    both = make_both(estimator, tmp_path, 300)
    none = {"missing": False, "infinite": False, "huge": False, "known": None}
    rows = make_rows(estimator, both.plain.inputs, decode_limits({"features": [none] * 4}), None)
    path = tmp_path / "accelerated.onnx"
    assert both.fast is not None
    assert isinstance(prove(both.plain.predict, both.fast.predict, rows, both.plain.outputs), Proof)
    _move_threshold(path)
    moved = load_accelerated(path, both.plain.inputs, both.plain.outputs, 1)
    assert isinstance(prove(both.plain.predict, moved.predict, rows, both.plain.outputs), str)
