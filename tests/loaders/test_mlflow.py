"""MLflow folders, as MLflow itself writes them: the same answers without importing it, and no way out of the folder."""

from __future__ import annotations

import pickle
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression

from berth.errors import LoadError, UnsafeArtifact
from berth.loaders.formats import LoadOptions, load
from berth.models.manifest import Manifest
from berth.tensors.arrays import TensorSpec

pytest.importorskip("yaml", reason="PyYAML is not installed")
OPTIONS = LoadOptions()
FLOWERS, KIND = load_iris(return_X_y=True)
NAMES = ("a", "b", "c", "d")
PLAIN = {"pip_requirements": ["numpy"]}  # else MLflow starts a process to find them out


@pytest.fixture
def mlflow() -> Any:
    """MLflow itself, whose imports warn of their own age."""
    pytest.importorskip("mlflow", reason="mlflow-skinny, which writes the folders, is not installed")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import mlflow.lightgbm
        import mlflow.models
        import mlflow.onnx
        import mlflow.pytorch
        import mlflow.sklearn
        import mlflow.xgboost

        yield mlflow


def write_document(folder: Path, flavor: str, content: str, more: str = "") -> None:
    folder.mkdir(exist_ok=True)
    (folder / "MLmodel").write_text(f"flavors:\n  {flavor}:\n    {content}\n{more}")


@pytest.mark.parametrize("form", ["pickle", "cloudpickle", "skops"])
def test_the_sklearn_flavour(tmp_path: Path, manifest_of: Callable[..., Manifest], mlflow: Any, form: str) -> None:
    import pandas as pd

    folder, model = tmp_path / "1", LogisticRegression(max_iter=500).fit(FLOWERS, KIND)
    signature = mlflow.models.infer_signature(pd.DataFrame(FLOWERS, columns=list(NAMES)), KIND)
    mlflow.sklearn.save_model(model, folder, serialization_format=form, signature=signature, **PLAIN)
    loaded = load(folder, manifest_of(folder, "mlflow"), OPTIONS)
    assert loaded.inputs == (TensorSpec("features", "FP64", (-1, 4), NAMES),)
    got = loaded.predict({"features": FLOWERS}, ["prediction", "probabilities"])
    np.testing.assert_array_equal(got["prediction"], model.predict(FLOWERS))
    np.testing.assert_array_equal(got["probabilities"], model.predict_proba(FLOWERS))


def test_the_onnx_flavour(tmp_path: Path, manifest_of: Callable[..., Manifest], mlflow: Any) -> None:
    pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
    skl2onnx = pytest.importorskip("skl2onnx", reason="skl2onnx, which makes the file, is not installed")
    model = LogisticRegression(max_iter=500).fit(FLOWERS, KIND)
    made = skl2onnx.to_onnx(model, FLOWERS[:1].astype(np.float32), options={"zipmap": False})
    mlflow.onnx.save_model(made, tmp_path / "1", **PLAIN)
    loaded = load(tmp_path / "1", manifest_of(tmp_path / "1", "mlflow"), OPTIONS)
    got = loaded.predict({"X": FLOWERS.astype(np.float32)}, ["label"])["label"]
    np.testing.assert_array_equal(got, model.predict(FLOWERS))


@pytest.mark.parametrize("library", ["xgboost", "lightgbm"])
def test_the_tree_flavours(tmp_path: Path, manifest_of: Callable[..., Manifest], mlflow: Any, library: str) -> None:
    trees = pytest.importorskip(library, reason=f"{library} is not installed")
    if library == "xgboost":
        model = trees.XGBClassifier(n_estimators=4, n_jobs=1).fit(FLOWERS, KIND)
        mlflow.xgboost.save_model(model, tmp_path / "1", **PLAIN)
    else:
        model = trees.LGBMClassifier(n_estimators=4, n_jobs=1, verbose=-1).fit(FLOWERS, KIND)
        mlflow.lightgbm.save_model(model.booster_, tmp_path / "1", **PLAIN)
    loaded = load(tmp_path / "1", manifest_of(tmp_path / "1", "mlflow"), OPTIONS)
    got = loaded.predict({"features": FLOWERS}, ["probabilities"])["probabilities"]
    np.testing.assert_array_equal(got, model.predict_proba(FLOWERS))


def write_torch(mlflow: Any, folder: Path, form: str) -> Any:
    torch = pytest.importorskip("torch", reason="torch is not installed")
    module, rows = torch.nn.Linear(4, 2).eval(), np.ones((2, 4), np.float32)
    signature = mlflow.models.infer_signature(rows, np.ones((2, 2), np.float32))
    if form == "pt2":
        mlflow.pytorch.save_model(
            module, folder, signature=signature, input_example=rows, serialization_format="pt2", **PLAIN
        )
    else:
        saved = torch.jit.script(module) if form == "torchscript" else module
        mlflow.pytorch.save_model(saved, folder, signature=signature, serialization_format="pickle", **PLAIN)
    with torch.inference_mode():
        return module(torch.tensor(rows)).numpy()


