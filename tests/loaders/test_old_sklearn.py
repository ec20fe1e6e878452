"""Models of older scikit-learn versions: every method returns what it did there, or the refusal names the version."""

from __future__ import annotations

import copyreg
import json
import pickle
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from berth.cli.check_commands import inspect
from berth.errors import LoadError, UnsafeArtifact
from berth.loaders.estimator import read_estimator
from berth.loaders.formats import LoadOptions, detect_format
from berth.loaders.legacy.meanings import former_class
from berth.loaders.legacy.renames import todays_name
from berth.loaders.legacy.standins import Former, stand_in
from berth.loaders.legacy.upgrade import upgrade_fitted, upgrade_state
from berth.loaders.unpickle.loading import default_allow, load_pickle, read_globals, read_version
from berth.models.store import Entry
from berth.publishing.adding import AddRequest, add_version
from berth.serving.opening import open_version
from berth.tensors.arrays import DATATYPES

CORPUS = Path(__file__).parents[1] / "corpus" / "old_sklearn"
SHARED = Path(__file__).parents[3] / "shared" / "cases" / "old-sklearn"
METHODS = ("predict", "predict_proba", "decision_function", "transform")
TOLERANCE = 1e-6


def unpack(archive: Path, folder: Path) -> dict[str, Any]:
    """Unpack an archive of models into a folder; what it expects."""
    with zipfile.ZipFile(archive) as opened:
        opened.extractall(folder)
    document: dict[str, Any] = json.loads((folder / "expected.json").read_text())
    return document


def agrees(found: Any, wanted: Any) -> bool:
    """Whether labels are equal, and numbers within the tolerance (of large ones, that share)."""
    if isinstance(found, list):
        return len(found) == len(wanted) and all(map(agrees, found, wanted))
    found = np.asarray(found.toarray() if hasattr(found, "toarray") else found)
    if found.dtype.kind in "OUS":
        return bool(np.array_equal(found.astype(str), np.asarray(wanted, object).astype(str)))
    expected = np.asarray(wanted, np.float64)
    return found.shape == expected.shape and np.allclose(
        found.astype(np.float64), expected, rtol=TOLERANCE, atol=TOLERANCE, equal_nan=True
    )


def table(entry: dict[str, Any]) -> Any:
    """The rows of a case as the estimator took them."""
    if "frame" in entry:
        pd = pytest.importorskip("pandas")
        return pd.DataFrame(entry["frame"])
    rows = entry["rows"]
    if isinstance(rows[0], str):
        return rows
    return np.array(rows, object if isinstance(np.ravel(np.array(rows, object))[0], str) else None)


def wrong_methods(path: Path, entry: dict[str, Any]) -> list[str]:
    """The methods of one model that do not return what they returned."""
    estimator, _ = read_estimator(path, detect_format(path), LoadOptions())
    wanted = [method for method in METHODS if method in entry]
    return [name for name in wanted if not agrees(getattr(estimator, name)(table(entry)), entry[name])]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("archive", sorted(path.name for path in CORPUS.glob("*.zip")))
def test_every_method_returns_what_its_own_version_returned(archive: str, tmp_path: Path) -> None:
    document = unpack(CORPUS / archive, tmp_path)
    assert len(document["models"]) > 10
    for name, entry in document["models"].items():
        assert wrong_methods(tmp_path / entry["file"], entry) == [], f"{name} of {document['scikit-learn']}"


def serve(path: Path, store: Path, options: LoadOptions) -> tuple[Any, list[str], Entry]:
    """A file added and opened; what add told; the entry."""
    told: list[str] = []
    entry = add_version(store, path, AddRequest(name=path.stem), options, told.append)
    return open_version(entry, options, "warn"), told, entry


def inputs_of(model: Any, entry: dict[str, Any]) -> dict[str, Any]:
    """The rows of a case as tensors; a column that the model drops may be anything."""
    if "frame" not in entry:
        return {model.inputs[0].name: np.array(entry["rows"], DATATYPES[model.inputs[0].datatype])}
    found = {}
    for spec in model.inputs:
        values = [row[spec.name] for row in entry["frame"]]
        if spec.datatype != "BYTES":
            values = [0.0 if isinstance(value, str) else np.nan if value is None else value for value in values]
        found[spec.name] = np.array(values, DATATYPES[spec.datatype])
    return found


def wrongly_served(path: Path, entry: dict[str, Any], store: Path, options: LoadOptions) -> list[str]:
    """The outputs of a served model that are not what its own version returned."""
    model, _, _ = serve(path, store, options)
    outputs = [spec.name for spec in model.outputs]
    answer = model.predict(inputs_of(model, entry), outputs)
    keys = {"prediction": ("predict", "prediction"), "probabilities": ("predict_proba", "probabilities")}
    wanted = {name: entry[key] for name in outputs for key in keys.get(name, ()) if key in entry}
    return [name for name, values in wanted.items() if not agrees(answer[name], values)]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("version", ["0.22.2.post1", "1.3.2"])
