"""Damaged files of every format, loaded in a child as the server does: each is an answer or one line, in time."""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from berth.errors import ManifestError, OperatorError
from berth.loaders.formats import LoadOptions
from berth.models.manifest import Manifest, digest_file, parse_manifest
from berth.models.store import Entry
from berth.serving.containment import Budget, Report, contain
from berth.serving.opening import load_verified
from berth.tensors.arrays import TensorSpec
from berth.tensors.schema import blank_inputs

_ROWS = np.random.default_rng(0).normal(size=(60, 4))
_TARGET = (_ROWS[:, 0] > 0).astype(int)
_SPEC = TensorSpec("x", "FP32", (-1, 4))
_OPTIONS = LoadOptions(torch_factories=("torch.nn:Linear",))
_ARCHITECTURE = {"factory": "torch.nn:Linear", "arguments": {"in_features": 4, "out_features": 2}}
_BUDGET = Budget(20.0, 6.0, 2 << 30)
# For each format: so long, but so many files at least.
_SECONDS, _LEAST = 20.0, 8


def _forest() -> Any:
    from sklearn.ensemble import RandomForestClassifier

    return RandomForestClassifier(5, random_state=0).fit(_ROWS, _TARGET)


def _joblib(path: Path) -> None:
    import joblib

    joblib.dump(_forest(), path)


def _pickle(path: Path) -> None:
    import pickle

    from sklearn.ensemble import HistGradientBoostingClassifier

    path.write_bytes(pickle.dumps(HistGradientBoostingClassifier(max_iter=3).fit(_ROWS, _TARGET)))


def _skops(path: Path) -> None:
    pytest.importorskip("skops.io").dump(_forest(), path)


def _onnx(path: Path) -> None:
    skl2onnx = pytest.importorskip("skl2onnx")
    from sklearn.linear_model import LogisticRegression

    model = LogisticRegression().fit(_ROWS, _TARGET)
    path.write_bytes(skl2onnx.to_onnx(model, _ROWS[:1].astype(np.float32)).SerializeToString())


def _xgboost(path: Path) -> None:
    pytest.importorskip("xgboost").XGBClassifier(n_estimators=3, n_jobs=1).fit(_ROWS, _TARGET).save_model(path)


def _lightgbm(path: Path) -> None:
    lightgbm = pytest.importorskip("lightgbm")
    lightgbm.LGBMClassifier(n_estimators=3, n_jobs=1, verbose=-1).fit(_ROWS, _TARGET).booster_.save_model(path)


def _torchscript(path: Path) -> None:
    torch = pytest.importorskip("torch")
    torch.jit.script(torch.nn.Linear(4, 2)).save(path)


def _export(path: Path) -> None:
    torch = pytest.importorskip("torch")
    shapes = {"input": {0: torch.export.Dim("rows")}}
    made = torch.export.export(torch.nn.Linear(4, 2).eval(), (torch.randn(2, 4),), dynamic_shapes=shapes)
    torch.export.save(made, path)


def _safetensors(path: Path) -> None:
    torch = pytest.importorskip("torch")
    pytest.importorskip("safetensors.torch").save_file(torch.nn.Linear(4, 2).state_dict(), path)


MAKERS: dict[str, tuple[str, Callable[[Path], None]]] = {
    "model.joblib": ("joblib", _joblib),
    "model.pkl": ("pickle", _pickle),
    "model.skops": ("skops", _skops),
    "model.onnx": ("onnx", _onnx),
    "model.ubj": ("xgboost", _xgboost),
    "model.json.json": ("xgboost", _xgboost),
    "model.txt": ("lightgbm", _lightgbm),
    "model.pt": ("torchscript", _torchscript),
    "model.pt2": ("torch-export", _export),
    "model.safetensors": ("safetensors", _safetensors),
}
_SILENT = ("torchscript", "torch-export", "safetensors")


def _cut(data: bytearray, chance: random.Random) -> None:
    del data[chance.randrange(len(data)) :]


