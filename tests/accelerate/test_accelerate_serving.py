"""From `berth add` to an answer: the manifest, BERTH_ACCELERATE, and scikit-learn left alone."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pytest
from click.testing import CliRunner
from sklearn.datasets import load_iris
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import PowerTransformer

from berth.cli.main import berth
from berth.errors import IntegrityError, LoadError, UnsafeArtifact
from berth.loaders.formats import LoadOptions
from berth.models.store import Entry, find_version, read_manifest
from berth.publishing.accelerating import ACCELERATED
from berth.publishing.adding import AddRequest, add_version
from berth.serving.opening import open_version
from berth.tensors.arrays import TensorSpec

pytest.importorskip("skl2onnx", reason="acceleration needs skl2onnx")
pytest.importorskip("onnxruntime", reason="acceleration needs onnxruntime")

X, Y = load_iris(return_X_y=True)
ROW = {"features": np.array([[5.1, 3.5, 1.4, 0.2]])}
AUTO, OFF, REQUIRE = (LoadOptions(accelerate=word) for word in ("auto", "off", "require"))

ASK = """
import json, sys
from pathlib import Path
import numpy as np
from berth.loaders.formats import LoadOptions
from berth.serving.opening import open_version
from berth.models.store import find_version

model = open_version(find_version(Path(sys.argv[1]), sys.argv[2]), LoadOptions(accelerate=sys.argv[3]), "warn")
answer = model.predict({"features": np.array([[5.1, 3.5, 1.4, 0.2]])}, ["prediction", "probabilities"])
heavy = [name for name in ("sklearn", "joblib", "scipy", "pandas", "onnx", "skl2onnx") if name in sys.modules]
print(json.dumps([model.accelerated, heavy, answer["prediction"].tolist(), model.load_seconds]))
"""


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A forest that is exact, and a pipeline that has no exact form."""
    folder, store = tmp_path_factory.mktemp("files"), tmp_path_factory.mktemp("store")
    models = {
        "forest": RandomForestClassifier(20, random_state=0),
        "powers": make_pipeline(PowerTransformer(), LogisticRegression(max_iter=500)),
    }
    for name, estimator in models.items():
        joblib.dump(estimator.fit(X, Y), folder / f"{name}.joblib")
        add_version(store, folder / f"{name}.joblib", AddRequest(name, "1"), AUTO)
        add_version(store, folder / f"{name}.joblib", AddRequest(f"{name}-off", "1"), OFF)
    return store


def _accelerated(entry: Entry) -> dict[str, Any]:
    return dict(read_manifest(entry).accelerated or {})


def test_the_manifest_tells_the_proof(store: Path) -> None:
    entry = find_version(store, "forest")
    assert _accelerated(entry) == {"file": ACCELERATED, "rows_compared": 10_000, "max_abs_error": 0.0}
    assert ACCELERATED in read_manifest(entry).files


def test_the_manifest_tells_the_reason(store: Path) -> None:
    entry = find_version(store, "powers")
    assert "powertransformer (PowerTransformer)" in _accelerated(entry)["reason"]
    assert not (entry.folder / ACCELERATED).exists()
    assert "BERTH_ACCELERATE was off" in _accelerated(find_version(store, "forest-off"))["reason"]


def test_auto_off_and_require(store: Path) -> None:
    forest, powers = find_version(store, "forest"), find_version(store, "powers")
    answers = [open_version(forest, options, "warn") for options in (AUTO, OFF, REQUIRE)]
    assert [model.accelerated for model in answers] == [True, False, True]
    said = [model.predict(ROW, ["prediction", "probabilities"]) for model in answers]
    assert all(np.array_equal(said[0][name], other[name]) for other in said for name in other)
    assert open_version(powers, AUTO, "warn").accelerated is False
    with pytest.raises(LoadError, match=r"BERTH_ACCELERATE=require.*PowerTransformer"):
        open_version(powers, REQUIRE, "warn")


