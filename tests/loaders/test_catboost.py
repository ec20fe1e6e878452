"""CatBoost's own files: exactly what its scikit-learn classes answer, categories and texts included."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from berth.errors import LoadError
from berth.loaders.formats import LoadOptions
from berth.models.store import read_manifest
from berth.publishing.adding import AddRequest, add_version
from berth.serving.opening import open_version
from berth.tensors.schema import check_tensors, decode_features

catboost = pytest.importorskip("catboost", reason="catboost is not installed")

_RNG = np.random.default_rng(0)
FRAME = pd.DataFrame(
    {
        "age": _RNG.normal(size=120),
        "city": _RNG.choice(["Rome", "Oslo", "Łódź"], 120).astype(object),
        "floor": _RNG.integers(1, 4, 120),
        "fare": _RNG.normal(size=120),
    }
)
Y = ((FRAME["age"] > 0) ^ (FRAME["city"] == "Rome")).astype(int).to_numpy()
FEW = {"iterations": 8, "verbose": 0, "thread_count": 1, "allow_writing_files": False}
ROWS: list[dict[str, Any]] = [
    {"age": 0.5, "city": "Łódź", "floor": "2", "fare": 0.1},
    {"age": None, "city": "Paris", "floor": "9", "fare": -1.5},
]
ASKED = pd.DataFrame(ROWS).astype({"age": float})
NUMBERS = ["age", "fare"]
POSITIVE = np.abs(FRAME["fare"])
BOTH = np.column_stack([Y, 1 - Y])


def classifier(**more: Any) -> Any:
    return catboost.CatBoostClassifier(**FEW, **more)


def regressor(**more: Any) -> Any:
    return catboost.CatBoostRegressor(**FEW, **more)


def served(tmp_path: Path, file: Path, sample: Path | None = None) -> Any:
    entry = add_version(tmp_path / "store", file, AddRequest("m", sample=sample), LoadOptions())
    return open_version(entry, LoadOptions(), "warn"), read_manifest(entry)


def save(model: Any, tmp_path: Path, name: str = "m.cbm") -> Path:
    model.save_model(str(tmp_path / name))
    return tmp_path / name


MODELS = [
    pytest.param(lambda: classifier(), np.where(Y, "yes", "no"), id="texts"),
    pytest.param(lambda: classifier(), _RNG.choice([3, 5, 9], 120), id="three"),
    pytest.param(lambda: classifier(loss_function="MultiLogloss"), BOTH, id="several"),
    pytest.param(lambda: regressor(), FRAME["fare"], id="regression"),
    pytest.param(lambda: regressor(loss_function="Poisson"), POSITIVE, id="poisson"),
    pytest.param(lambda: regressor(loss_function="Tweedie:variance_power=1.5"), POSITIVE, id="tweedie"),
    pytest.param(lambda: regressor(loss_function="RMSEWithUncertainty"), FRAME["fare"], id="uncertainty"),
    pytest.param(lambda: regressor(loss_function="MultiRMSE"), FRAME[NUMBERS], id="two-values"),
]


@pytest.mark.parametrize(("make", "target"), MODELS)
def test_a_file_answers_as_its_class_does(make: Any, target: Any, tmp_path: Path) -> None:
    model = make().fit(FRAME, target, cat_features=["city", "floor"])
    found, manifest = served(tmp_path, save(model, tmp_path))
    kinds = [("age", "FP64"), ("city", "BYTES"), ("floor", "BYTES"), ("fare", "FP64")]
    assert [(spec.name, spec.datatype) for spec in manifest.inputs] == kinds
    assert manifest.example is not None
    assert manifest.built_with["catboost"] == catboost.__version__
    tensors = check_tensors(decode_features(ROWS, found.inputs), found.inputs, 10)
    answer = found.predict(tensors, [spec.name for spec in found.outputs])
    wanted = np.asarray(model.predict(ASKED))
    if wanted.dtype.kind in "OU":
        assert answer["prediction"].tolist() == wanted.tolist()
    else:
        np.testing.assert_allclose(answer["prediction"], wanted.reshape(answer["prediction"].shape))
    if "probabilities" in answer:
        np.testing.assert_allclose(answer["probabilities"], model.predict_proba(ASKED))


def test_numbers_are_a_matrix_and_any_ending_does(tmp_path: Path) -> None:
    model = classifier().fit(FRAME[NUMBERS], Y)
    found, manifest = served(tmp_path, save(model, tmp_path, "model.bin"))
    assert (manifest.format, manifest.inputs[0].columns) == ("catboost", ("age", "fare"))
    answer = found.predict({"features": ASKED[NUMBERS].to_numpy()}, ["prediction"])["prediction"]
    assert answer.tolist() == model.predict(ASKED[NUMBERS]).tolist()


def test_whole_numbers_of_a_sample_are_categories(tmp_path: Path) -> None:
    model = classifier().fit(FRAME, Y, cat_features=["city", "floor"])
    FRAME.head(10).to_csv(tmp_path / "X.csv", index=False)
    found, _ = served(tmp_path, save(model, tmp_path), tmp_path / "X.csv")
    rows = [{**row, "floor": int(row["floor"])} for row in ROWS]
    tensors = check_tensors(decode_features(rows, found.inputs), found.inputs, 10)
    answer = found.predict(tensors, ["probabilities"])["probabilities"]
    np.testing.assert_allclose(answer, model.predict_proba(ASKED))


def test_a_missing_category_is_the_clients_mistake(tmp_path: Path) -> None:
    found, _ = served(tmp_path, save(classifier().fit(FRAME, Y, cat_features=["city", "floor"]), tmp_path))
    rows = [{**ROWS[0], "city": None}]
    with pytest.raises(ValueError, match="column 'city' has a null"):
        found.predict(check_tensors(decode_features(rows, found.inputs), found.inputs, 10), ["prediction"])


@pytest.mark.parametrize("size", [4, 40, 700])
def test_a_damaged_file_is_one_line(size: int, tmp_path: Path) -> None:
    file = save(classifier().fit(FRAME[NUMBERS], Y), tmp_path)
    file.write_bytes(file.read_bytes()[:size])
    with pytest.raises(LoadError, match=r"m\.cbm is damaged or cut short"):
        served(tmp_path, file)


def test_another_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "m.cbm").write_bytes(b"tree\nversion=v4\n")
    with pytest.raises(LoadError, match=r"m\.cbm is not a CatBoost model .*: it is a LightGBM"):
        served(tmp_path, tmp_path / "m.cbm")


def test_without_the_extra_it_is_one_sentence(tmp_path: Path) -> None:
    file = save(classifier().fit(FRAME[NUMBERS], Y), tmp_path)
    program = (
        "import sys; sys.modules['catboost'] = None\n"
        "from berth.cli.main import main\n"
        f"main(['add', {str(file)!r}, '--name', 'm', '--store', {str(tmp_path / 'store')!r}])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert done.stderr.strip().splitlines()[-1].endswith('not installed: pip install "berth[catboost]"')