def test_old_models_are_added_and_served(version: str, tmp_path: Path) -> None:
    document = unpack(CORPUS / f"models-{version}.zip", tmp_path)
    for name, entry in document["models"].items():
        assert wrongly_served(tmp_path / entry["file"], entry, tmp_path / "store", LoadOptions()) == [], name


ACCELERATED = ("logreg-liblinear", "logreg-multinomial-binary", "ada", "forest", "boosting", "hist", "gaussian-nb")


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", ACCELERATED)
def test_an_accelerated_form_means_what_the_old_version_meant(name: str, tmp_path: Path) -> None:
    pytest.importorskip("skl2onnx")
    entry = unpack(CORPUS / "models-1.0.2.zip", tmp_path)["models"][name]
    options = LoadOptions(accelerate="auto")
    assert wrongly_served(tmp_path / entry["file"], entry, tmp_path / "store", options) == []
    model, told, _ = serve(tmp_path / entry["file"], tmp_path / "again", options)
    assert model.accelerated, told


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.skipif(not SHARED.is_dir(), reason="the folder of old models is not beside this checkout")
@pytest.mark.parametrize("version", ["0.22.2.post1", "1.0.2", "1.3.2", "1.5.2"])
def test_all_old_models_are_served_accelerated(version: str, tmp_path: Path) -> None:
    document = json.loads((SHARED / version / "expected.json").read_text())
    for name, entry in document["models"].items():
        path = SHARED / version / entry["file"]
        assert wrongly_served(path, entry, tmp_path / "store", LoadOptions(accelerate="auto")) == [], name


# The version


class _Backdated(pickle.Pickler):
    """Writes estimators as if another scikit-learn did."""

    version = ""

    def reducer_override(self, thing: Any) -> Any:
        if not hasattr(thing, "get_params") or isinstance(thing, type):
            return NotImplemented
        return copyreg.__newobj__, (type(thing),), {**thing.__getstate__(), "_sklearn_version": self.version}  # type: ignore[attr-defined]


def saved(tmp_path: Path, version: str) -> Path:
    """A pickle of a fitted linear model that says it is of another version."""
    from sklearn.linear_model import Ridge

    path = tmp_path / "model.pkl"
    with path.open("wb") as file:
        pickler = _Backdated(file, protocol=4)
        pickler.version = version
        pickler.dump(Ridge().fit([[0.0, 1.0], [1.0, 0.0], [2.0, 2.0]], [0.0, 1.0, 0.5]))
    return path


def test_the_version_is_read_without_loading(tmp_path: Path) -> None:
    assert read_version(saved(tmp_path, "1.2.2")) == "1.2.2"
    path = tmp_path / "none.pkl"
    path.write_bytes(pickle.dumps([1, 2]))
    assert read_version(path) is None


@pytest.mark.parametrize(
    ("version", "says"),
    [
        ("99.1.0", "model.pkl was made with scikit-learn 99.1.0; this is "),
        ("1.900.0", "what a newer one means is not known here"),
        ("0.18.1", "models before 0.20 are not supported"),
        ("new", "which is no version"),
    ],
)
def test_a_version_that_cannot_be_read_is_refused_and_named(version: str, says: str, tmp_path: Path) -> None:
    with pytest.raises(LoadError) as caught:
        load_pickle(saved(tmp_path, version), default_allow())
    assert says in caught.value.message


def test_what_is_missing_in_an_old_model_is_told_with_its_version(tmp_path: Path) -> None:
    path = saved(tmp_path, "1.2.2")
    path.write_bytes(path.read_bytes().replace(b"intercept_", b"interceptx"))
    with pytest.raises(
        LoadError, match=r"^model\.pkl was made with scikit-learn 1\.2\.2; this is .*pip install"
    ) as caught:
        add_version(tmp_path / "store", path, AddRequest(name="m"), LoadOptions())
    assert "skl2onnx" in caught.value.message


def test_inspect_and_add_name_the_version(tmp_path: Path) -> None:
    path = saved(tmp_path, "1.2.2")
    shown = CliRunner().invoke(inspect, [str(path)])
    assert "made with scikit-learn 1.2.2; this is " in shown.output
    _, told, entry = serve(path, tmp_path / "store", LoadOptions())
    assert told[0].startswith("made with scikit-learn 1.2.2; this is ")
    assert json.loads((entry.folder / "model.json").read_text())["built_with"]["scikit-learn"] == "1.2.2"


def test_a_refused_name_comes_after_the_version(tmp_path: Path) -> None:
    path = saved(tmp_path, "1.2.2")
    path.write_bytes(path.read_bytes().replace(b"\x05Ridge", b"\x05Bidge"))
    with pytest.raises(UnsafeArtifact, match=r"^model\.pkl was made with scikit-learn 1\.2\.2; this is .*Bidge"):
        load_pickle(path, default_allow())


