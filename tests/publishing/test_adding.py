"""From a trained file to a version: copied, described, proved by an example, or refused in one line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pytest
from sklearn.linear_model import LinearRegression
from sklearn.tree import DecisionTreeClassifier

from berth.errors import BerthError, LoadError, ManifestError, StoreError, UnsafeArtifact
from berth.loaders.formats import LoadOptions
from berth.models.manifest import Manifest
from berth.models.store import find_version, list_names, next_version, read_manifest, write_version
from berth.publishing.adding import AddRequest, add_version
from berth.serving.opening import open_version
from berth.tensors.arrays import TensorSpec

ROWS = np.arange(30.0).reshape(10, 3)
SAMPLE = "a,b,c\n" + "".join(f"{a},{b},{c}\n" for a, b, c in ROWS.tolist())


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A regression on three columns, as joblib writes it."""
    joblib.dump(LinearRegression().fit(ROWS, ROWS.sum(axis=1)), tmp_path / "sum.joblib")
    return tmp_path / "sum.joblib"


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """Where the store will be."""
    return tmp_path / "store"


def add(store: Path, source: Path, version: str = "", **more: Any) -> Manifest:
    """Add `source` as the model `sum`; its manifest."""
    return read_manifest(add_version(store, source, AddRequest("sum", version, **more), LoadOptions()))


def sample_of(tmp_path: Path, text: str) -> Path:
    """A sample as a file."""
    (tmp_path / "X.csv").write_text(text, "utf-8")
    return tmp_path / "X.csv"


def test_a_file_alone(store: Path, file: Path) -> None:
    manifest = add(store, file)
    assert (manifest.version, manifest.format) == ("1", "joblib")
    assert list(manifest.files) == ["sum.joblib"]
    assert manifest.inputs == (TensorSpec("features", "FP64", (-1, 3)),)
    assert manifest.outputs == (TensorSpec("prediction", "FP64", (-1,)),)
    assert {"python", "scikit-learn", "numpy"} <= set(manifest.built_with)
    assert manifest.metadata == {"deterministic": True}
    assert manifest.example is not None
    assert open_version(find_version(store, "sum"), LoadOptions(), "strict").name == "sum"


