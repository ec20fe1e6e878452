"""Rows for models that take no table: made up in usual sizes, or given as a request."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from berth.errors import LoadError
from berth.loaders.formats import LoadOptions
from berth.models.store import read_manifest
from berth.publishing.adding import AddRequest, add_version
from berth.serving.opening import open_version
from publishing.advice_files import axes_as_input

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
OPTIONS = LoadOptions()
FLOAT, INT64 = onnx.TensorProto.FLOAT, onnx.TensorProto.INT64


def write(path: Path, nodes: list[Any], inputs: list[Any], outputs: list[Any], constants: tuple[Any, ...] = ()) -> Path:
    tensors = [[onnx.helper.make_tensor_value_info(*one) for one in some] for some in (inputs, outputs)]
    graph = onnx.helper.make_graph(nodes, "g", *tensors, initializer=list(constants))
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, path)
    return path


def add(tmp_path: Path, file: Path, request: str | None = None) -> Any:
    sample = None
    if request is not None:
        sample = tmp_path / "request.json"
        sample.write_text(request, "utf-8")
    entry = add_version(tmp_path / "store", file, AddRequest("m", sample=sample), OPTIONS)
    open_version(entry, OPTIONS, "warn")
    return read_manifest(entry)


def test_a_fixed_number_of_rows_is_kept_in_the_example(tmp_path: Path) -> None:
    node = onnx.helper.make_node("Abs", ["x"], ["y"])
    manifest = add(tmp_path, write(tmp_path / "m.onnx", [node], [("x", FLOAT, [5, 2])], [("y", FLOAT, [5, 2])]))
    assert len(manifest.example["inputs"]["x"]) == 5


def test_sides_of_an_image_are_found_out(tmp_path: Path) -> None:
    kernel = onnx.helper.make_tensor("k", FLOAT, [1, 1, 5, 5], [1.0] * 25)
    node = onnx.helper.make_node("Conv", ["x", "k"], ["y"])
    images = [("x", FLOAT, ["n", 1, "h", "w"])]
    manifest = add(tmp_path, write(tmp_path / "m.onnx", [node], images, [("y", FLOAT, ["n", 1, "a", "b"])], (kernel,)))
    assert manifest.batchable
    assert len(manifest.example["inputs"]["x"][0][0]) == 8


def test_an_example_may_find_nothing(tmp_path: Path) -> None:
    limits = [onnx.helper.make_tensor(name, kind, [1], [value]) for name, kind, value in
              (("most", INT64, 5), ("overlap", FLOAT, 0.5), ("score", FLOAT, 0.5))]  # fmt: skip
    node = onnx.helper.make_node("NonMaxSuppression", ["boxes", "scores", "most", "overlap", "score"], ["chosen"])
    inputs = [("boxes", FLOAT, [1, "n", 4]), ("scores", FLOAT, [1, 1, "n"])]
    file = write(tmp_path / "m.onnx", [node], inputs, [("chosen", INT64, ["k", 3])], tuple(limits))
    assert add(tmp_path, file).example["outputs"] == {"chosen": []}


def test_a_request_is_a_sample(tmp_path: Path) -> None:
    file = axes_as_input(tmp_path)
    manifest = add(tmp_path, file, (tmp_path / "request.json").read_text("utf-8"))
    assert manifest.example["inputs"]["axes"] == [0, 2]
    assert not manifest.batchable


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("{", "cannot be read as JSON"),
        ("[1]", "is no request"),
        ('{"rows": 1}', "is no request"),
        ('{"inputs": 1}', "inputs must be an object with 'x', 'axes'"),
        (json.dumps({"inputs": {"x": [[1, 2], [3, 4]]}}), "missing input 'axes'"),
        (json.dumps({"inputs": {"x": [[1, 2]], "axes": [0, 2]}}), r"got shape \[1, 2\], want \[2, 2\]"),
    ],
)
def test_a_request_that_does_not_fit_is_one_line(tmp_path: Path, text: str, says: str) -> None:
    with pytest.raises(LoadError, match=says):
        add(tmp_path, axes_as_input(tmp_path), text)
