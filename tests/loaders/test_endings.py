"""Files whose names say nothing: recognised by their content, or told what they are and what to do."""

from __future__ import annotations

import json
import pickle
import warnings
from collections.abc import Callable
from pathlib import Path

import joblib
import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from berth.errors import LoadError
from berth.loaders.formats import detect_format, find_model_file

ROWS = np.array([[0.0, 1.0], [1.0, 0.0], [2.0, 2.0], [3.0, 1.0]])
MODEL = LogisticRegression().fit(ROWS, [0, 0, 1, 1])


def _pickled(path: Path) -> None:
    path.write_bytes(pickle.dumps(MODEL))


def _dumped(how: str) -> Callable[[Path], None]:
    return lambda path: joblib.dump(MODEL, path, compress=(how, 3)) and None


def _xgboost(ending: str) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        xgboost = pytest.importorskip("xgboost")
        booster = xgboost.train({"nthread": 1}, xgboost.DMatrix(ROWS, label=[0, 0, 1, 1]), 2)
        path.write_bytes(booster.save_raw(ending))

    return write


def _lightgbm(end: bytes) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        lightgbm = pytest.importorskip("lightgbm")
        rows = np.arange(200.0).reshape(100, 2)
        data = lightgbm.Dataset(rows, np.arange(100) % 2)
        booster = lightgbm.train({"objective": "binary", "verbose": -1, "num_threads": 1}, data, 2)
        path.write_bytes(booster.model_to_string().encode().replace(b"\n", end))

    return write


def _onnx(path: Path) -> None:
    to_onnx = pytest.importorskip("skl2onnx").to_onnx
    path.write_bytes(to_onnx(MODEL, ROWS[:1]).SerializeToString())


def _skops(path: Path) -> None:
    pytest.importorskip("skops.io").dump(MODEL, path)


def _torchscript(path: Path) -> None:
    torch = pytest.importorskip("torch")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.jit.save(torch.jit.trace(torch.nn.Linear(2, 1), torch.zeros(1, 2)), path)


def _catboost(path: Path) -> None:
    path.write_bytes(b"CBM1\0\0")


CONTENTS: dict[str, tuple[Callable[[Path], None], str]] = {
    "finalized_model.sav": (_pickled, "joblib"),
    "model.jbl": (_pickled, "joblib"),
    "model": (_pickled, "joblib"),
    "model.joblib.gz": (_dumped("gzip"), "joblib"),
    "model.z": (_dumped("zlib"), "joblib"),
    "model.bz2": (_dumped("bz2"), "joblib"),
    "model.xz": (_dumped("xz"), "joblib"),
    "model.bst": (_xgboost("ubj"), "xgboost"),
    "trees.model": (_xgboost("json"), "xgboost"),
    "lgb.model": (_lightgbm(b"\n"), "lightgbm"),
    "lgb.bst": (_lightgbm(b"\r\n"), "lightgbm"),
    "cat.model": (_catboost, "catboost"),
    "net.bin": (_onnx, "onnx"),
    "model.dat": (_skops, "skops"),
    "model.pth": (_torchscript, "torchscript"),
}


@pytest.mark.parametrize("name", sorted(CONTENTS))
def test_the_content_decides_where_the_ending_does_not(name: str, tmp_path: Path) -> None:
    write, wanted = CONTENTS[name]
    write(tmp_path / name)
    assert detect_format(tmp_path / name) == wanted


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("net.h5", b"\x89HDF\r\n\x1a\n", "tf2onnx"),
        ("rules.pmml", b'<?xml version="1.0"?>\n<PMML version="4.4">', "ONNX"),
        ("old.model", b"binf\0\0", "save_model"),
        ("old.pth", b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.", "torch.jit.save"),
        ("notes.md", b"# Notes\n", "--format"),
    ],
)
def test_what_is_not_read_says_what_to_do(name: str, content: bytes, said: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(LoadError, match=said):
        detect_format(tmp_path / name)


def test_a_folder_with_one_model_file_means_that_file(tmp_path: Path) -> None:
    _pickled(tmp_path / "churn.sav")
    (tmp_path / "requirements.txt").write_text("scikit-learn\n", "utf-8")
    (tmp_path / "config.json").write_text(json.dumps({"a": 1}), "utf-8")
    (tmp_path / ".hidden.pkl").write_bytes(b"")
    assert find_model_file(tmp_path).name == "churn.sav"
    _pickled(tmp_path / "model.joblib")
    assert find_model_file(tmp_path).name == "model.joblib"
    _pickled(tmp_path / "model.pkl")
    with pytest.raises(LoadError, match=r"several model files \(churn.sav, model.joblib, model.pkl\)"):
        find_model_file(tmp_path)


def test_an_empty_folder_holds_no_model(tmp_path: Path) -> None:
    with pytest.raises(LoadError, match="holds no model"):
        find_model_file(tmp_path)
