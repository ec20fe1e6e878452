"""Every kind of estimator answers through its loader what it answers in its own process."""

from __future__ import annotations

import json
import pickle
import threading
import warnings
import zipfile
from concurrent.futures import ThreadPoolExecutor
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.cluster import DBSCAN
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

from berth.errors import LoadError, UnsafeArtifact
from berth.loaders.estimator import installed_versions, read_estimator, serve_estimator
from berth.loaders.fitted import reset_jobs, walk_fitted
from berth.loaders.formats import LoadOptions, load
from berth.models.manifest import Manifest
from estimator_files import DUMPS, OPTIONS, ask, expected, save, save_and_load
from estimator_table import ESTIMATORS, inputs_of


def kind_of(values: Any) -> str:
    """The dtype's kind, where text of every form is one kind, and an object array is what it holds."""
    values = np.asarray(values.tolist()) if values.dtype == object else values
    return "U" if values.dtype.kind in "OU" else str(values.dtype.kind)


def check_equal(found: dict[str, Any], wanted: dict[str, Any]) -> None:
    assert list(found) == list(wanted)
    for name, values in wanted.items():
        assert np.array_equal(found[name], values), name
        assert kind_of(found[name]) == kind_of(values), name


@pytest.mark.parametrize(
    ("name", "dump"),
    [*product(ESTIMATORS, ["joblib", "skops"]), *product(list(ESTIMATORS)[::6], ["joblib-packed", "pickle"])],
)
def test_answers_are_the_estimators_own(name: str, dump: str, tmp_path: Path) -> None:
    estimator, rows = ESTIMATORS[name]()
    if dump == "skops" and name == "birch":
        pytest.skip("skops cannot save a Birch")
    check_equal(ask(save_and_load(estimator, tmp_path, dump), rows), expected(estimator, rows))


@pytest.mark.parametrize("name", ESTIMATORS)
def test_eight_threads_at_once(name: str, tmp_path: Path) -> None:
    estimator, rows = ESTIMATORS[name]()
    loaded, start = save_and_load(estimator, tmp_path), threading.Barrier(8)

    def one() -> dict[str, Any]:
        start.wait(10)
        return ask(loaded, rows)

    with ThreadPoolExecutor(8) as pool:
        answers = [future.result() for future in [pool.submit(one) for _ in range(8)]]
    wanted = expected(estimator, rows)
    for answer in answers:
        check_equal(answer, wanted)


@pytest.mark.parametrize("name", ["logistic", "forest_frame", "svc", "columns", "labels_forest"])
def test_wanted_outputs_only_and_in_their_order(name: str, tmp_path: Path) -> None:
    estimator, rows = ESTIMATORS[name]()
    loaded = save_and_load(estimator, tmp_path)
    wanted = [spec.name for spec in reversed(loaded.outputs)]
    found = loaded.predict(inputs_of(rows, loaded.inputs), wanted)
    assert list(found) == wanted
    only = loaded.predict(inputs_of(rows, loaded.inputs), wanted[:1])
    assert list(only) == wanted[:1]
    assert np.array_equal(only[wanted[0]], found[wanted[0]])


@pytest.mark.parametrize("name", ["forest", "column_search", "bagging", "targets_each", "isolation_forest"])
def test_jobs_are_one_everywhere(name: str, tmp_path: Path) -> None:
    estimator, _ = ESTIMATORS[name]()
    copy = pickle.loads(pickle.dumps(estimator))
    jobs = [part for part in walk_fitted(copy) if hasattr(part, "n_jobs")]
    assert any(part.n_jobs == -1 for part in jobs)
    reset_jobs(copy)
    assert {part.n_jobs for part in jobs} == {1}
    assert all(value in (1, None) for key, value in copy.get_params(deep=True).items() if key.endswith("n_jobs"))


def test_serving_resets_jobs() -> None:
    estimator, _ = ESTIMATORS["forest"]()
    copy = pickle.loads(pickle.dumps(estimator))
    serve_estimator(copy, (), {})
    assert copy.n_jobs == 1


def test_values_that_the_model_refuses_are_a_value_error(tmp_path: Path) -> None:
    loaded = save_and_load(ESTIMATORS["logistic"]()[0], tmp_path)
    with pytest.raises(ValueError, match="NaN"):
        loaded.predict({"features": np.full((1, 4), np.nan)}, ["prediction"])


def test_neither_predict_nor_transform(tmp_path: Path) -> None:
    manifest = save(DBSCAN().fit(np.eye(3)), tmp_path)
    with pytest.raises(LoadError, match="DBSCAN has neither predict nor transform"):
        load(tmp_path, manifest, OPTIONS)


@pytest.mark.parametrize("dump", ["joblib", "pickle"])
def test_pickle_off_refuses_both_formats(dump: str, tmp_path: Path) -> None:
    manifest = save(ESTIMATORS["logistic"]()[0], tmp_path, dump)
    with pytest.raises(UnsafeArtifact, match="BERTH_PICKLE=off"):
        load(tmp_path, manifest, LoadOptions(pickle="off"))


