"""/v1: KServe's and TensorFlow Serving's form."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient

from berth.tensors.arrays import DATATYPES
from web.asking import MakeApp, refused, told

Rows = Sequence[Sequence[float]]
IRIS, PEOPLE = "/v1/models/iris:predict", "/v1/models/people:predict"
COLUMNS = ("sepal length (cm)", "sepal width (cm)", "petal length (cm)", "petal width (cm)")
PERSON = {"age": 50.0, "city": "Rome", "member": 1.0}


def test_models_are_listed(client: FlaskClient) -> None:
    assert told(client.get("/v1/models")) == {"models": ["iris", "people", "prices"]}


def test_status_is_both_servers(client: FlaskClient) -> None:
    document = told(client.get("/v1/models/iris"))
    assert (document["name"], document["ready"]) == ("iris", True)
    assert [each["version"] for each in document["model_version_status"]] == ["1", "2"]
    one = told(client.get("/v1/models/iris/versions/2"))["model_version_status"]
    assert one == [{"version": "2", "state": "AVAILABLE", "status": {"error_code": "OK", "error_message": ""}}]


def test_status_while_loading(make_app: MakeApp, store: Path) -> None:
    loading = make_app(store, models="iris@1", start=False)
    document = told(loading.get("/v1/models/iris"), 503)
    assert document["ready"] is False
    assert document["code"] == "not_ready"
    assert document["model_version_status"][0]["state"] == "LOADING"
    refused(loading.post(IRIS, json={"instances": [[1, 2, 3, 4]]}), 503, "not_ready")


def test_status_of_what_could_not_be_loaded(make_app: MakeApp, echo_store: Path) -> None:
    document = told(make_app(echo_store).get("/v1/models/echo"), 503)
    assert (document["ready"], document["code"]) == (False, "model_failed")
    assert document["model_version_status"][0]["state"] == "END"


INSTANCES: dict[str, Callable[[Rows], dict[str, Any]]] = {
    "rows": lambda rows: {"instances": rows},
    "objects of columns": lambda rows: {"instances": [dict(zip(COLUMNS, row, strict=True)) for row in rows]},
    "objects of tensors": lambda rows: {"instances": [{"features": row} for row in rows]},
    "columns": lambda rows: {"inputs": {name: [row[at] for row in rows] for at, name in enumerate(COLUMNS)}},
    "a tensor by name": lambda rows: {"inputs": {"features": rows}},
    "a tensor": lambda rows: {"inputs": rows},
    "with what TensorFlow Serving reads": lambda rows: {"signature_name": "serving_default", "instances": rows},
}


@pytest.mark.parametrize("form", INSTANCES)
def test_predict(client: FlaskClient, iris_rows: Rows, form: str) -> None:
    body = INSTANCES[form](iris_rows)
    answer = client.post(IRIS, json=body)
    assert told(answer) == {"predictions": [0, 1, 2]} | ({"outputs": [0, 1, 2]} if "inputs" in body else {})
    assert answer.headers["X-Berth-Model"] == "iris@1"


def test_predict_by_version(client: FlaskClient, iris_rows: Rows) -> None:
    answer = client.post("/v1/models/iris/versions/2:predict", json={"instances": iris_rows})
    assert told(answer) == {"predictions": [0, 1, 2]}
    assert answer.headers["X-Berth-Model"] == "iris@2"


@pytest.mark.parametrize(
    "body",
    [
        {"instances": [PERSON, {**PERSON, "age": 20.0, "member": 0}]},
        {"instances": [[50.0, "Rome", 1.0], [20.0, "Rome", 0.0]]},
        {"inputs": {"city": ["Rome", "Rome"], "age": [50, 20], "member": [1, 0]}},
    ],
)
def test_predict_on_a_frame(client: FlaskClient, body: dict[str, Any]) -> None:
    assert told(client.post(PEOPLE, json=body))["predictions"] == ["yes", "no"]


def test_several_outputs_without_a_prediction_are_one_object_a_row(echo_client: FlaskClient) -> None:
    row = {datatype.lower(): ["a"] if datatype == "BYTES" else [1] for datatype in DATATYPES} | {"bool": [True]}
    rows = [row, {**row, "fp64": [None]}]
    document = told(echo_client.post("/v1/models/echo:predict", json={"instances": rows}))
    assert document == {"predictions": rows}


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({}, "send exactly one of instances, inputs, got none"),
        ({"instances": [], "inputs": []}, "exactly one"),
        ({"instance": [[1, 2, 3, 4]]}, "unknown key 'instance'"),
        ({"instances": []}, "at least one"),
        ({"inputs": []}, "at least one"),
        ({"inputs": {}}, "missing"),
        ({"instances": None}, "got null"),
        ({"instances": {"features": [1, 2, 3, 4]}}, "send a list"),
        ({"instances": [1, 2, 3, 4]}, "each row must be a list or an object, got 1"),
        ({"instances": [[1, 2, 3]]}, "got 3 values in a row, want 4: 'sepal length"),
        ({"instances": [[1, 2, 3, 4], [1, 2, 3]]}, "ragged"),
        ({"instances": [[1, 2, 3, "4"]]}, "must be a number"),
        ({"instances": [[1, 2, 3, 4], {}]}, "list"),
        ({"instances": [{}]}, "missing column"),
        ({"instances": [{"features": [1, 2, 3, 4]}, {}]}, "missing column"),
        ({"inputs": {"sepal length (cm)": [1]}}, "missing column 'sepal width (cm)'"),
    ],
)
def test_bad_bodies(client: FlaskClient, body: dict[str, Any], message: str) -> None:
    assert message in refused(client.post(IRIS, json=body))


def test_what_is_not_there(client: FlaskClient, iris_rows: Rows) -> None:
    body = {"instances": iris_rows}
    refused(client.get("/v1/models/nobody"), 404, "model_not_found")
    refused(client.post("/v1/models/nobody:predict", json=body), 404, "model_not_found")
    refused(client.post("/v1/models/iris/versions/9:predict", json=body), 404, "model_not_found")
    for path in ("/v1/models/iris:explain", "/v1/models/iris/versions/1:classify"):
        assert ":predict" in refused(client.post(path, json=body), 404, "not_found")
    refused(client.post(IRIS, data="[]", content_type="text/plain"), 415, "unsupported_media_type")
    refused(client.post(IRIS, data="{", content_type="application/json"), 400, "malformed_json")