def test_a_sample_names_the_columns_and_gives_the_example(store: Path, file: Path, tmp_path: Path) -> None:
    manifest = add(store, file, sample=sample_of(tmp_path, SAMPLE))
    assert manifest.inputs[0].columns == ("a", "b", "c")
    assert manifest.example is not None
    assert manifest.example["inputs"] == {"features": ROWS[:3].tolist()}
    assert manifest.example["outputs"]["prediction"] == pytest.approx([3.0, 12.0, 21.0])
    assert open_version(find_version(store, "sum"), LoadOptions(), "strict")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (SAMPLE.replace("\n", ",1\n").replace("c,1", "c,target"), "4 columns, but the model expects 3; leave"),
        ("a,b\n1,2\n", "2 columns, but the model expects 3"),
        ("a,b,c\n1,2,x\n", "the sample does not fit the model: .*number"),
        ("a,b,c\n", "no rows"),
        ("", "empty"),
        ("a,b,c\n1,2\n", "row 1 has 2 values"),
    ],
)
def test_a_sample_that_does_not_fit(store: Path, file: Path, tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(LoadError, match=message):
        add(store, file, sample=sample_of(tmp_path, text))
    assert list_names(store) == []


def test_a_sample_with_gaps_that_the_model_refuses(store: Path, file: Path, tmp_path: Path) -> None:
    with pytest.raises(LoadError, match=r"the model does not predict its sample: .*NaN"):
        add(store, file, sample=sample_of(tmp_path, "a,b,c\n1,,3\n"))


def test_missing_and_infinite_numbers_in_the_example(store: Path, tmp_path: Path) -> None:
    tree = DecisionTreeClassifier().fit(np.array([[0.0, np.nan], [1.0, 2.0]]), [0, 1])
    joblib.dump(tree, tmp_path / "tree.joblib")
    manifest = add(store, tmp_path / "tree.joblib", sample=sample_of(tmp_path, "a,b\n0,\n1,2\n"))
    assert manifest.example is not None
    assert manifest.example["inputs"]["features"] == [[0.0, None], [1.0, 2.0]]
    assert open_version(find_version(store, "sum"), LoadOptions(), "strict")
    regression = LinearRegression().fit(ROWS, ROWS[:, 0])
    regression.intercept_ = np.inf
    joblib.dump(regression, tmp_path / "huge.joblib")
    manifest = add(store, tmp_path / "huge.joblib", sample=sample_of(tmp_path, "a,b,c\n9,9,9\n"))
    assert manifest.example is not None
    assert manifest.example["outputs"]["prediction"] == [None]
    assert open_version(find_version(store, "sum"), LoadOptions(), "strict")


def test_metadata_is_kept_and_has_the_last_word(store: Path, file: Path) -> None:
    metadata = {"commit": "1a2b", "auc": 0.9, "deterministic": False}
    assert add(store, file, metadata=metadata).metadata == metadata
    with pytest.raises(ManifestError, match="cannot be written as JSON"):
        add(store, file, metadata={"auc": float("nan")})


def test_the_next_version(store: Path, file: Path) -> None:
    def empty(part: Path) -> None:
        (part / "model.json").write_text("{}")

    assert next_version(store, "sum") == "1"
    assert [add(store, file).version for _ in range(3)] == ["1", "2", "3"]
    for version, wanted in (("2026", "2027"), ("abc", "2027"), ("2027.1.0-rc1", "2028")):
        write_version(store, "sum", version, empty)
        assert next_version(store, "sum") == wanted
    write_version(store, "words", "nightly", empty)
    assert next_version(store, "words") == "1"


def test_a_version_that_is_there_is_never_changed(store: Path, file: Path) -> None:
    add(store, file, "1")
    with pytest.raises(StoreError, match="sum@1 is already in the store"):
        add(store, file, "1")


def test_a_link_is_followed_and_keeps_its_name(store: Path, file: Path, tmp_path: Path) -> None:
    blob = tmp_path / "0a1b2c"
    file.rename(blob)
    file.symlink_to(blob)
    manifest = add(store, file)
    assert list(manifest.files) == ["sum.joblib"]
    assert not (store / "sum" / "1" / "sum.joblib").is_symlink()


def test_a_folder_keeps_its_files_but_no_caches_and_no_links(store: Path, tmp_path: Path) -> None:
    folder = tmp_path / "code"
    (folder / "__pycache__").mkdir(parents=True)
    (folder / "__pycache__" / "model.pyc").write_bytes(b"")
    (folder / "data").mkdir()
    (folder / "data" / "weights.bin").write_bytes(b"abc")
    (folder / "model.py").write_text("def load(directory):\n    return lambda inputs: {'y': inputs['x'] * 2}\n")
    request = AddRequest("sum", inputs=(TensorSpec("x", "FP64", (-1,)),), metadata={"deterministic": True})
    entry = add_version(store, folder, request, LoadOptions(allow_code=True))
    assert sorted(read_manifest(entry).files) == ["data/weights.bin", "model.py"]
    assert read_manifest(entry).outputs == (TensorSpec("y", "FP64", (-1,)),)
    (folder / "link").symlink_to("/etc/passwd")
    with pytest.raises(BerthError, match="link is a symbolic link"):
        add_version(store, folder, request, LoadOptions(allow_code=True))
    (folder / "link").unlink()
    with pytest.raises(UnsafeArtifact):
        add_version(store, folder, request, LoadOptions())


def test_a_file_that_is_called_as_our_manifest(store: Path, tmp_path: Path) -> None:
    xgboost = pytest.importorskip("xgboost", reason="xgboost is not installed")
    model = xgboost.XGBRegressor(n_estimators=2).fit(ROWS, ROWS[:, 0])
    model.save_model(tmp_path / "model.json")
    manifest = add(store, tmp_path / "model.json", format="xgboost")
    assert list(manifest.files) == ["artifact.json"]
    assert open_version(find_version(store, "sum"), LoadOptions(), "warn")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("sum.txt.bak", b"", "has none of the endings"),
        ("empty.joblib", b"", "joblib"),
        ("noise.joblib", b"\x80\x04noise" * 20, "joblib"),
        ("noise.onnx", b"noise", "noise.onnx"),
    ],
)
def test_a_file_that_is_no_model(store: Path, tmp_path: Path, name: str, content: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(BerthError, match=message) as caught:
        add(store, tmp_path / name)
    assert len(caught.value.message) < 1000
    assert not (store / "sum" / "1").exists()


def test_what_does_not_exist(store: Path, tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="does not exist"):
        add(store, tmp_path / "absent.joblib")
    (tmp_path / "dangling.joblib").symlink_to(tmp_path / "absent")
    with pytest.raises(StoreError, match="does not exist"):
        add(store, tmp_path / "dangling.joblib")


@pytest.mark.parametrize("name", ["latest", "..", "a/b", "", "a b"])
def test_a_name_that_cannot_be(store: Path, file: Path, name: str) -> None:
    with pytest.raises(StoreError, match="cannot be a model's name"):
        add_version(store, file, AddRequest(name, "1"), LoadOptions())
