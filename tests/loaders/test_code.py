"""model.py runs only when it is allowed, leaves nothing in the folder, and its faults are told."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from textwrap import dedent

import numpy as np
import pytest

from berth.errors import LoadError, UnsafeArtifact
from berth.loaders.formats import LoadOptions, load
from berth.models.manifest import Manifest, check_files
from berth.tensors.arrays import TensorSpec

ALLOWED = LoadOptions(allow_code=True)
INPUTS = (TensorSpec("x", "FP64", (-1, 2)), TensorSpec("word", "BYTES", (-1,)))
MODEL = """
    import numpy as np

    def load(directory):
        from . import helper
        weights = np.array([float(word) for word in (directory / "weights.txt").read_text().split()])

        def predict(inputs):
            return {"score": helper.times(inputs["x"], weights), "word": inputs["word"]}

        return predict
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A version with a model.py that uses a second file and a second module."""
    folder = tmp_path / "1"
    folder.mkdir()
    (folder / "model.py").write_text(dedent(MODEL))
    (folder / "helper.py").write_text("def times(x, weights):\n    return x @ weights\n")
    (folder / "weights.txt").write_text("2 3")
    return folder


def test_without_permission_nothing_runs(tmp_path: Path, manifest_of: Callable[..., Manifest]) -> None:
    folder = tmp_path / "1"
    folder.mkdir()
    (folder / "model.py").write_text(f"open({str(tmp_path / 'marker')!r}, 'w')")
    with pytest.raises(UnsafeArtifact, match="BERTH_ALLOW_CODE=true"):
        load(folder, manifest_of(folder, "python"), LoadOptions())
    assert not (tmp_path / "marker").exists()


def test_a_model_answers_and_leaves_no_files(
    folder: Path, manifest_of: Callable[..., Manifest], check_threads: Callable[..., None]
) -> None:
    manifest = manifest_of(folder, "python", inputs=INPUTS)
    loaded = load(folder, manifest, ALLOWED)
    assert loaded.inputs == INPUTS
    assert loaded.outputs == (TensorSpec("score", "FP64", (-1,)), TensorSpec("word", "BYTES", (-1,)))
    got = loaded.predict({"x": np.array([[1.0, 1.0]]), "word": np.array(["a"], object)}, ["word", "score"])
    assert list(got) == ["word", "score"]
    assert (list(got["word"]), list(got["score"])) == (["a"], [5.0])
    assert list(loaded.predict({"x": np.ones((1, 2)), "word": np.array(["a"], object)}, ["score"])) == ["score"]
    check_files(folder, manifest)


def test_threads_get_their_own_rows(
    folder: Path, manifest_of: Callable[..., Manifest], check_threads: Callable[..., None]
) -> None:
    (folder / "model.py").write_text("def load(directory):\n    return lambda inputs: {'y': inputs['x'] * 2}\n")
    loaded = load(folder, manifest_of(folder, "python", inputs=INPUTS[:1]), ALLOWED)
    check_threads(loaded, "x", np.arange(20.0).reshape(10, 2), "y")


def test_two_models_do_not_share_a_module(tmp_path: Path, manifest_of: Callable[..., Manifest]) -> None:
    answers = []
    for number in (1, 2):
        folder = tmp_path / str(number)
        folder.mkdir()
        (folder / "model.py").write_text(
            f"def load(directory):\n    return lambda inputs: {{'y': [number]}}\n\nnumber = {number}\n"
        )
        answers.append(load(folder, manifest_of(folder, "python"), ALLOWED))
    assert [int(loaded.predict({}, ["y"])["y"][0]) for loaded in answers] == [1, 2]
    assert "model" not in sys.modules


def test_outputs_that_zeros_do_not_tell_must_be_declared(tmp_path: Path, manifest_of: Callable[..., Manifest]) -> None:
    (tmp_path / "model.py").write_text(
        "def load(directory):\n    return lambda inputs: {'y': 1 // int(inputs['x'].min())}\n"
    )
    declared = (TensorSpec("y", "INT64", (-1,)),)
    inputs = (TensorSpec("x", "INT64", (-1,)),)
    assert load(tmp_path, manifest_of(tmp_path, "python", inputs=inputs), ALLOWED).outputs == ()
    assert load(tmp_path, manifest_of(tmp_path, "python", inputs=inputs, outputs=declared), ALLOWED).outputs == declared


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("def load(directory):\n    return 1\n", "returned 1; it must"),
        ("x = 1\n", "no attribute 'load'"),
        ("def load(directory):\n    raise OSError('no weights')\n", "OSError: no weights"),
        ("def load(directory:\n", "SyntaxError"),
        ("import berth_no_such_module\n", "ModuleNotFoundError"),
    ],
)
def test_a_model_that_cannot_be_loaded_says_why(
    tmp_path: Path, manifest_of: Callable[..., Manifest], text: str, message: str
) -> None:
    (tmp_path / "model.py").write_text(text)
    with pytest.raises(LoadError, match=message):
        load(tmp_path, manifest_of(tmp_path, "python"), ALLOWED)
    assert f"berth_model_{manifest_of(tmp_path, 'python').sha256[:16]}" not in sys.modules


@pytest.mark.parametrize(("body", "message"), [("[1]", "returned a list"), ("{'z': [1]}", "returned z and no y")])
def test_a_wrong_answer_is_the_models_fault(
    tmp_path: Path, manifest_of: Callable[..., Manifest], body: str, message: str
) -> None:
    (tmp_path / "model.py").write_text(f"def load(directory):\n    return lambda inputs: {body}\n")
    loaded = load(tmp_path, manifest_of(tmp_path, "python"), ALLOWED)
    with pytest.raises(RuntimeError, match=message):
        loaded.predict({}, ["y"])


def test_values_the_model_refuses_stay_a_value_error(tmp_path: Path, manifest_of: Callable[..., Manifest]) -> None:
    (tmp_path / "model.py").write_text("def load(directory):\n    return lambda inputs: {'y': [int('x')]}\n")
    loaded = load(tmp_path, manifest_of(tmp_path, "python"), ALLOWED)
    with pytest.raises(ValueError, match="invalid literal"):
        loaded.predict({}, ["y"])
