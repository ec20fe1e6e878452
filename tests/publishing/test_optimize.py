"""Optimised versions: smaller or sparser, close to what they come from, in a version of their own or nowhere."""

from __future__ import annotations

import json
import warnings
from functools import reduce
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from berth.cli.main import berth
from berth.errors import LoadError, StoreError
from berth.loaders.formats import LoadOptions
from berth.models.model import Model
from berth.models.store import Entry, find_version, list_versions, read_manifest
from berth.publishing.adding import AddRequest, add_version
from berth.publishing.optimize.comparing import compare
from berth.publishing.optimize.making import parse_method
from berth.publishing.optimize.writing import OptimizeRequest, optimize_version
from berth.serving.opening import open_version
from berth.serving.tuning import choose_batching
from berth.tensors.arrays import Array, TensorSpec

WIDTH, HIDDEN, CLASSES = 30, 256, 3
OPTIONS = LoadOptions(torch_factories=("test_optimize:make_net",))
SCORES = TensorSpec("scores", "FP32", (-1, CLASSES))


def make_net(odd: bool = False) -> Any:
    """The architecture that the safetensors below belong to; if odd, one that TorchScript cannot compile."""
    import torch

    class Odd(torch.nn.Sequential):  # type: ignore[misc, name-defined, unused-ignore]
        def forward(self, input: Any) -> Any:
            return reduce(lambda value, layer: layer(value), self, input)

    torch.manual_seed(3)
    layers = [torch.nn.Linear(WIDTH, HIDDEN), torch.nn.ReLU(), torch.nn.Linear(HIDDEN, CLASSES), torch.nn.Softmax(-1)]
    return Odd(*layers) if odd else torch.nn.Sequential(*layers)


def rows(count: int = 200) -> Array:
    return np.random.default_rng(5).normal(size=(count, WIDTH)).astype(np.float32)


@pytest.fixture
def sample(tmp_path: Path) -> Path:
    path = tmp_path / "sample.csv"
    header = ",".join(f"c{at}" for at in range(WIDTH))
    np.savetxt(path, rows(), delimiter=",", header=header, comments="")
    return path


@pytest.fixture
def onnx_model(tmp_path: Path, sample: Path) -> Entry:
    """An MLP whose first output is a label, in the store as mlp@1 with the profile of its sample."""
    onnx = pytest.importorskip("onnx", reason="onnx is not installed")
    pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
    make, draw = onnx.helper, np.random.default_rng(7)
    shapes = {"w1": (WIDTH, HIDDEN), "w2": (HIDDEN, CLASSES)}
    weights = [
        onnx.numpy_helper.from_array(draw.normal(scale=0.2, size=shape).astype(np.float32), name)
        for name, shape in shapes.items()
    ]
    nodes = [
        make.make_node("MatMul", ["x", "w1"], ["h"]),
        make.make_node("Relu", ["h"], ["r"]),
        make.make_node("MatMul", ["r", "w2"], ["z"]),
        make.make_node("Softmax", ["z"], ["scores"], axis=-1),
        make.make_node("ArgMax", ["z"], ["label"], axis=1, keepdims=0),
    ]
    x = make.make_tensor_value_info("x", onnx.TensorProto.FLOAT, ["n", WIDTH])
    label = make.make_tensor_value_info("label", onnx.TensorProto.INT64, ["n"])
    scores = make.make_tensor_value_info("scores", onnx.TensorProto.FLOAT, ["n", CLASSES])
    graph = make.make_graph(nodes, "mlp", [x], [label, scores], weights)
    path = tmp_path / "mlp.onnx"
    onnx.save(make.make_model(graph, opset_imports=[make.make_opsetid("", 17)], ir_version=10), path)
    request = AddRequest("mlp", metadata={"commit": "abc"}, sample=sample)
    return add_version(tmp_path / "store", path, request, OPTIONS)