def test_refusing_pickles_refuses_their_accelerated_form(store: Path) -> None:
    with pytest.raises(UnsafeArtifact, match="BERTH_PICKLE=off"):
        open_version(find_version(store, "forest"), replace(AUTO, pickle="off"), "warn")


@pytest.mark.parametrize("word", ["auto", "off"])
def test_scikit_learn_is_not_imported(store: Path, word: str) -> None:
    told = subprocess.run([sys.executable, "-c", ASK, str(store), "forest", word], capture_output=True, text=True)
    accelerated, heavy, prediction, seconds = json.loads(told.stdout)
    assert prediction == [0]
    assert accelerated is (word == "auto")
    assert ("sklearn" in heavy) is (word == "off")
    if word == "auto":
        assert heavy == []
        assert seconds < 1


def test_a_changed_file_is_not_opened(store: Path, tmp_path: Path) -> None:
    entry = find_version(store, "forest")
    copied = tmp_path / "forest" / "1"
    copied.mkdir(parents=True)
    for path in entry.folder.iterdir():
        (copied / path.name).write_bytes(path.read_bytes())
    file = copied / ACCELERATED
    file.write_bytes(file.read_bytes()[:-1] + b"x")
    with pytest.raises(IntegrityError, match=ACCELERATED):
        open_version(Entry("forest", "1", copied), AUTO, "warn")


def test_add_prints_one_line(tmp_path: Path) -> None:
    file = tmp_path / "lr.joblib"
    joblib.dump(LogisticRegression(max_iter=500).fit(X, Y), file)
    arguments = ["add", str(file), "--name", "lr", "--store", str(tmp_path / "store")]
    told = CliRunner().invoke(berth, arguments, env={"BERTH_ACCELERATE": "auto"})
    assert told.exit_code == 0, told.output
    assert "accelerated: exact on 10000 rows, max error" in told.output
    plain = CliRunner().invoke(berth, [*arguments, "--version", "2"], env={"BERTH_ACCELERATE": "off"})
    assert "accelerated" not in plain.output


def test_a_sample_is_used(tmp_path: Path) -> None:
    file, sample = tmp_path / "lr.joblib", tmp_path / "sample.csv"
    joblib.dump(LogisticRegression(max_iter=500).fit(X, Y), file)
    np.savetxt(sample, X, delimiter=",", header="a,b,c,d", comments="")
    told: list[str] = []
    entry = add_version(tmp_path / "store", file, AddRequest("lr", "1", sample=sample), AUTO, told.append)
    assert _accelerated(entry)["rows_compared"] == 10_000
    assert told[0].startswith("accelerated: exact")


def test_other_formats_have_no_accelerated_form(tmp_path: Path) -> None:
    folder = tmp_path / "python"
    folder.mkdir()
    (folder / "model.py").write_text("def load(directory):\n    return lambda inputs: {'y': inputs['x']}\n")
    options = replace(AUTO, allow_code=True)
    request = AddRequest(
        "echo", "1", inputs=(TensorSpec("x", "FP64", (-1,)),), outputs=(TensorSpec("y", "FP64", (-1,)),)
    )
    entry = add_version(tmp_path / "store", folder, request, options)
    assert read_manifest(entry).accelerated is None
    with pytest.raises(LoadError, match="the format python is never accelerated"):
        open_version(entry, replace(options, accelerate="require"), "warn")


def test_outputs_asked_for_by_name(tmp_path: Path) -> None:
    file = tmp_path / "lr.joblib"
    joblib.dump(LogisticRegression(max_iter=500).fit(X, Y), file)
    outputs = (TensorSpec("probabilities", "FP64", (-1, 3)),)
    entry = add_version(tmp_path / "store", file, AddRequest("lr", "1", outputs=outputs), AUTO)
    model = open_version(entry, REQUIRE, "warn")
    assert model.predict(ROW, ["probabilities"])["probabilities"].shape == (1, 3)
