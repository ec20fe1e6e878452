"""ONNX: answers equal to onnxruntime's own, zipped probabilities opened, no data from outside the folder."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from berth.errors import LoadError, UnsafeArtifact
from berth.loaders.formats import LoadOptions, load
from berth.models.manifest import Manifest
from berth.tensors.arrays import TensorSpec

ort = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
onnx = pytest.importorskip("onnx", reason="onnx, which makes the files, is not installed")
OPTIONS = LoadOptions()


def write_graph(path: Path, nodes: list[Any], inputs: list[Any], outputs: list[Any], initial: Any = ()) -> None:
    graph = onnx.helper.make_graph(nodes, "graph", inputs, outputs, list(initial))
    opsets = [onnx.helper.make_opsetid("", 18), onnx.helper.make_opsetid("own.domain", 1)]
    model = onnx.helper.make_model(graph, opset_imports=opsets, ir_version=10)
    path.write_bytes(model.SerializeToString())


def floats(name: str, shape: Any) -> Any:
    return onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shape)


def write_classifier(path: Path, zipmap: bool, labels: tuple[Any, ...] = (0, 1, 2)) -> Any:
    from skl2onnx import to_onnx
    from sklearn.datasets import load_iris
    from sklearn.linear_model import LogisticRegression

    rows, target = load_iris(return_X_y=True)
    model = LogisticRegression(max_iter=500).fit(rows, np.array(labels)[target])
    options = {id(model): {"zipmap": zipmap}}
    path.write_bytes(to_onnx(model, rows[:1].astype(np.float32), options=options).SerializeToString())
    return model, rows.astype(np.float32)


def test_answers_equal_a_plain_session(
    tmp_path: Path, manifest_of: Callable[..., Manifest], check_threads: Callable[..., None]
) -> None:
    _, rows = write_classifier(tmp_path / "m.onnx", zipmap=False)
    loaded = load(tmp_path, manifest_of(tmp_path, "onnx"), OPTIONS)
    assert loaded.inputs == (TensorSpec("X", "FP32", (-1, 4)),)
    assert loaded.outputs == (TensorSpec("label", "INT64", (-1,)), TensorSpec("probabilities", "FP32", (-1, 3)))
    want = ort.InferenceSession(str(tmp_path / "m.onnx")).run(None, {"X": rows})
    got = loaded.predict({"X": rows}, ["probabilities", "label"])
    assert list(got) == ["probabilities", "label"]
    np.testing.assert_array_equal(got["label"], want[0])
    np.testing.assert_array_equal(got["probabilities"], want[1])
    assert list(loaded.predict({"X": rows[:2].astype(np.float64)}, ["label"])) == ["label"]
    assert loaded.built_with == {"onnxruntime": ort.__version__}
    check_threads(loaded, "X", rows, "probabilities")


@pytest.mark.parametrize("labels", [(0, 1, 2), ("setosa", "versicolor", "virginica")])
def test_a_zipmap_becomes_a_tensor_with_labels(
    tmp_path: Path, manifest_of: Callable[..., Manifest], labels: tuple[Any, ...]
) -> None:
    model, rows = write_classifier(tmp_path / "m.onnx", zipmap=True, labels=labels)
    loaded = load(tmp_path, manifest_of(tmp_path, "onnx"), OPTIONS)
    label, probabilities = loaded.outputs
    assert probabilities == TensorSpec("output_probability", "FP32", (-1, 3), labels=labels)
    got = loaded.predict({"X": rows}, [label.name, probabilities.name])
    np.testing.assert_allclose(got["output_probability"], model.predict_proba(rows), atol=1e-5)
    assert list(got["output_label"]) == list(model.predict(rows))


def test_a_fixed_number_of_rows_stays_fixed(tmp_path: Path, manifest_of: Callable[..., Manifest]) -> None:
    write_graph(
        tmp_path / "m.onnx", [onnx.helper.make_node("Neg", ["x"], ["y"])], [floats("x", [1, 4])], [floats("y", [1, 4])]
    )
    loaded = load(tmp_path, manifest_of(tmp_path, "onnx"), OPTIONS)
    assert (loaded.inputs[0].shape, loaded.outputs[0].shape) == ((1, 4), (1, 4))


def test_a_scalar_output_is_left_out(tmp_path: Path, manifest_of: Callable[..., Manifest]) -> None:
    nodes = [onnx.helper.make_node("ReduceSum", ["x"], ["sum"], keepdims=0), onnx.helper.make_node("Neg", ["x"], ["y"])]
    write_graph(tmp_path / "m.onnx", nodes, [floats("x", ["n", "k"])], [floats("sum", []), floats("y", ["n", "k"])])
    loaded = load(tmp_path, manifest_of(tmp_path, "onnx"), OPTIONS)
    assert loaded.outputs == (TensorSpec("y", "FP32", (-1, -1)),)


def test_values_that_do_not_fit_are_a_value_error(tmp_path: Path, manifest_of: Callable[..., Manifest]) -> None:
    write_graph(
        tmp_path / "m.onnx",
        [onnx.helper.make_node("Neg", ["x"], ["y"])],
        [floats("x", ["n", 4])],
        [floats("y", ["n", 4])],
    )
    loaded = load(tmp_path, manifest_of(tmp_path, "onnx"), OPTIONS)
    with pytest.raises(ValueError, match="Got: 3 Expected: 4"):
        loaded.predict({"x": np.ones((1, 3), np.float32)}, ["y"])


def test_strings_go_in_and_out(tmp_path: Path, manifest_of: Callable[..., Manifest]) -> None:
    text = [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.STRING, ["n"]) for name in "xy"]
    write_graph(tmp_path / "m.onnx", [onnx.helper.make_node("Identity", ["x"], ["y"])], text[:1], text[1:])
    loaded = load(tmp_path, manifest_of(tmp_path, "onnx"), OPTIONS)
    assert loaded.inputs == (TensorSpec("x", "BYTES", (-1,)),)
    assert list(loaded.predict({"x": np.array(["é", ""], object)}, ["y"])["y"]) == ["é", ""]


def test_an_unknown_operator_is_named(tmp_path: Path, manifest_of: Callable[..., Manifest]) -> None:
    node = onnx.helper.make_node("MyOp", ["x"], ["y"], domain="own.domain")
    write_graph(tmp_path / "m.onnx", [node], [floats("x", ["n", 4])], [floats("y", ["n", 4])])
    with pytest.raises(LoadError, match=r"operator that onnxruntime lacks.*own\.domain:MyOp"):
        load(tmp_path, manifest_of(tmp_path, "onnx"), OPTIONS)


def external_tensor(location: str) -> Any:
    tensor = onnx.TensorProto(name="w", data_type=1, dims=[4], data_location=1)
    entry = tensor.external_data.add()
    entry.key, entry.value = "location", location
    return tensor


def write_external(path: Path, location: str, place: str) -> None:
    """A model that adds `w`, kept in a file: as an initializer, in a node's attribute or inside a subgraph."""
    weight, make = external_tensor(location), onnx.helper.make_node
    nodes, initial = [make("Add", ["x", "w"], ["y"])], [weight]
    if place == "attribute":
        nodes, initial = [make("Constant", [], ["w"], value=weight), *nodes], []
    if place == "subgraph":
        branch = onnx.helper.make_graph(nodes, "branch", [], [floats("y", None)], initial)
        true = onnx.helper.make_tensor("true", onnx.TensorProto.BOOL, [], [True])
        nodes, initial = [make("If", ["true"], ["z"], then_branch=branch, else_branch=branch)], [true]
    write_graph(path, nodes, [floats("x", ["n", 4])], [floats("z" if place == "subgraph" else "y", ["n", 4])], initial)


