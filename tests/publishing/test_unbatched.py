"""Models whose first dimensions are not rows: found out when they are added, and answered as a whole."""

from __future__ import annotations

import math
import warnings
from pathlib import Path
from typing import Any

import pytest

from berth.loaders.formats import LoadOptions
from berth.models.store import read_manifest
from berth.publishing.adding import AddRequest, add_version
from berth.serving.opening import open_version
from berth.serving.predictor import Predictor
from berth.tensors.arrays import TensorSpec
from berth.web.predict import answer_request

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
OPTIONS = LoadOptions(accelerate="off")


def _floats(name: str, shape: list[Any]) -> Any:
    return onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shape)


def _write(path: Path, op: str, inputs: dict[str, list[Any]], output: list[Any]) -> Path:
    node = onnx.helper.make_node(op, list(inputs), ["y"])
    given = [_floats(name, shape) for name, shape in inputs.items()]
    graph = onnx.helper.make_graph([node], "g", given, [_floats("y", output)])
    opset = onnx.helper.make_opsetid("", 17)
    onnx.save(onnx.helper.make_model(graph, opset_imports=[opset], ir_version=8), path)
    return path


ONES = [[1.0] * 4] * 3


@pytest.mark.parametrize(
    ("op", "inputs", "output", "sent", "wanted"),
    [
        ("MatMul", {"a": [3, 4], "b": [4, 2]}, [3, 2], {"a": ONES, "b": [[1, 2]] * 4}, [[4.0, 8.0]] * 3),
        ("Mul", {"x": ["n", 2], "k": []}, ["n", 2], {"x": [[1, 2]], "k": 3}, [[3.0, 6.0]]),
        ("Add", {"x": [1, 2], "state": [2, 1, 2]}, [2, 1, 2], {"x": [[1, 2]], "state": [[[0, 0]]] * 2}, [[[1, 2]]] * 2),
    ],
)
def test_first_dimensions_that_are_not_rows(
    op: str, inputs: dict[str, list[Any]], output: list[Any], sent: dict[str, Any], wanted: list[Any], tmp_path: Path
) -> None:
    entry = add_version(tmp_path / "s", _write(tmp_path / "m.onnx", op, inputs, output), AddRequest("m"), OPTIONS)
    assert read_manifest(entry).batchable is False
    model = open_version(entry, OPTIONS, "warn")
    predictor = Predictor(1, 100, batch_max_rows=None)
    assert predictor.prepare(model).max_rows == 1
    answer = answer_request(
        {"inputs": sent},
        model,
        lambda model, tensors, wanted: predictor.predict(model, tensors, wanted, math.inf).outputs,
    )
    assert answer["outputs"]["y"].tolist() == wanted


def test_rows_are_found_out_too(tmp_path: Path) -> None:
    path = _write(tmp_path / "m.onnx", "Relu", {"x": ["n", 2]}, ["n", 2])
    assert read_manifest(add_version(tmp_path / "s", path, AddRequest("m"), OPTIONS)).batchable is True


def test_an_example_of_images_is_left_out(tmp_path: Path) -> None:
    path = _write(tmp_path / "m.onnx", "Relu", {"x": [1, 3, 400, 400]}, [1, 3, 400, 400])
    entry = add_version(tmp_path / "s", path, AddRequest("m"), OPTIONS)
    assert read_manifest(entry).example is None
    open_version(entry, OPTIONS, "warn")


def test_a_torch_module_of_one_vector_is_verified_as_it_was_added(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.jit.save(torch.jit.trace(torch.nn.Linear(20, 1), torch.zeros(20)), tmp_path / "m.pt")
    request = AddRequest("m", inputs=(TensorSpec("input", "FP32", (20,)),))
    entry = add_version(tmp_path / "s", tmp_path / "m.pt", request, OPTIONS)
    assert open_version(entry, OPTIONS, "warn").outputs[0].shape == (-1,)