@pytest.mark.parametrize(
    ("form", "input_name"), [pytest.param("pt2", "input", marks=pytest.mark.slow), ("torchscript", "features")]
)
def test_the_pytorch_flavour(
    tmp_path: Path, manifest_of: Callable[..., Manifest], mlflow: Any, form: str, input_name: str
) -> None:
    want = write_torch(mlflow, tmp_path / "1", form)
    loaded = load(tmp_path / "1", manifest_of(tmp_path / "1", "mlflow"), OPTIONS)
    assert loaded.inputs == (TensorSpec(input_name, "FP32", (-1, 4)),)
    assert loaded.outputs == (TensorSpec("output", "FP32", (-1, 2)),)
    got = loaded.predict({input_name: np.ones((2, 4), np.float32)}, ["output"])["output"]
    np.testing.assert_array_equal(got, want)


def test_a_pickled_torch_module_is_refused(tmp_path: Path, manifest_of: Callable[..., Manifest], mlflow: Any) -> None:
    write_torch(mlflow, tmp_path / "1", "pickle")
    with pytest.raises(UnsafeArtifact, match=r'data/model\.pth is a pickle.*serialization_format="pt2"'):
        load(tmp_path / "1", manifest_of(tmp_path / "1", "mlflow"), OPTIONS)


class Payload:
    """Makes a file when it is unpickled."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.marker,)


def test_a_payload_in_the_pickle_never_runs(tmp_path: Path, manifest_of: Callable[..., Manifest]) -> None:
    folder, marker = tmp_path / "1", tmp_path / "marker"
    write_document(folder, "sklearn", "pickled_model: model.pkl")
    (folder / "model.pkl").write_bytes(pickle.dumps(Payload(marker)))
    with pytest.raises(UnsafeArtifact):
        load(folder, manifest_of(folder, "mlflow"), OPTIONS)
    assert not marker.exists()


def test_yaml_makes_no_objects(tmp_path: Path, manifest_of: Callable[..., Manifest]) -> None:
    folder, marker = tmp_path / "1", tmp_path / "marker"
    write_document(folder, "sklearn", f"pickled_model: !!python/object/apply:os.mkdir [{marker}]")
    with pytest.raises(LoadError, match="MLmodel does not describe a model"):
        load(folder, manifest_of(folder, "mlflow"), OPTIONS)
    assert not marker.exists()


@pytest.mark.parametrize(
    ("flavor", "key"),
    [
        ("sklearn", "pickled_model"),
        ("onnx", "data"),
        ("pytorch", "model_data"),
        ("xgboost", "data"),
        ("lightgbm", "data"),
    ],
)
@pytest.mark.parametrize("name", ["../model.pkl", "/etc/model.pkl", "sub/../../model.pkl"])
def test_no_entry_leads_out_of_the_folder(
    tmp_path: Path, manifest_of: Callable[..., Manifest], flavor: str, key: str, name: str
) -> None:
    write_document(tmp_path / "1", flavor, f"{key}: {name}")
    with pytest.raises(UnsafeArtifact, match=rf"{key} is '{name}', which lies outside"):
        load(tmp_path / "1", manifest_of(tmp_path / "1", "mlflow"), OPTIONS)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "does not describe a model"),
        ("[1]", "does not describe a model"),
        ("flavors: {", "does not describe a model"),
        ("flavors: {sklearn: 1}", "not a mapping of mappings"),
        (
            "flavors: {python_function: {}, catboost: {}}",
            "has the flavours python_function, catboost; known are sklearn",
        ),
        ("flavors: {sklearn: {}}", "pickled_model is None"),
        ("flavors: {sklearn: {pickled_model: model.pkl}}", "names model.pkl, which is not among"),
        ("flavors: {sklearn: {pickled_model: MLmodel}}\nsignature: {inputs: '['}", "the signature cannot be read"),
    ],
)
def test_a_document_that_does_not_fit_says_why(
    tmp_path: Path, manifest_of: Callable[..., Manifest], text: str, message: str
) -> None:
    (tmp_path / "MLmodel").write_text(text)
    with pytest.raises(LoadError, match=message):
        load(tmp_path, manifest_of(tmp_path, "mlflow"), OPTIONS)


def test_mlflow_is_not_imported(tmp_path: Path, manifest_of: Callable[..., Manifest]) -> None:
    xgboost = pytest.importorskip("xgboost", reason="xgboost is not installed")
    write_document(tmp_path, "xgboost", "data: model.ubj")
    xgboost.XGBRegressor(n_estimators=2, n_jobs=1).fit(FLOWERS, KIND).save_model(tmp_path / "model.ubj")
    manifest = manifest_of(tmp_path, "mlflow")
    program = (
        "import pathlib, pickle, sys; from berth.loaders.formats import LoadOptions, load; "
        "manifest = pickle.load(sys.stdin.buffer); load(pathlib.Path(sys.argv[1]), manifest, LoadOptions()); "
        "sys.exit('mlflow' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program, str(tmp_path)], input=pickle.dumps(manifest), check=True)
