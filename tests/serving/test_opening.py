"""From a folder to a model: versions of libraries, the example as proof, and every failure in one line."""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from berth.errors import BerthError, IntegrityError, LoadError
from berth.loaders.formats import LoadOptions
from berth.models.model import Model
from berth.models.store import Entry, find_version
from berth.serving.opening import (
    check_example,
    check_versions,
    compare_versions,
    differs,
    installed_version,
    open_version,
)
from berth.tensors.arrays import TensorSpec

Edit = Callable[[Callable[[dict[str, Any]], None]], Entry]


@pytest.fixture
def edit(store: Path, tmp_path: Path) -> Edit:
    """edit(change): iris@1 in a store of its own, its manifest changed in place."""
    folder = tmp_path / "iris" / "1"
    shutil.copytree(store / "iris" / "1", folder)

    def apply(change: Callable[[dict[str, Any]], None]) -> Entry:
        document = json.loads((folder / "model.json").read_text("utf-8"))
        change(document)
        (folder / "model.json").write_text(json.dumps(document), "utf-8")
        return find_version(tmp_path, "iris")

    return apply


def test_a_model_is_opened(store: Path) -> None:
    model = open_version(find_version(store, "iris", "1"), LoadOptions(), "strict")
    assert (model.name, model.version, model.format) == ("iris", "1", "joblib")
    assert model.inputs[0].shape == (-1, 4)
    assert model.load_seconds > 0
    assert model.predict({"features": np.array([[5.1, 3.5, 1.4, 0.2]])}, ["prediction"])["prediction"].tolist() == [0]


def test_versions_are_compared() -> None:
    numpy = installed_version("numpy")
    assert compare_versions({"numpy": str(numpy), "python": str(installed_version("python"))}) == []
    assert compare_versions({"numpy": "1.0", "no-such-library": "2"}) == [
        f"built with numpy 1.0, but {numpy} is installed",
        "built with no-such-library 2, but none is installed",
    ]


def test_another_version_is_logged_or_refused(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "berth"):
        check_versions("iris@1", {"numpy": "1.0"}, "warn")
    assert "iris@1: built with numpy 1.0, but" in caplog.text
    with pytest.raises(LoadError, match=r"BERTH_VERSION_POLICY=strict refuses iris@1: built with numpy 1.0"):
        check_versions("iris@1", {"numpy": "1.0"}, "strict")


def test_the_policy_decides_whether_a_model_opens(edit: Edit, caplog: pytest.LogCaptureFixture) -> None:
    entry = edit(lambda document: document["built_with"].update({"scikit-learn": "0.1"}))
    with caplog.at_level(logging.WARNING, "berth"):
        assert open_version(entry, LoadOptions(), "warn").name == "iris"
    assert "built with scikit-learn 0.1" in caplog.text
    with pytest.raises(LoadError, match=r"strict refuses iris@1: built with scikit-learn 0.1"):
        open_version(entry, LoadOptions(), "strict")


def test_an_example_that_comes_out_otherwise_shows_both_answers(edit: Edit) -> None:
    def change(document: dict[str, Any]) -> None:
        document["example"]["outputs"]["prediction"][0] = 2

    with pytest.raises(LoadError, match=r"the example's prediction should be \[2, .*\], but the model returns \[0, "):
        open_version(edit(change), LoadOptions(), "warn")


def test_an_example_within_its_tolerance(edit: Edit) -> None:
    def change(document: dict[str, Any]) -> None:
        document["example"]["outputs"]["probabilities"][0][0] += 1e-3
        document["example"]["tolerance"] = tolerance

    tolerance = 0.01
    assert open_version(edit(change), LoadOptions(), "warn")
    tolerance = 1e-6
    with pytest.raises(LoadError, match="the example's probabilities"):
        open_version(edit(change), LoadOptions(), "warn")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"inputs": {"features": [["a"] * 4]}}, "the example does not fit the model: .* must be a number"),
        ({"inputs": {"features": [[1, 2]]}}, "the example does not fit the model: .*got 2 values in a row, want 4"),
        ({"inputs": {}}, "the example does not fit the model: missing column"),
        ({"outputs": {"scores": [1]}}, "an output 'scores', but the model gives prediction, probabilities"),
        ({"outputs": {"prediction": ["x"]}}, "the example does not fit the model"),
        ({"outputs": {"prediction": [0]}}, "the example's prediction should be"),
    ],
)
def test_an_example_that_does_not_fit(edit: Edit, change: dict[str, Any], message: str) -> None:
    entry = edit(lambda document: document["example"].update(change))
    with pytest.raises(LoadError, match=message):
        open_version(entry, LoadOptions(), "warn")


def test_an_example_on_which_the_model_breaks() -> None:
    def broken(*_: Any) -> Any:
        raise RuntimeError("no device")

    specs = (TensorSpec("x", "FP64", (-1,)),)
    model = Model("m", "1", "python", "", specs, specs, broken)
    with pytest.raises(LoadError, match="the model fails on its own example: RuntimeError: no device"):
        check_example(model, {"inputs": {"x": [1]}, "outputs": {"x": [1]}})


def test_a_flipped_byte_is_found_before_anything_is_loaded(edit: Edit) -> None:
    entry = edit(lambda document: None)
    artifact = entry.folder / "iris-1.joblib"
    content = bytearray(artifact.read_bytes())
    content[len(content) // 2] ^= 1
    artifact.write_bytes(content)
    with pytest.raises(IntegrityError, match=r"iris-1\.joblib has sha256 \w{64} .* says \w{64}"):
        open_version(entry, LoadOptions(), "warn")


@pytest.mark.parametrize("size", [0, 1, 100, 500])
def test_a_cut_file_whose_digest_is_right_is_one_line(edit: Edit, size: int) -> None:
    import hashlib

    def change(document: dict[str, Any]) -> None:
        (digest,) = document["files"].values()
        digest.update(sha256=hashlib.sha256(content).hexdigest(), bytes=size)

    artifact = edit(lambda document: None).folder / "iris-1.joblib"
    content = artifact.read_bytes()[:size]
    artifact.write_bytes(content)
    with pytest.raises(BerthError):
        open_version(edit(change), LoadOptions(), "warn")


@pytest.mark.parametrize(
    ("found", "wanted", "different"),
    [
        ([1.0, 2.0], [1.0, 2.0 + 1e-7], False),
        ([1.0, 2.0], [1.0, 2.1], True),
        ([1.0], [1.0, 2.0], True),
        ([np.nan, np.inf], [np.nan, np.nan], False),
        ([1.0], [np.nan], True),
        (["a", None], ["a", None], False),
        (["a"], ["b"], True),
        ([1, 2], [1, 2], False),
        ([True], [False], True),
    ],
)
def test_answers_are_compared(found: list[Any], wanted: list[Any], different: bool) -> None:
    def array(values: list[Any]) -> Any:
        return np.array(values, object if isinstance(values[0], str) else None)

    assert differs(array(found), array(wanted), 1e-6) is different
