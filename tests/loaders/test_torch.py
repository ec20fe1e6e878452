"""torch: answers equal to the module's own, and files that would run code are refused before torch reads them."""

from __future__ import annotations

import io
import json
import pickle
import sys
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from berth.errors import LoadError, UnsafeArtifact
from berth.loaders.formats import LoadOptions, load
from berth.models.manifest import Manifest
from berth.tensors.arrays import TensorSpec

torch = pytest.importorskip("torch", reason="torch is not installed")
OPTIONS = LoadOptions()
INPUT = TensorSpec("x", "FP32", (-1, 4))
ROWS = np.linspace(-1, 1, 40, dtype=np.float32).reshape(10, 4)
ROWS.flags.writeable = False  # as arrays read from a body are


class Net(torch.nn.Module):  # type: ignore[misc, name-defined, unused-ignore]
    """Four numbers in; out come a tensor, a tuple or a dict."""

    def __init__(self, form: str = "tensor") -> None:
        super().__init__()
        torch.manual_seed(7)
        self.layers = torch.nn.Sequential(
            torch.nn.Linear(4, 8), torch.nn.ReLU(), torch.nn.Dropout(), torch.nn.Linear(8, 3)
        )
        self.form = form

    def forward(self, x: Any) -> Any:
        scores = self.layers(x).softmax(-1)
        if self.form == "tuple":
            return scores, scores.argmax(-1)
        if self.form == "dict":
            return {"scores": scores, "top": scores.argmax(-1)}
        return scores


def own_answer(form: str = "tensor") -> Any:
    with torch.inference_mode():
        return Net(form).eval()(torch.tensor(ROWS))


def write_script(path: Path, module: Any, strict: bool = True) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.jit.trace(module.eval(), torch.ones(2, 4), strict=strict).save(str(path))


def write_export(path: Path, module: Any) -> None:
    rows = torch.export.Dim("rows", min=1, max=64)
    exported = torch.export.export(module.eval(), (torch.ones(2, 4),), dynamic_shapes=({0: rows},))
    torch.export.save(exported, path)