@pytest.mark.parametrize("place", ["initializer", "attribute", "subgraph"])
@pytest.mark.parametrize("location", ["../secret.bin", "absolute", "deeper/../../secret.bin"])
def test_data_outside_the_folder_is_refused(
    tmp_path: Path, manifest_of: Callable[..., Manifest], place: str, location: str
) -> None:
    folder = tmp_path / "1"
    (folder / "deeper").mkdir(parents=True)
    (tmp_path / "secret.bin").write_bytes(np.ones(4, np.float32).tobytes())
    write_external(folder / "m.onnx", str(tmp_path / "secret.bin") if location == "absolute" else location, place)
    with pytest.raises(UnsafeArtifact, match="outside its folder"):
        load(folder, manifest_of(folder, "onnx"), OPTIONS)


@pytest.mark.parametrize("place", ["initializer", "attribute", "subgraph"])
def test_data_inside_the_folder_is_read(tmp_path: Path, manifest_of: Callable[..., Manifest], place: str) -> None:
    (tmp_path / "w.bin").write_bytes(np.ones(4, np.float32).tobytes())
    write_external(tmp_path / "m.onnx", "w.bin", place)
    loaded = load(tmp_path, manifest_of(tmp_path, "onnx"), OPTIONS)
    (output,) = loaded.outputs
    answer = loaded.predict({"x": np.zeros((1, 4), np.float32)}, [output.name])[output.name]
    np.testing.assert_array_equal(answer, np.ones((1, 4), np.float32))


def test_what_is_no_model_is_a_load_error(tmp_path: Path, manifest_of: Callable[..., Manifest]) -> None:
    (tmp_path / "m.onnx").write_bytes(b"nonsense")
    with pytest.raises(LoadError, match=r"m\.onnx is not a model"):
        load(tmp_path, manifest_of(tmp_path, "onnx"), OPTIONS)


def test_two_models_in_one_folder_are_a_load_error(tmp_path: Path, manifest_of: Callable[..., Manifest]) -> None:
    for name in ("a.onnx", "b.onnx"):
        (tmp_path / name).write_bytes(b"")
    with pytest.raises(LoadError, match=r"exactly one file ending in \.onnx; found a\.onnx, b\.onnx"):
        load(tmp_path, manifest_of(tmp_path, "onnx"), OPTIONS)
