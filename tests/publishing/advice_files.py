"""Files that are refused as they are, each with the step that the refusal names."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import joblib
import pytest

import field_models

NUMBERS = field_models.NUMBERS.to_numpy()


def old_operators(folder: Path) -> Path:
    """ONNX of operator set 6, of which onnxruntime lacks Add."""
    onnx = pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    a, b, c = (onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [1, 2]) for name in "abc")
    graph = onnx.helper.make_graph([onnx.helper.make_node("Add", ["a", "b"], ["c"])], "g", [a, b], [c])
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 6)], ir_version=3)
    onnx.save(model, folder / "old.onnx")
    return folder / "old.onnx"


def axes_as_input(folder: Path) -> Path:
    """ONNX that no made-up row suits: two zeros are the same axis twice."""
    onnx = pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    x = onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [2, 2])
    axes = onnx.helper.make_tensor_value_info("axes", onnx.TensorProto.INT64, [2])
    y = onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [1, 2, 1, 2])
    graph = onnx.helper.make_graph([onnx.helper.make_node("Unsqueeze", ["x", "axes"], ["y"])], "g", [x, axes], [y])
    opset = onnx.helper.make_opsetid("", 17)
    onnx.save(onnx.helper.make_model(graph, opset_imports=[opset], ir_version=8), folder / "axes.onnx")
    (folder / "request.json").write_text('{"inputs": {"x": [[1, 2], [3, 4]], "axes": [0, 2]}}', "utf-8")
    return folder / "axes.onnx"


def several_parts(folder: Path) -> Path:
    """A dict of a scaler and a model."""
    joblib.dump(field_models.MODELS["parts"]()[0], folder / "parts.joblib")
    return folder / "parts.joblib"


def silent_inputs(folder: Path) -> Path:
    """TorchScript, which says nothing of its inputs."""
    torch = pytest.importorskip("torch")
    torch.jit.save(torch.jit.trace(torch.nn.Linear(2, 1), torch.ones(1, 2)), str(folder / "net.pt"))
    return folder / "net.pt"


def windows_lines(folder: Path) -> Path:
    """LightGBM's text after a copy in text mode."""
    lightgbm = pytest.importorskip("lightgbm")
    model = lightgbm.LGBMClassifier(n_estimators=3, verbose=-1, n_jobs=1).fit(NUMBERS, field_models.Y)
    text = model.booster_.model_to_string()
    (folder / "trees.txt").write_bytes(text.replace("\n", "\r\n").encode())
    return folder / "trees.txt"


def own_class(folder: Path) -> Path:
    """A pipeline with a transformer of the user's own package."""
    joblib.dump(field_models.MODELS["own_class"]()[0], folder / "own.joblib")
    (folder / "X.csv").write_text("age,fare,sex\n30,9.5,male\n40,8.5,female\n", "utf-8")
    return folder / "own.joblib"


def known_library(folder: Path) -> Path:
    """A joblib file of XGBoost's scikit-learn class."""
    xgboost = pytest.importorskip("xgboost")
    joblib.dump(xgboost.XGBClassifier(n_estimators=3, n_jobs=1).fit(NUMBERS, field_models.Y), folder / "x.joblib")
    return folder / "x.joblib"


def no_known_row(folder: Path) -> Path:
    """A pipeline whose first part wants dates, of which no row is made up."""
    joblib.dump(field_models.MODELS["dates"]()[0], folder / "dates.joblib")
    (folder / "X.csv").write_text("when,fare\n2024-01-31,9.5\n2023-06-01,8.5\n", "utf-8")
    return folder / "dates.joblib"


REFUSED: dict[str, Callable[[Path], Path]] = {
    "old-operators": old_operators,
    "axes-as-input": axes_as_input,
    "several-parts": several_parts,
    "silent-inputs": silent_inputs,
    "windows-lines": windows_lines,
    "own-class": own_class,
    "no-known-row": no_known_row,
    "known-library": known_library,
}
