"""The ONNX project's own backend models: every one that onnxruntime answers is added, and served as its files say."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from berth.loaders.formats import LoadOptions
from berth.models.model import Model
from berth.models.store import read_manifest
from berth.publishing.adding import AddRequest, add_version
from berth.serving.opening import open_version
from berth.serving.predictor import Predictor
from berth.tensors.arrays import Array, Tensors
from berth.web.predict import answer_request

onnx = pytest.importorskip("onnx", reason="the onnx package, which has these models, is not installed")
onnxruntime = pytest.importorskip("onnxruntime")

DATA = Path(onnx.__file__).parent / "backend" / "test" / "data"
KINDS = ("simple", "pytorch-operator", "pytorch-converted")
# Of onnx 1.23 and onnxruntime 1.31; the others are of operators that onnxruntime lacks.
ANSWERED = 98


def read_tensor(path: Path) -> Any:
    tensor = onnx.TensorProto()
    tensor.ParseFromString(path.read_bytes())
    array = onnx.numpy_helper.to_array(tensor)
    return array.astype(str) if array.dtype.kind in "OS" else array


def sets_of(folder: Path) -> list[tuple[list[Any], list[Any]]]:
    """The stored inputs and outputs of a model, by their places."""
    return [
        tuple(  # type: ignore[misc]
            [read_tensor(data / f"{kind}_{at}.pb") for at in range(len(list(data.glob(f"{kind}_*.pb"))))]
            for kind in ("input", "output")
        )
        for data in sorted(folder.glob("test_data_set_*"))
    ]


def agree(found: Any, wanted: Any) -> bool:
    found = np.asarray(found)
    if wanted.dtype.kind == "U":
        return bool(np.array_equal(found.astype(str), wanted))
    return found.shape == wanted.shape and np.allclose(found.astype(float), wanted, 1e-3, 1e-5, equal_nan=True)


def answered_models() -> Iterator[Path]:
    """The folders of the models to which onnxruntime itself gives the stored answers."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level, options.intra_op_num_threads = 4, 1
    for folder in sorted(one.parent for kind in KINDS for one in (DATA / kind).glob("*/model.onnx")):
        try:
            session = onnxruntime.InferenceSession(folder / "model.onnx", options, ["CPUExecutionProvider"])
            names = [node.name for node in session.get_inputs()]
            sets = sets_of(folder)
            answers = [session.run(None, dict(zip(names, inputs, strict=True))) for inputs, _ in sets]
        except Exception:
            continue
        if all(all(map(agree, found, wanted)) for found, (_, wanted) in zip(answers, sets, strict=True)):
            yield folder


def wrong_answers(folder: Path, store: Path) -> list[str]:
    """What Berth answers otherwise than the files say, asked as a client asks."""
    entry = add_version(store, folder / "model.onnx", AddRequest(folder.name), LoadOptions())
    model, predictor = open_version(entry, LoadOptions(), "warn"), Predictor(1, 100)
    assert read_manifest(entry).example or max(math.prod(spec.shape) for spec in model.inputs) > 10_000
    graph = onnx.load(folder / "model.onnx").graph
    wrong = []

    def predict(model: Model, tensors: Tensors, outputs: Sequence[str]) -> dict[str, Array]:
        return predictor.predict(model, tensors, outputs, math.inf).outputs

    for inputs, outputs in sets_of(folder):
        request = {"inputs": {spec.name: array.tolist() for spec, array in zip(model.inputs, inputs, strict=True)}}
        answer = answer_request(request, model, predict)["outputs"]
        wanted = {node.name: array for node, array in zip(graph.output, outputs, strict=True)}
        wrong += [name for name, array in wanted.items() if name not in answer or not agree(answer[name], array)]
    return wrong


@pytest.mark.slow
def test_every_backend_model_that_onnxruntime_answers_is_served(tmp_path: Path) -> None:
    folders = list(answered_models())
    assert len(folders) >= ANSWERED
    wrong = {folder.name: found for folder in folders if (found := wrong_answers(folder, tmp_path / "store"))}
    assert wrong == {}
