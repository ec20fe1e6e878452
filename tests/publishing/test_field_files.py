"""Files of other libraries as people brought them: ONNX in two files, ONNX over columns, XGBoost by any name."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

import field_models
from berth.loaders.formats import LoadOptions
from berth.models.store import read_manifest
from berth.publishing.adding import AddRequest, add_version
from berth.serving.opening import open_version
from berth.serving.predictor import Predictor
from berth.web.predict import answer_request
from web.asking import MakeApp

OPTIONS = LoadOptions()


def ask(model: Any, request: dict[str, Any]) -> dict[str, Any]:
    """What a client gets."""
    predictor = Predictor(1, 100)
    return answer_request(
        request, model, lambda model, tensors, wanted: predictor.predict(model, tensors, wanted, math.inf).outputs
    )


@pytest.mark.parametrize("library", ["xgboost", "lightgbm", "catboost"])
def test_a10_the_version_is_found_whatever_brought_the_library(library: str, tmp_path: Path) -> None:
    module = pytest.importorskip(library)
    classes = {"xgboost": "XGBClassifier", "lightgbm": "LGBMClassifier", "catboost": "CatBoostClassifier"}
    quiet = {"lightgbm": {"verbose": -1}, "catboost": {"verbose": 0, "allow_writing_files": False}}.get(library, {})
    model = getattr(module, classes[library])(n_estimators=3, **quiet).fit(field_models.NUMBERS, field_models.Y)
    file = tmp_path / {"xgboost": "m.ubj", "lightgbm": "m.txt", "catboost": "m.cbm"}[library]
    (model.booster_ if library == "lightgbm" else model).save_model(str(file))
    entry = add_version(tmp_path / "store", file, AddRequest("m"), OPTIONS)
    assert read_manifest(entry).built_with == {library: module.__version__}
    assert open_version(entry, OPTIONS, "strict").name == "m"


def test_a14_a_model_is_taken_with_its_data_file(tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    weights = onnx.numpy_helper.from_array(np.arange(8, dtype=np.float32).reshape(4, 2), "w")
    x, y = (onnx.helper.make_tensor_value_info(*one) for one in (("x", 1, ["n", 4]), ("y", 1, ["n", 2])))
    graph = onnx.helper.make_graph([onnx.helper.make_node("MatMul", ["x", "w"], ["y"])], "g", [x], [y], [weights])
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8)
    beside = {"save_as_external_data": True, "location": "model.onnx.data", "size_threshold": 0}
    onnx.save(model, tmp_path / "model.onnx", **beside)
    entry = add_version(tmp_path / "store", tmp_path / "model.onnx", AddRequest("m"), OPTIONS)
    assert set(read_manifest(entry).files) == {"model.onnx", "model.onnx.data"}
    assert ask(open_version(entry, OPTIONS, "warn"), {"features": [1, 1, 0, 0]})["y"].tolist() == [[2.0, 4.0]]


def test_a15_inputs_of_one_column_each_are_columns(tmp_path: Path) -> None:
    skl2onnx = pytest.importorskip("skl2onnx")
    pytest.importorskip("onnxruntime")
    types = pytest.importorskip("skl2onnx.common.data_types")
    names = ["age", "fare", "sex"]
    pipeline = make_pipeline(field_models.columns(["age", "fare"], ["sex"]), LogisticRegression())
    pipeline.fit(field_models.PEOPLE[names], np.where(field_models.Y, "yes", "no"))
    kinds = [(name, (types.StringTensorType if name == "sex" else types.FloatTensorType)([None, 1])) for name in names]
    proto = skl2onnx.convert_sklearn(pipeline, initial_types=kinds, options={"zipmap": False})
    (tmp_path / "columns.onnx").write_bytes(proto.SerializeToString())
    field_models.PEOPLE[names].head(5).to_csv(tmp_path / "X.csv", index=False)  # of unknown texts it takes none
    request = AddRequest("m", sample=tmp_path / "X.csv")
    model = open_version(add_version(tmp_path / "store", tmp_path / "columns.onnx", request, OPTIONS), OPTIONS, "warn")
    row = {"age": 30, "fare": 9.5, "sex": "male"}
    wanted = pipeline.predict(field_models.ROW[names]).tolist()
    assert ask(model, {"features": row, "outputs": ["label"]})["label"].tolist() == wanted
    sent = {"inputs": {name: [value] for name, value in row.items()}, "outputs": ["label"]}
    assert ask(model, sent)["outputs"]["label"].tolist() == wanted


def _graph(onnx: Any, operator: Any, kind: int, shape: list[Any], weights: list[Any]) -> Any:
    x = onnx.helper.make_tensor_value_info("x", kind, shape)
    y = onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, None)
    graph = onnx.helper.make_graph([operator], "g", [x], [y], weights)
    return onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8)


@pytest.mark.parametrize(("case", "sent"), [("width", [[1.0, 2.0]]), ("cast", ["abc"])])
def test_b15_what_an_onnx_model_cannot_compute_with_is_400(
    case: str, sent: Any, make_app: MakeApp, tmp_path: Path
) -> None:
    onnx = pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    if case == "width":
        weights = onnx.numpy_helper.from_array(np.ones((4, 2), np.float32), "w")
        node = onnx.helper.make_node("MatMul", ["x", "w"], ["y"])
        model = _graph(onnx, node, onnx.TensorProto.FLOAT, ["n", "width"], [weights])
        (tmp_path / "request.json").write_text('{"inputs": {"x": [[1, 2, 3, 4]]}}', "utf-8")
    else:
        node = onnx.helper.make_node("Cast", ["x"], ["y"], to=onnx.TensorProto.FLOAT)
        model = _graph(onnx, node, onnx.TensorProto.STRING, ["n"], [])
        (tmp_path / "request.json").write_text('{"inputs": {"x": ["1.5"]}}', "utf-8")
    onnx.save(model, tmp_path / "m.onnx")
    request = AddRequest("m", sample=tmp_path / "request.json")
    add_version(tmp_path / "store", tmp_path / "m.onnx", request, OPTIONS)
    answer = make_app(tmp_path / "store").post("/predict", json={"inputs": {"x": sent}})
    assert answer.status_code == 400, answer.data