def test_pickle_off_leaves_skops(tmp_path: Path) -> None:
    manifest = save(ESTIMATORS["logistic"]()[0], tmp_path, "skops")
    assert load(tmp_path, manifest, LoadOptions(pickle="off")).inputs


class Own(LogisticRegression):  # type: ignore[misc]
    """A class of the user's, which no list knows."""


def test_own_classes_need_to_be_allowed(tmp_path: Path) -> None:
    from sklearn.datasets import load_iris

    features, target = load_iris(return_X_y=True)
    estimator = Own(max_iter=500).fit(features, target)
    for dump in ("joblib", "pickle", "skops"):
        manifest = save(estimator, tmp_path, dump)
        with pytest.raises(UnsafeArtifact, match="Own"):
            load(tmp_path, manifest, OPTIONS)
        allowed = load(tmp_path, manifest, LoadOptions(pickle_allow=((Own.__module__, "Own"),)))
        check_equal(ask(allowed, features), expected(estimator, features))


@pytest.mark.parametrize(
    ("module", "name", "arguments"), [("numpy", "memmap", ("made", "u1", "w+", 0, (1,))), ("os", "mkdir", ("made",))]
)
def test_skops_calls_nothing_that_has_effects(
    module: str, name: str, arguments: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A pickle may name numpy.memmap, which joblib writes; skops would call it with what stands in the file."""
    from skops import io

    monkeypatch.chdir(tmp_path)
    io.dump(arguments, tmp_path / "model.skops")
    with zipfile.ZipFile(tmp_path / "model.skops") as archive:
        content = json.loads(archive.read("schema.json"))
    call = {"__class__": name, "__module__": module, "__loader__": "ConstructorFromReduceNode", "content": content}
    with zipfile.ZipFile(tmp_path / "model.skops", "w") as archive:
        archive.writestr("schema.json", json.dumps(call | {"protocol": content["protocol"]}))
    with pytest.raises(UnsafeArtifact, match=f"{module}.{name}"):
        read_estimator(tmp_path / "model.skops", "skops", OPTIONS)
    assert not (tmp_path / "made").exists()


@pytest.mark.parametrize("dump", DUMPS)
def test_a_damaged_file_is_a_load_error(dump: str, tmp_path: Path) -> None:
    manifest = save(ESTIMATORS["forest"]()[0], tmp_path, dump)
    path = tmp_path / manifest.artifacts[0]
    path.write_bytes(path.read_bytes()[:-2000])
    with pytest.raises(LoadError, match=r"damaged|cannot be read|not a whole|cut short"):
        load(tmp_path, manifest, OPTIONS)


def replace_version(path: Path, here: bytes, other: bytes) -> None:
    """What the file would hold, had another scikit-learn written it."""
    assert len(here) == len(other)
    if not zipfile.is_zipfile(path):
        path.write_bytes(path.read_bytes().replace(here, other))
        return
    with zipfile.ZipFile(path) as archive:
        held = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in held.items():
            archive.writestr(name, content.replace(here, other))


def save_with_version(directory: Path, dump: str, version: str) -> Manifest:
    manifest = save(ESTIMATORS["scaled"]()[0], directory, dump)
    replace_version(directory / manifest.artifacts[0], installed_versions()["scikit-learn"].encode(), version.encode())
    return manifest


@pytest.mark.parametrize("dump", ["joblib", "pickle", "skops"])
def test_another_version_is_told_and_never_warned_about(dump: str, tmp_path: Path) -> None:
    manifest = save_with_version(tmp_path, dump, "1.2.3")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        loaded = load(tmp_path, manifest, OPTIONS)
    assert loaded.built_with == installed_versions() | {"scikit-learn": "1.2.3"}


def test_the_same_version_is_the_installed_one(tmp_path: Path) -> None:
    assert save_and_load(ESTIMATORS["scaled"]()[0], tmp_path).built_with == installed_versions()


def test_read_estimator_leaves_it_as_it_was_saved(tmp_path: Path) -> None:
    manifest = save(ESTIMATORS["forest_frame"]()[0], tmp_path)
    estimator, _ = read_estimator(tmp_path / "model.joblib", manifest.format, OPTIONS)
    assert estimator.n_jobs == -1
    assert hasattr(estimator, "feature_names_in_")


@pytest.mark.parametrize("dump", ["joblib", "skops"])
def test_a_vectorizer_that_reads_files_is_refused(dump: str, tmp_path: Path) -> None:
    words = tmp_path / "words.txt"
    words.write_text("good bad", "utf-8")
    inner = make_pipeline(CountVectorizer(input="filename"), LogisticRegression())
    inner.fit([str(words)] * 2, [0, 1])
    with pytest.raises(UnsafeArtifact, match="would read any file"):
        save_and_load(inner, tmp_path, dump)
