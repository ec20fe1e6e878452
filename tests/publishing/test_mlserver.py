"""Models of MLServer: imported from its folders, they return over V2 what its runtimes return."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flask.testing import FlaskClient

from berth.errors import LoadError
from berth.loaders.formats import LoadOptions
from berth.publishing.mlserver.importing import describe_differences, import_model
from berth.publishing.mlserver.served_models import find_settings, parse_model
from berth.publishing.mlserver.server_settings import translate_settings
from publishing.mlserver_folders import FOLDERS, Example, write_settings
from web.asking import MakeApp

LIBRARIES = {
    "xgboost": "xgboost",
    "mushroom": "xgboost",
    "lightgbm": "lightgbm",
    "mlflow": "mlflow",
    "onnx": "skl2onnx",
}


def _needs(name: str) -> None:
    for word, library in LIBRARIES.items():
        if word in name:
            pytest.importorskip(library)


def _infer(client: FlaskClient, example: Example, names: list[str], input_name: str = "input-0") -> dict[str, Any]:
    """The outputs of a V2 request by name, as MLServer's examples send it."""
    if example.columns is None:
        rows = np.asarray(example.rows)
        sent = [{"name": input_name, "shape": list(rows.shape), "datatype": "FP64", "data": rows.tolist()}]
    else:
        sent = [
            {"name": name, "shape": [len(data)], "datatype": datatype, "data": data}
            for name, (datatype, data) in example.columns.items()
        ]
    body = {"inputs": sent, "outputs": [{"name": name} for name in names]}
    response = client.post(f"/v2/models/{example.name}/versions/{example.version}/infer", json=body)
    assert response.status_code == 200, response.text
    return {tensor["name"]: tensor for tensor in json.loads(response.data)["outputs"]}


@pytest.mark.parametrize("made", FOLDERS)
def test_a_folder_answers_as_mlserver_does(tmp_path: Path, make_app: MakeApp, made: str) -> None:
    _needs(made)
    example = FOLDERS[made](tmp_path / "folder")
    model = parse_model(tmp_path / "folder" / "model-settings.json")
    entry = import_model(tmp_path / "store", model, LoadOptions())
    assert entry.key == f"{example.name}@{example.version}"
    outputs = _infer(make_app(tmp_path / "store"), example, list(example.outputs))
    for name, wanted in example.outputs.items():
        got = np.array(outputs[name]["data"]).reshape(outputs[name]["shape"])
        np.testing.assert_allclose(got.reshape(np.shape(wanted)), wanted, rtol=1e-5)


def test_declared_inputs_stand_in_for_an_artifact_without(tmp_path: Path) -> None:
    import joblib
    from sklearn.dummy import DummyClassifier

    folder = tmp_path / "dummy"
    write_settings(folder, "mlserver_sklearn.SKLearnModel", "dummy", uri="dummy.joblib")
    joblib.dump(DummyClassifier(strategy="prior").fit([0.1, 0.2, 0.3], [0, 1, 1]), folder / "dummy.joblib")
    with pytest.raises(LoadError, match="declare inputs in model-settings"):
        import_model(tmp_path / "store", parse_model(folder / "model-settings.json"), LoadOptions())
    settings = json.loads((folder / "model-settings.json").read_text())
    settings["inputs"] = [{"name": "input-0", "datatype": "FP32", "shape": [1, 1]}]
    (folder / "model-settings.json").write_text(json.dumps(settings), "utf-8")
    entry = import_model(tmp_path / "store", parse_model(folder / "model-settings.json"), LoadOptions())
    manifest = json.loads((entry.folder / "model.json").read_text())
    assert manifest["inputs"] == [{"name": "input-0", "datatype": "FP64", "shape": [-1, 1]}]
    assert manifest["metadata"]["mlserver"]["implementation"] == "mlserver_sklearn.SKLearnModel"


@pytest.mark.parametrize(
    ("implementation", "said"),
    [
        ("mlserver_huggingface.HuggingFaceRuntime", "optimum-cli export onnx"),
        ("mlserver_catboost.CatboostModel", 'format="onnx"'),
        ("mlserver_alibi_detect.AlibiDetectRuntime", "/drift"),
        ("mlserver-mllib.MLlibModel", "Spark"),
        ("models.NumpyroModel", "a custom runtime"),
    ],
)
def test_what_has_no_equivalent_is_one_line(tmp_path: Path, implementation: str, said: str) -> None:
    write_settings(tmp_path, implementation, "other")
    with pytest.raises(LoadError) as raised:
        parse_model(tmp_path / "model-settings.json")
    assert said in raised.value.message
    assert implementation in raised.value.message
    assert "\n" not in raised.value.message


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[]", "must hold an object"),
        ("{", "is not JSON"),
        ("{}", "implementation is missing"),
        ('{"implementation": "mlserver_sklearn.SKLearnModel", "name": "a b"}', "use letters, digits"),
        ('{"implementation": "mlserver_sklearn.SKLearnModel", "parameters": {"uri": "s3://b/m"}}', "is remote"),
        ('{"implementation": "mlserver_sklearn.SKLearnModel", "parameters": {"uri": "no.joblib"}}', "does not exist"),
        ('{"implementation": "mlserver_sklearn.SKLearnModel", "parameters": [1]}', "parameters must be an object"),
    ],
)
def test_settings_that_cannot_be_read(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "model-settings.json").write_text(text, "utf-8")
    with pytest.raises(LoadError, match=said):
        parse_model(tmp_path / "model-settings.json")


def test_a_folder_without_models(tmp_path: Path) -> None:
    with pytest.raises(LoadError, match=r"holds no model-settings\.json"):
        find_settings(tmp_path)


def test_the_settings_of_a_model_that_differ_are_named(tmp_path: Path) -> None:
    write_settings(tmp_path, "mlserver_sklearn.SKLearnModel", extra={"predict_fn": "predict_proba"})
    document = json.loads((tmp_path / "model-settings.json").read_text())
    document |= {"max_batch_size": 300, "max_batch_time": 0.3, "cache_enabled": True}
    (tmp_path / "model-settings.json").write_text(json.dumps(document), "utf-8")
    model = parse_model(tmp_path / "model-settings.json")
    assert model.name == tmp_path.name
    proba, batching, cache = describe_differences(model)
    assert '{"name": "probabilities"}' in proba
    assert "BERTH_BATCH_MAX_ROWS=300 BERTH_BATCH_WAIT_MS=300" in batching
    assert "BERTH_CACHE_BYTES" in cache


def test_server_settings_become_variables() -> None:
    given = {"debug": "true", "http_port": 9000, "parallel_workers": 0, "kafka_enabled": "true", "extensions": []}
    environment, lines = translate_settings(given)
    assert environment == {"BERTH_LOG_LEVEL": "debug", "BERTH_PORT": "9000", "BERTH_WORKERS": "1"}
    assert [line.split(":")[0] for line in lines] == ["kafka_enabled"]
    assert translate_settings({"parallel_workers": "many"})[1] == [
        "parallel_workers: 'many' cannot be a value of BERTH_WORKERS"
    ]