def rewrite(path: Path, change: Callable[[str, bytes], bytes], extra: dict[str, bytes] | None = None) -> None:
    """The same archive with each record passed through `change`, and more records."""
    with zipfile.ZipFile(path) as archive:
        root = archive.namelist()[0].partition("/")[0]
        records = {name: change(name.partition("/")[2], archive.read(name)) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in {**records, **{f"{root}/{name}": body for name, body in (extra or {}).items()}}.items():
            archive.writestr(name, content)


class Payload:
    """Makes a file when it is unpickled."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.marker,)


@pytest.mark.parametrize("form", ["tensor", "tuple", "dict"])
@pytest.mark.parametrize("format_", ["torchscript", "torch-export"])
def test_answers_equal_the_module(
    tmp_path: Path, manifest_of: Callable[..., Manifest], form: str, format_: str
) -> None:
    if format_ == "torchscript":
        write_script(tmp_path / "m.pt", Net(form), strict=False)
        loaded = load(tmp_path, manifest_of(tmp_path, format_, inputs=(INPUT,)), OPTIONS)
    else:
        write_export(tmp_path / "m.pt2", Net(form))
        loaded = load(tmp_path, manifest_of(tmp_path, format_), OPTIONS)
    names = {"tensor": ["output"], "tuple": ["output_0", "output_1"], "dict": ["scores", "top"]}[form]
    datatypes = [TensorSpec(names[0], "FP32", (-1, 3)), *(TensorSpec(name, "INT64", (-1,)) for name in names[1:])]
    assert (loaded.inputs, loaded.outputs) == ((INPUT,), tuple(datatypes))
    want = own_answer(form)
    values = [want] if form == "tensor" else list(want.values() if form == "dict" else want)
    got = loaded.predict({"x": ROWS}, names)
    for name, value in zip(names, values, strict=True):
        np.testing.assert_array_equal(got[name], value.numpy())
    assert list(loaded.predict({"x": ROWS.astype(np.float64)}, names[-1:])) == names[-1:]
    assert loaded.built_with == {"torch": torch.__version__}


def test_the_manifest_renames_inputs_and_outputs(tmp_path: Path, manifest_of: Callable[..., Manifest]) -> None:
    write_script(tmp_path / "m.ts", Net())
    outputs = (TensorSpec("probabilities", "FP32", (-1, 3), labels=("a", "b", "c")),)
    inputs = (TensorSpec("features", "FP32", (-1, 4)),)
    loaded = load(tmp_path, manifest_of(tmp_path, "torchscript", inputs=inputs, outputs=outputs), OPTIONS)
    assert loaded.outputs == outputs
    got = loaded.predict({"features": ROWS}, ["probabilities"])["probabilities"]
    np.testing.assert_array_equal(got, own_answer().numpy())


def test_torchscript_tells_nothing_without_a_manifest(tmp_path: Path, manifest_of: Callable[..., Manifest]) -> None:
    write_script(tmp_path / "m.pt", Net())
    loaded = load(tmp_path, manifest_of(tmp_path, "torchscript"), OPTIONS)
    assert (loaded.inputs, loaded.outputs) == ((), ())


def test_too_many_inputs_are_a_load_error(tmp_path: Path, manifest_of: Callable[..., Manifest]) -> None:
    write_script(tmp_path / "m.pt", Net())
    more = (INPUT, TensorSpec("y", "FP32", (-1,)))
    with pytest.raises(LoadError, match=r"names 2 inputs \(x, y\), the model expects 1 \(x\)"):
        load(tmp_path, manifest_of(tmp_path, "torchscript", inputs=more), OPTIONS)


def test_threads_get_their_own_rows(
    tmp_path: Path, manifest_of: Callable[..., Manifest], check_threads: Callable[..., None]
) -> None:
    write_script(tmp_path / "m.pt", Net())
    check_threads(load(tmp_path, manifest_of(tmp_path, "torchscript", inputs=(INPUT,)), OPTIONS), "x", ROWS, "output")
    (tmp_path / "m.pt").unlink()
    write_export(tmp_path / "m.pt2", Net())
    check_threads(
        load(tmp_path, manifest_of(tmp_path, "torch-export"), LoadOptions(cpu_threads=3)), "x", ROWS, "output"
    )
    assert torch.get_num_threads() == 3


def test_sizes_outside_of_the_export_are_a_value_error(tmp_path: Path, manifest_of: Callable[..., Manifest]) -> None:
    write_export(tmp_path / "m.pt2", Net())
    loaded = load(tmp_path, manifest_of(tmp_path, "torch-export"), OPTIONS)
    with pytest.raises(ValueError, match="64"):
        loaded.predict({"x": np.zeros((65, 4), np.float32)}, ["output"])


def test_a_pickle_is_not_torchscript(tmp_path: Path, manifest_of: Callable[..., Manifest]) -> None:
    torch.save({"state": Payload(tmp_path / "marker")}, tmp_path / "m.pt")
    with pytest.raises(LoadError, match=r"torch\.save writes pickles"):
        load(tmp_path, manifest_of(tmp_path, "torchscript"), OPTIONS)
    assert not (tmp_path / "marker").exists()


@pytest.mark.parametrize("record", ["data.pkl", "constants.pkl"])
def test_a_payload_in_torchscript_never_runs(tmp_path: Path, manifest_of: Callable[..., Manifest], record: str) -> None:
    write_script(tmp_path / "m.pt", Net())
    payload = pickle.dumps(Payload(tmp_path.parent / "marker"), protocol=2)
    rewrite(tmp_path / "m.pt", lambda name, body: payload if name == record else body)
    with pytest.raises(LoadError, match=r"m\.pt is not TorchScript that torch"):
        load(tmp_path, manifest_of(tmp_path, "torchscript"), OPTIONS)
    assert not (tmp_path.parent / "marker").exists()


@pytest.mark.parametrize(
    "line",
    [
        'x0 = torch.from_file("/etc/hostname", False, 4)',
        'torch.save(x, "/tmp/marker")',
        't = torch\n    t . save(x, "/tmp/marker")',
        'getattr(torch, "sa\\x76e")(x, "/tmp/marker")',
        "x0 = ops.c10d.barrier(x)",
    ],
)
def test_torchscript_that_opens_files_is_refused(
    tmp_path: Path, manifest_of: Callable[..., Manifest], line: str
) -> None:
    write_script(tmp_path / "m.pt", Net())

    def change(name: str, body: bytes) -> bytes:
        return body + f"    {line}\n".encode() if name.startswith("code/__torch__/") and name.endswith(".py") else body

    rewrite(tmp_path / "m.pt", change)
    with pytest.raises(UnsafeArtifact):
        load(tmp_path, manifest_of(tmp_path, "torchscript"), OPTIONS)


def test_a_compressed_record_is_refused(tmp_path: Path, manifest_of: Callable[..., Manifest]) -> None:
    with zipfile.ZipFile(tmp_path / "m.pt2", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("m/models/model.json", "{}")
    with pytest.raises(UnsafeArtifact, match="compressed"):
        load(tmp_path, manifest_of(tmp_path, "torch-export"), OPTIONS)


def change_model(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """The .pt2 file with its graph changed in place."""

    def rewritten(name: str, body: bytes) -> bytes:
        if name != "models/model.json":
            return body
        document = json.loads(body)
        change(document)
        return json.dumps(document).encode()

    rewrite(path, rewritten)


def run_touch(marker: Path) -> dict[str, Callable[[dict[str, Any]], object]]:
    """Ways to have torch.export.load, or the program it makes, run Python of the file's choice."""
    code = f"__import__('pathlib').Path({str(marker)!r}).touch()"

    def graph(document: dict[str, Any]) -> Any:
        return document["graph_module"]["graph"]

    def add_node(document: dict[str, Any]) -> None:
        argument = {"name": "", "arg": {"as_string": f"touch {marker}"}, "kind": 1}
        node = {"target": "torch.os.system", "inputs": [argument], "outputs": [], "metadata": {}}
        graph(document)["nodes"].insert(0, {**node, "is_hop_single_tensor_return": None, "name": "node"})

    def set_size(document: dict[str, Any]) -> None:
        graph(document)["tensor_values"]["x"]["sizes"][0]["as_expr"]["expr_str"] = code

    def set_name(document: dict[str, Any]) -> None:
        text = json.dumps(document).replace('"name": "x"', json.dumps({"name": f"x={code}"})[1:-1])
        document.update(json.loads(text.replace('"x":', json.dumps(f"x={code}") + ":")))

    def set_argument(document: dict[str, Any]) -> None:
        document["graph_module"]["module_call_graph"][0]["signature"]["forward_arg_names"] = [f"x={code}"]

    def set_tree(document: dict[str, Any]) -> None:
        context = {"default_factory_module": "antigravity", "default_factory_name": "x", "dict_context": []}
        tree = {"type": "collections.defaultdict", "context": context, "children_spec": []}
        document["graph_module"]["module_call_graph"][0]["signature"]["out_spec"] = json.dumps([1, tree])

    def set_enum(document: dict[str, Any]) -> None:
        context = json.dumps({"__enum__": True, "fqn": "antigravity:x", "name": "x"})
        tree = {"type": "builtins.tuple", "context": context, "children_spec": []}
        document["graph_module"]["module_call_graph"][0]["signature"]["out_spec"] = json.dumps([1, tree])

    return {
        "operator": add_node,
        "size": set_size,
        "name": set_name,
        "argument": set_argument,
        "tree": set_tree,
        "enum": set_enum,
    }


@pytest.mark.parametrize(
    ("way", "message"),
    [
        ("operator", r"the operator 'torch\.os\.system'"),
        ("size", "the size .__import__"),
        ("name", "the name .x=__import__"),
        ("argument", "the name .x=__import__"),
        ("tree", r"a collections\.defaultdict"),
        ("enum", "the tree context"),
    ],
)
def test_a_graph_that_runs_code_is_refused(
    tmp_path: Path, manifest_of: Callable[..., Manifest], way: str, message: str
) -> None:
    folder, marker = tmp_path / "1", tmp_path / "marker"
    folder.mkdir()
    write_export(folder / "m.pt2", Net())
    change_model(folder / "m.pt2", run_touch(marker)[way])
    with pytest.raises((UnsafeArtifact, LoadError), match=message):
        load(folder, manifest_of(folder, "torch-export"), OPTIONS)
    assert not marker.exists()
    assert "antigravity" not in sys.modules


def test_guards_are_never_compiled(tmp_path: Path, manifest_of: Callable[..., Manifest]) -> None:
    folder, marker = tmp_path / "1", tmp_path / "marker"
    folder.mkdir()
    write_export(folder / "m.pt2", Net())
    code = f"__import__('pathlib').Path({str(marker)!r}).touch() is None"
    change_model(folder / "m.pt2", lambda document: document.update(guards_code=[code]))
    loaded = load(folder, manifest_of(folder, "torch-export"), OPTIONS)
    loaded.predict({"x": ROWS}, ["output"])
    assert not marker.exists()


def test_pickled_sample_inputs_are_never_read(tmp_path: Path, manifest_of: Callable[..., Manifest]) -> None:
    folder, marker, payload = tmp_path / "1", tmp_path / "marker", io.BytesIO()
    folder.mkdir()
    write_export(folder / "m.pt2", Net())
    torch.save(((Payload(marker),), {}), payload)
    rewrite(folder / "m.pt2", lambda name, body: payload.getvalue() if name.endswith("model.pt") else body)
    loaded = load(folder, manifest_of(folder, "torch-export"), OPTIONS)
    np.testing.assert_array_equal(loaded.predict({"x": ROWS}, ["output"])["output"], own_answer().numpy())
    assert not marker.exists()


@pytest.mark.parametrize(
    "record",
    [
        "data/constants/opaque_obj_0",
        "data/constants/custom_obj_0",
        "data/weights/model.pt",
        "data/constants/model.pt",
        "data/aotinductor/model/model.so",
        "models/other.json",
    ],
)
def test_other_records_are_refused(tmp_path: Path, manifest_of: Callable[..., Manifest], record: str) -> None:
    folder, marker = tmp_path / "1", tmp_path / "marker"
    folder.mkdir()
    write_export(folder / "m.pt2", Net())
    rewrite(folder / "m.pt2", lambda _, body: body, {record: pickle.dumps(Payload(marker))})
    with pytest.raises(UnsafeArtifact, match="the record"):
        load(folder, manifest_of(folder, "torch-export"), OPTIONS)
    assert not marker.exists()


def test_a_pickled_weight_is_refused(tmp_path: Path, manifest_of: Callable[..., Manifest]) -> None:
    folder, marker, payload = tmp_path / "1", tmp_path / "marker", io.BytesIO()
    folder.mkdir()
    write_export(folder / "m.pt2", Net())
    torch.save(Payload(marker), payload)

    def change(name: str, body: bytes) -> bytes:
        if name == "data/weights/weight_0":
            return payload.getvalue()
        return body.replace(b'"use_pickle": false', b'"use_pickle": true') if "weights_config" in name else body

    rewrite(folder / "m.pt2", change)
    with pytest.raises(UnsafeArtifact, match="as a pickle"):
        load(folder, manifest_of(folder, "torch-export"), OPTIONS)
    assert not marker.exists()


FACTORY = {"factory": "berth_test_architecture:make", "arguments": {"width": 8}}


@pytest.fixture
def weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with weights, and on the import path the module that makes their architecture."""
    safetensors = pytest.importorskip("safetensors.torch", reason="safetensors is not installed")
    (tmp_path / "lib").mkdir()
    (tmp_path / "lib" / "berth_test_architecture.py").write_text(
        "import torch\n\ndef make(width):\n"
        "    return torch.nn.Sequential(torch.nn.Linear(4, width), torch.nn.ReLU(), torch.nn.Dropout(),"
        " torch.nn.Linear(width, 3), torch.nn.Softmax(-1))\n"
    )
    monkeypatch.syspath_prepend(tmp_path / "lib")
    folder = tmp_path / "1"
    folder.mkdir()
    state = {name.removeprefix("layers."): value for name, value in Net().state_dict().items()}
    safetensors.save_file(state, folder / "m.safetensors")
    return folder


def test_safetensors_fill_an_allowed_architecture(weights: Path, manifest_of: Callable[..., Manifest]) -> None:
    manifest = manifest_of(weights, "safetensors", inputs=(TensorSpec("input", "FP32", (-1, 4)),), architecture=FACTORY)
    loaded = load(weights, manifest, LoadOptions(torch_factories=("berth_test_architecture:make",)))
    assert loaded.outputs == (TensorSpec("output", "FP32", (-1, 3)),)
    np.testing.assert_array_equal(loaded.predict({"input": ROWS}, ["output"])["output"], own_answer().numpy())
    assert set(loaded.built_with) == {"torch", "safetensors"}


@pytest.mark.parametrize("allowed", [(), ("berth_test_architecture",), ("berth_test_architecture:make2",)])
def test_other_architectures_are_not_even_imported(
    weights: Path, manifest_of: Callable[..., Manifest], allowed: tuple[str, ...]
) -> None:
    sys.modules.pop("berth_test_architecture", None)
    with pytest.raises(UnsafeArtifact, match="BERTH_TORCH_FACTORIES"):
        load(weights, manifest_of(weights, "safetensors", architecture=FACTORY), LoadOptions(torch_factories=allowed))
    assert "berth_test_architecture" not in sys.modules


@pytest.mark.parametrize(
    ("architecture", "message"),
    [
        (None, 'name the "architecture"'),
        ({**FACTORY, "arguments": {"width": 9}}, "does not fit the architecture"),
        ({**FACTORY, "arguments": {"depth": 9}}, "failed: TypeError"),
        ({"factory": "berth_no_such_module:make"}, "failed: ModuleNotFoundError"),
        ({"factory": "builtins:dict"}, "made a dict"),
    ],
)
def test_an_architecture_that_does_not_work_says_why(
    weights: Path, manifest_of: Callable[..., Manifest], architecture: dict[str, Any] | None, message: str
) -> None:
    allowed = ("berth_test_architecture:make", "berth_no_such_module:make", "builtins:dict")
    with pytest.raises(LoadError, match=message):
        load(
            weights,
            manifest_of(weights, "safetensors", architecture=architecture),
            LoadOptions(torch_factories=allowed),
        )