# Names and stand-ins


@pytest.mark.parametrize(
    ("old", "today"),
    [
        ("sklearn.ensemble.forest:RandomForestClassifier", "sklearn.ensemble._forest:RandomForestClassifier"),
        ("sklearn.linear_model.logistic:LogisticRegression", "sklearn.linear_model._logistic:LogisticRegression"),
        ("sklearn.preprocessing._data:PolynomialFeatures", "sklearn.preprocessing._polynomial:PolynomialFeatures"),
        ("sklearn.preprocessing.imputation:Imputer", "sklearn.impute._base:SimpleImputer"),
        ("sklearn.neighbors.kd_tree:newObj", "sklearn.neighbors._kd_tree:newObj"),
        ("sklearn.neighbors.dist_metrics:EuclideanDistance", "sklearn.metrics._dist_metrics:EuclideanDistance64"),
        ("sklearn.externals.joblib.numpy_pickle:NumpyArrayWrapper", "joblib.numpy_pickle:NumpyArrayWrapper"),
        ("scipy.sparse.csr:csr_matrix", "scipy.sparse._csr:csr_matrix"),
        ("numpy.core._multiarray_umath:log1p", "numpy:log1p"),
        ("sklearn.utils:Bunch", "sklearn.utils._bunch:Bunch"),
        ("os:system", "os:system"),
        ("sklearn.ensemble:system", "sklearn.ensemble:system"),
    ],
)
def test_names_of_older_libraries_lead_to_todays(old: str, today: str) -> None:
    assert ":".join(todays_name((old.split(":")[0], old.split(":")[1]))) == today


def test_a_name_is_only_ever_changed_into_an_allowed_one() -> None:
    names = {(module.replace("._", "."), name) for module, name in default_allow()}
    changed = {todays_name(pair) for pair in names if todays_name(pair) != pair}
    assert changed
    assert changed <= default_allow() | {("joblib.numpy_pickle", "NumpyArrayWrapper")}


def test_stand_ins_do_nothing() -> None:
    kind = stand_in(("sklearn.ensemble._gb_losses", "BinomialDeviance"))
    made = kind(1, "two")
    made.__setstate__({"K": 1})
    assert isinstance(made, Former)
    assert (made.args, made.state) == ((1, "two"), {"K": 1})
    assert stand_in(("sklearn.ensemble._forest", "RandomForestClassifier")) is None
    assert stand_in(("os", "system")) is None


def test_an_old_numpy_function_must_be_an_allowed_ufunc() -> None:
    rebuild = stand_in(("numpy.core", "_ufunc_reconstruct"))
    assert rebuild("numpy", "log1p") is np.log1p
    for name in ("load", "frompyfunc", "f2py.os", 3):
        with pytest.raises(UnsafeArtifact):
            rebuild("numpy", name)


def test_inspect_allows_what_loading_stands_in_for(tmp_path: Path) -> None:
    document = unpack(CORPUS / "models-1.5.2.zip", tmp_path)
    for entry in document["models"].values():
        refused = [found for found in read_globals(tmp_path / entry["file"], default_allow()) if not found.allowed]
        assert refused == []


# Meanings


@pytest.mark.parametrize(("multi", "classes", "kind"), [("ovr", 3, "FormerLogisticRegression"), ("auto", 3, None)])
def test_a_logistic_regression_keeps_its_meaning(multi: str, classes: int, kind: str | None) -> None:
    from sklearn.linear_model import LogisticRegression

    rows = np.arange(30.0).reshape(-1, 1) % 7
    model = LogisticRegression().fit(rows, np.arange(30) % classes)
    model.multi_class = multi
    upgrade_fitted(model, "1.4.2")
    assert type(model).__name__ == (kind or "LogisticRegression")
    each = 1 / (1 + np.exp(-model.decision_function(rows)))
    same = np.allclose(model.predict_proba(rows), each / each.sum(axis=1, keepdims=True))
    assert same == (kind is not None)


def test_a_tree_from_before_missing_values_refuses_them(tmp_path: Path) -> None:
    entry = unpack(CORPUS / "models-1.0.2.zip", tmp_path)["models"]["forest"]
    forest, _ = read_estimator(tmp_path / entry["file"], "joblib", LoadOptions())
    with pytest.raises(ValueError, match="NaN"):
        forest.predict([[np.nan, 1.0, 1.0, 1.0]])


def test_the_installed_version_goes_through_untouched() -> None:
    from sklearn.linear_model import Ridge

    state = Ridge().fit([[0.0], [1.0]], [0.0, 1.0]).__getstate__()
    assert upgrade_state(Ridge(), state) is state
    assert former_class("FormerSVC").__name__ == "FormerSVC"