def torch_model(folder: Path, format_: str, **arguments: Any) -> Entry:
    """make_net() in the store as net@1, in one of torch's formats."""
    torch = pytest.importorskip("torch", reason="torch is not installed")
    net, one = make_net().eval(), torch.ones(2, WIDTH)
    architecture = None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        if format_ == "safetensors":
            save = pytest.importorskip("safetensors.torch", reason="safetensors is not installed").save_file
            save(net.state_dict(), path := folder / "net.safetensors")
            architecture = {"factory": "test_optimize:make_net", "arguments": arguments}
        elif format_ == "torchscript":
            torch.jit.trace(net, one).save(path := folder / "net.pt")
        else:
            shapes = ({0: torch.export.Dim("rows", min=1, max=256)},)
            torch.export.save(torch.export.export(net, (one,), dynamic_shapes=shapes), path := folder / "net.pt2")
        inputs = (TensorSpec("input", "FP32", (-1, WIDTH)),)
        request = AddRequest("net", inputs=inputs, outputs=(SCORES,), architecture=architecture)
        return add_version(folder / "store", path, request, OPTIONS)


def optimize(entry: Entry, method: str, sample: Path, limit: float | None = None) -> tuple[Entry, dict[str, Any]]:
    """The new version and what its manifest tells of it."""
    store = entry.folder.parents[1]
    request = OptimizeRequest(entry, parse_method(method), sample, max_difference=limit)
    made, _ = optimize_version(store, request, OPTIONS, "warn")
    return made, read_manifest(made).metadata["optimized"]


def answers(entry: Entry) -> tuple[Model, dict[str, Array]]:
    model = open_version(entry, OPTIONS, "warn")
    return model, model.predict({model.inputs[0].name: rows()}, [spec.name for spec in model.outputs])


def tree(folder: Path) -> dict[str, int]:
    """When the folder and each of its files were last written; a file that came and went shows in the folder's."""
    return {path.name: path.stat().st_mtime_ns for path in [folder, *folder.iterdir()]}


def test_onnx_in_int8_is_smaller_and_close(onnx_model: Entry, sample: Path) -> None:
    before = tree(onnx_model.folder)
    made, told = optimize(onnx_model, "int8", sample, 0.1)
    assert made.key == "mlp@2"
    assert tree(onnx_model.folder) == before, "the old version was touched"
    assert (told["from"], told["method"], told["sample_rows"]) == ("1", "int8", 200)
    assert told["bytes"]["after"] < told["bytes"]["before"] / 2
    assert told["bytes"]["after"] == (made.folder / "mlp.onnx").stat().st_size
    assert 0.9 < told["equal_labels"] <= 1.0
    assert 0 < told["max_abs_difference"] < 0.1
    assert all(told[key][when] > 0 for key in ("one_row_ms", "rows_64_ms") for when in ("before", "after"))
    model, new = answers(made)
    assert model.metadata["commit"] == "abc"
    assert len(model.metadata["profile"]["columns"]) == WIDTH
    assert model.metadata["profile"] == read_manifest(onnx_model).metadata["profile"]
    np.testing.assert_allclose(new["scores"], answers(onnx_model)[1]["scores"], atol=0.1)


def test_int8_rows_do_not_share_a_call(onnx_model: Entry, sample: Path) -> None:
    made, _ = optimize(onnx_model, "int8", sample)
    assert choose_batching(open_version(onnx_model, OPTIONS, "warn"), 32).max_rows == 32
    assert choose_batching(open_version(made, OPTIONS, "warn"), 32).max_rows == 1


@pytest.mark.parametrize("odd", [False, True], ids=["compiled", "traced"])
def test_safetensors_in_int8_become_torchscript(tmp_path: Path, sample: Path, odd: bool) -> None:
    entry = torch_model(tmp_path, "safetensors", odd=odd)
    import torch

    if torch.cuda.is_available():
        pytest.skip("torch's int8 layers run on a CPU alone")
    made, told = optimize(entry, "int8", sample, 0.1)
    manifest = read_manifest(made)
    assert (manifest.format, manifest.architecture) == ("torchscript", None)
    assert told["bytes"]["after"] < told["bytes"]["before"]
    assert 0 < told["max_abs_difference"] < 0.1
    np.testing.assert_allclose(answers(made)[1]["scores"], answers(entry)[1]["scores"], atol=0.1)