def _flip(data: bytearray, chance: random.Random) -> None:
    for _ in range(chance.choice((1, 3, 20))):
        data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)


def _overwrite(data: bytearray, chance: random.Random) -> None:
    at = chance.randrange(len(data))
    data[at : at + 4] = chance.choice((b"\xff\xff\xff\x7f", b"\xff\xff\xff\xff", b"\0\0\0\0", b"\0\0\0\x80"))


def _repeat(data: bytearray, chance: random.Random) -> None:
    at, size = chance.randrange(len(data)), chance.randrange(1, 200)
    data[at:at] = data[at : at + size] * chance.choice((1, 50))


def _drop(data: bytearray, chance: random.Random) -> None:
    at = chance.randrange(len(data))
    del data[at : at + chance.randrange(1, 100)]


def _redigit(data: bytearray, chance: random.Random) -> None:
    digits = [at for at, byte in enumerate(data) if 48 <= byte < 58]
    for _ in range(5 if digits else 0):
        data[chance.choice(digits)] = chance.choice(b"0123456789-.")


def _newlines(data: bytearray, chance: random.Random) -> None:
    data[:] = data.replace(b"\n", b"\r\n")


_DAMAGES = (_cut, _flip, _overwrite, _repeat, _drop, _redigit, _newlines)


def _damaged(name: str, data: bytes) -> Iterator[bytes]:
    """Ever further damaged files, the same in every run."""
    number = 0
    while True:
        chance = random.Random(f"{name} {number}")
        copy = bytearray(data)
        _DAMAGES[number % len(_DAMAGES)](copy, chance)
        yield bytes(copy) or b"\0"
        number += 1


def _load(folder: Path, name: str, format_: str) -> None:
    """As a trial does: load, and one row. Raises an OperatorError."""
    inputs = (_SPEC,) if format_ in _SILENT else ()
    architecture = _ARCHITECTURE if format_ == "safetensors" else None
    files = {name: digest_file(folder / name)}
    manifest = Manifest("m", "1", format_, "", files, inputs=inputs, architecture=architecture)

    def task(report: Report) -> None:
        loaded = load_verified(Entry("m", "1", folder), manifest, _OPTIONS)
        report.step("it predicted")
        loaded.predict(blank_inputs(loaded.inputs or inputs, 1), [spec.name for spec in loaded.outputs])

    contain("m@1", task, _BUDGET, "it was loaded")


# torch says that TorchScript is deprecated, whatever one does with it.
@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
@pytest.mark.slow
@pytest.mark.parametrize("name", MAKERS)
def test_a_damaged_file_ends_as_one_line(tmp_path: Path, name: str) -> None:
    format_, make = MAKERS[name]
    make(tmp_path / name)
    _load(tmp_path, name, format_)
    whole = (tmp_path / name).read_bytes()
    ended: Counter[str] = Counter()
    began = time.monotonic()
    for data in _damaged(name, whole):
        if time.monotonic() - began > _SECONDS and ended.total() >= _LEAST:
            break
        (tmp_path / name).write_bytes(data)
        start = time.monotonic()
        try:
            _load(tmp_path, name, format_)
            ended["loaded"] += 1
        except OperatorError as error:
            message = error.message
            assert message.isprintable(), message
            assert 0 < len(message) <= 2200
            assert "Traceback" not in message
            ended["crashed" if "crashed with" in message else "late" if "did not end" in message else "refused"] += 1
        assert time.monotonic() - start < 2 * _BUDGET.seconds + 5
    assert ended["refused"] + ended["crashed"] > 0, ended


@given(st.binary(max_size=400) | st.text(max_size=400).map(str.encode))
@settings(max_examples=300, deadline=None)
def test_any_bytes_as_model_json_are_a_manifest_error(data: bytes) -> None:
    with pytest.raises(ManifestError) as caught:
        parse_manifest(data)
    assert "Traceback" not in caught.value.message