@pytest.mark.parametrize("format_", ["safetensors", "torchscript", "torch-export"])
def test_pruned_weights_are_zero(tmp_path: Path, sample: Path, format_: str) -> None:
    entry = torch_model(tmp_path, format_)
    made, told = optimize(entry, "prune:0.25", sample)
    assert (read_manifest(made).format, told["method"]) == (format_, "prune:0.25")
    import torch

    net = make_net().eval()
    with torch.inference_mode():
        for layer in (net[0], net[2]):
            size = layer.weight.abs()
            layer.weight[size <= size.flatten().kthvalue(round(0.25 * size.numel())).values] = 0.0
        wanted = net(torch.tensor(rows())).numpy()
    np.testing.assert_allclose(answers(made)[1]["scores"], wanted, atol=1e-6)


def test_too_large_a_difference_writes_nothing(onnx_model: Entry, sample: Path) -> None:
    with pytest.raises(LoadError, match=r"mlp@1 by up to .* more than --max-difference 1e-09"):
        optimize(onnx_model, "int8", sample, 1e-9)
    assert [path.name for path in onnx_model.folder.parent.iterdir()] == ["1"]


def test_a_version_is_never_written_over(onnx_model: Entry, sample: Path) -> None:
    request = OptimizeRequest(onnx_model, parse_method("int8"), sample, version="1")
    with pytest.raises(StoreError, match="already in the store"):
        optimize_version(onnx_model.folder.parents[1], request, OPTIONS, "warn")


def test_what_cannot_be_optimised_is_refused(onnx_model: Entry, sample: Path) -> None:
    with pytest.raises(LoadError, match="onnx, which prune does not accept; what can be optimised: int8: onnx, safe"):
        optimize(onnx_model, "prune", sample)
    made, _ = optimize(onnx_model, "int8", sample)
    with pytest.raises(LoadError, match="int8 would change nothing"):
        optimize(made, "int8", sample)


@pytest.mark.parametrize("text", ["int4", "int8:0.5", "prune:0", "prune:1", "prune:x", "prune:nan", ""])
def test_methods_that_there_are_not(text: str) -> None:
    with pytest.raises(ValueError, match="is no method"):
        parse_method(text)


def test_a_method_that_there_is_not_is_a_usage_error(tmp_path: Path, sample: Path) -> None:
    words = ["optimize", "mlp", "--method", "int4", "--sample", str(sample), "--store", str(tmp_path)]
    result = CliRunner().invoke(berth, words)
    assert (result.exit_code, "want int8, prune, or prune:SHARE" in result.output) == (2, True)


def test_the_difference_counts_labels_and_numbers() -> None:
    specs = [TensorSpec("label", "INT64", (-1,)), TensorSpec("value", "FP64", (-1,))]
    old = {"label": np.arange(100), "value": np.full(100, np.nan)}
    new = {"label": np.where(old["label"] < 75, old["label"], 0), "value": np.full(100, np.nan)}
    x = {"x": np.arange(100)}
    found = compare(lambda t, n: pick(old, t), lambda t, n: pick(new, t), x, specs)
    assert (found.rows, found.equal_labels, found.max_abs, found.worst) == (100, 0.75, 0.0, 0.0)
    assert compare(lambda t, n: pick(old, t), lambda t, n: pick(new, t), x, specs[:1]).worst == 0.25
    new["value"][99] = 1.0
    with pytest.raises(LoadError, match="'value' has NaN"):
        compare(lambda t, n: pick(old, t), lambda t, n: pick(new, t), x, specs)


def pick(answers: dict[str, Array], tensors: Any) -> dict[str, Array]:
    """The rows that were asked for: the input counts them."""
    return {name: array[tensors["x"]] for name, array in answers.items()}


def test_the_command_prints_its_report(onnx_model: Entry, sample: Path) -> None:
    store = str(onnx_model.folder.parents[1])
    words = ["optimize", "mlp@1", "--method", "int8", "--sample", str(sample), "--version", "1.1", "--store", store]
    result = CliRunner().invoke(berth, words)
    assert result.exit_code == 0, result.output
    assert "added mlp@1.1: mlp@1 by int8" in result.output
    assert "equal labels: " in result.output
    assert "64 rows, ms" in result.output
    made = find_version(Path(store), "mlp", "1.1")
    assert json.loads((made.folder / "model.json").read_text())["metadata"]["optimized"]["method"] == "int8"
    assert [entry.version for entry in list_versions(Path(store), "mlp")] == ["1", "1.1"]
