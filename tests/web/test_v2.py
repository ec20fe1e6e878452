"""The Open Inference Protocol in JSON: what it tells, what it takes, what it refuses."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient

from berth.tensors.arrays import DATATYPES
from web.asking import MakeApp, outputs_of, refused, tensor, told

Rows = Sequence[Sequence[float]]
INFER = "/v2/models/iris/infer"


@pytest.fixture
def body(iris_rows: Rows) -> dict[str, Any]:
    """A request that iris@1 answers with 0, 1, 2."""
    return {"inputs": [tensor("features", iris_rows, [3, 4])]}


def test_server(client: FlaskClient) -> None:
    document = told(client.get("/v2"))
    assert document["name"] == "berth"
    assert document["extensions"] == ["binary_tensor_data"]  # what is there in full
    assert document["version"]


def test_health(client: FlaskClient) -> None:
    assert client.get("/v2/health/live").json == {"live": True}
    assert client.get("/v2/health/ready").json == {"ready": True}


def test_models_are_listed(client: FlaskClient) -> None:
    assert client.get("/v2/models").json == {"models": ["iris", "people", "prices"]}


def test_index(client: FlaskClient) -> None:
    index = told(client.post("/v2/repository/index"))
    assert index[0] == {"name": "iris", "version": "1", "state": "READY", "reason": ""}
    assert [(entry["name"], entry["version"]) for entry in index[:2]] == [("iris", "1"), ("iris", "2")]
    assert client.post("/v2/repository/index", json={"ready": True}).json == index
    assert client.post("/v2/repository/index", json={"ready": 1}).status_code == 400


@pytest.mark.parametrize("path", ["/v2/models/iris", "/v2/models/iris/versions/1"])
def test_model(client: FlaskClient, path: str) -> None:
    document = told(client.get(path))
    (features,) = document["inputs"]
    assert document["name"] == "iris"
    assert document["versions"] == ["1", "2"]
    assert document["platform"] == "sklearn_joblib"
    assert (features["name"], features["datatype"], features["shape"]) == ("features", "FP64", [-1, 4])
    assert features["parameters"]["columns"][0] == "sepal length (cm)"
    assert [output["name"] for output in document["outputs"]] == ["prediction", "probabilities"]
    assert client.get(f"{path}/ready").json == {"name": "iris", "ready": True}


@pytest.mark.parametrize("rest", ["", "/ready", "/versions/9", "/versions/9/ready"])
@pytest.mark.parametrize("name", ["iris", "nobody"])
def test_unknown_models_and_versions(client: FlaskClient, name: str, rest: str) -> None:
    answer = client.get(f"/v2/models/{name}{rest}")
    if name == "iris" and "9" not in rest:
        told(answer)
    else:
        refused(answer, 404, "model_not_found")


@pytest.mark.parametrize("path", ["nobody/infer", "nobody/versions/1/infer", "iris/versions/9/infer"])
def test_nothing_is_inferred_by_what_is_not_there(client: FlaskClient, body: dict[str, Any], path: str) -> None:
    refused(client.post(f"/v2/models/{path}", json=body), 404, "model_not_found")


def test_infer(client: FlaskClient, body: dict[str, Any]) -> None:
    answer = client.post(INFER, json=body)
    document = told(answer)
    assert answer.headers["X-Berth-Model"] == "iris@1"
    assert "Inference-Header-Content-Length" not in answer.headers
    assert (document["model_name"], document["model_version"]) == ("iris", "1")
    prediction, probabilities = document["outputs"]
    assert prediction == {"name": "prediction", "datatype": "INT64", "shape": [3], "data": [0, 1, 2]}
    assert probabilities["shape"] == [3, 3]
    assert sum(probabilities["data"]) == pytest.approx(3.0)


def test_versions_answer_for_themselves(client: FlaskClient, iris_rows: Rows) -> None:
    names = {}
    for version in ("1", "2"):
        body = {"inputs": [tensor("features", iris_rows, [3, 4])], "outputs": [{"name": "probabilities"}]}
        document = told(client.post(f"/v2/models/iris/versions/{version}/infer", json=body))
        assert document["model_version"] == version
        names[version] = document["outputs"][0]["data"]
    assert names["1"] != names["2"]


@pytest.mark.parametrize("given", ["42", "", " ä\n", "0" * 300])
def test_an_id_comes_back_as_it_was(client: FlaskClient, body: dict[str, Any], given: str) -> None:
    document = told(client.post(INFER, json={**body, "id": given}))
    assert document["id"] == given


@pytest.mark.parametrize("more", [{}, {"id": None}])
def test_no_id_comes_back_when_none_was_sent(client: FlaskClient, body: dict[str, Any], more: dict[str, Any]) -> None:
    assert "id" not in told(client.post(INFER, json={**body, **more}))


@pytest.mark.parametrize(
    ("asked", "names"),
    [
        (["prediction"], ["prediction"]),
        (["probabilities", "prediction"], ["probabilities", "prediction"]),
        ([], ["prediction", "probabilities"]),
        (None, ["prediction", "probabilities"]),
    ],
)
def test_outputs_restrict_and_order(
    client: FlaskClient, body: dict[str, Any], asked: list[str] | None, names: list[str]
) -> None:
    outputs = None if asked is None else [{"name": name} for name in asked]
    document = told(client.post(INFER, json={**body, "outputs": outputs}))
    assert [output["name"] for output in document["outputs"]] == names


def test_an_unknown_output_is_refused(client: FlaskClient, body: dict[str, Any]) -> None:
    answer = client.post(INFER, json={**body, "outputs": [{"name": "logits"}]})
    assert "'logits'" in refused(answer, 400, "unknown_output")


def test_data_may_be_flat_or_nested(client: FlaskClient, iris_rows: Rows) -> None:
    flat = [value for row in iris_rows for value in row]
    for data in (iris_rows, flat):
        document = told(client.post(INFER, json={"inputs": [tensor("features", data, [3, 4])]}))
        assert outputs_of(document)["prediction"] == [0, 1, 2]


@pytest.mark.parametrize("datatype", ["FP32", "FP16", "INT64", "UINT8"])
def test_other_widths_are_taken_when_nothing_is_lost(client: FlaskClient, datatype: str) -> None:
    body = {"inputs": [tensor("features", [5, 3, 1, 0], [1, 4], datatype)]}
    assert outputs_of(told(client.post(INFER, json=body)))["prediction"] == [0]


def test_a_value_that_would_be_lost_is_refused(client: FlaskClient) -> None:
    body = {"inputs": [tensor("features", [2**53 + 1, 3, 1, 0], [1, 4], "INT64")]}
    answer = client.post(INFER, json=body)
    assert "9007199254740993" in refused(answer)


def test_a_frame_is_one_tensor_per_column(client: FlaskClient) -> None:
    inputs = [
        tensor("city", ["Rome", "Oslo"], [2, 1], "BYTES"),
        tensor("member", [1, 0], [2], "INT64"),
        tensor("age", [50.0, 20.0]),
    ]
    body = {"parameters": {"content_type": "pd"}, "inputs": inputs}
    document = told(client.post("/v2/models/people/infer", json=body))
    assert outputs_of(document)["prediction"] == ["yes", "no"]


def test_columns_are_taken_for_a_matrix_that_knows_their_names(client: FlaskClient, iris_rows: Rows) -> None:
    columns = told(client.get("/v2/models/iris"))["inputs"][0]["parameters"]["columns"]
    inputs = [tensor(name, [row[at] for row in iris_rows]) for at, name in reversed(list(enumerate(columns)))]
    answer = client.post(INFER, json={"parameters": {"content_type": "pd"}, "inputs": inputs})
    assert outputs_of(told(answer))["prediction"] == [0, 1, 2]
    assert f"missing column '{columns[-1]}'" in refused(client.post(INFER, json={"inputs": inputs[1:]}))


def test_all_thirteen_datatypes_go_through(echo_client: FlaskClient) -> None:
    values: dict[str, Any] = {"BOOL": [[True, False]], "BYTES": [["ä", ""]]}
    inputs = [tensor(datatype.lower(), values.get(datatype, [[1, 2]]), [1, 2], datatype) for datatype in DATATYPES]
    document = told(echo_client.post("/v2/models/echo/infer", json={"inputs": inputs}))
    assert {output["datatype"] for output in document["outputs"]} == set(DATATYPES)
    assert outputs_of(document) == {item["name"]: item["data"][0] for item in inputs}
    assert {tuple(output["shape"]) for output in document["outputs"]} == {(1, 2)}


@pytest.mark.parametrize("datatype", ["FP16", "FP32", "FP64"])
def test_null_is_not_a_number_both_ways(echo_client: FlaskClient, datatype: str) -> None:
    name = datatype.lower()
    rest = [tensor(each.lower(), [""] if each == "BYTES" else [0], [1, 1], each) for each in DATATYPES]
    inputs = [item for item in rest if item["name"] != name] + [tensor(name, [None, 1.5], [1, 2], datatype)]
    body = {"inputs": inputs, "outputs": [{"name": name}]}
    document = told(echo_client.post("/v2/models/echo/infer", json=body))
    assert outputs_of(document)[name] == [None, 1.5]


BAD_INPUTS: dict[str, tuple[Any, str]] = {
    "no inputs": ([], "inputs must be a list"),
    "null inputs": (None, "inputs must be a list"),
    "inputs an object": ({"features": 1}, "inputs must be a list"),
    "an input that is a number": ([1], "must be an object"),
    "no name": ([{"shape": [1], "datatype": "FP64", "data": [1]}], "needs a name"),
    "no shape": ([{"name": "features", "datatype": "FP64", "data": [1]}], "shape must be"),
    "no datatype": ([{"name": "features", "shape": [1, 4], "data": [1, 2, 3, 4]}], "datatype must be one of BOOL"),
    "a datatype in lower case": ([tensor("features", [1, 2, 3, 4], [1, 4], "fp64")], "got 'fp64'"),
    "a datatype nobody knows": ([tensor("features", [1, 2, 3, 4], [1, 4], "BF16")], "datatype must be one of"),
    "no data": ([{"name": "features", "shape": [1, 4], "datatype": "FP64"}], "neither data nor binary_data_size"),
    "too few values": ([tensor("features", [1, 2, 3], [1, 4])], "data has 3 values, but the shape .* needs 4"),
    "too many values": ([tensor("features", [1, 2, 3, 4, 5], [1, 4])], "data has 5 values"),
    "nested otherwise": ([tensor("features", [[1], [2], [3], [4]], [1, 4])], "nested as"),
    "ragged": ([tensor("features", [[1, 2], [3]], [1, 3])], "ragged"),
    "a missing batch dimension": ([tensor("features", [1, 2, 3, 4], [4])], r"got shape \[4\], want \[-1, 4\]"),
    "a negative size": ([tensor("features", [1, 2, 3, 4], [-1, 4])], "shape must be"),
    "no rows": ([tensor("features", [], [0, 4])], "no rows"),
    "a narrow row": ([tensor("features", [1, 2, 3], [1, 3])], "got 3 values in a row, want 4: 'sepal length"),
    "other names": (
        [tensor("input-0", [1, 2, 3, 4], [1, 4]), tensor("input-1", [1, 2, 3, 4], [1, 4])],
        "missing input 'features'",
    ),
    "one name too many": (
        [tensor("features", [1, 2, 3, 4], [1, 4]), tensor("more", [1])],
        "unknown input 'more'; the model expects 'features'",
    ),
    "one twice": ([tensor("features", [1, 2, 3, 4], [1, 4])] * 2, "duplicated"),
    "a string": ([tensor("features", ["a", 2, 3, 4], [1, 4])], "must be a number"),
    "strings": ([tensor("features", ["a", "b", "c", "d"], [1, 4], "BYTES")], "is BYTES, but the model accepts FP64"),
    "a null in a whole number": ([tensor("features", [None, 2, 3, 4], [1, 4], "INT64")], "must be a whole number"),
    "an int that does not fit": ([tensor("features", [300, 2, 3, 4], [1, 4], "UINT8")], "does not fit UINT8"),
    "parameters a list": ([{**tensor("features", [1], [1]), "parameters": [1]}], "parameters must be an object"),
    "shared memory": (
        [{**tensor("features", [1], [1]), "parameters": {"shared_memory_region": "a"}}],
        "shared_memory_region is not supported",
    ),
    "binary without a tail": (
        [{"name": "features", "shape": [1, 4], "datatype": "FP64", "parameters": {"binary_data_size": 32}}],
        "only 0 bytes are left",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD_INPUTS)
def test_bad_inputs(client: FlaskClient, case: str) -> None:
    inputs, message = BAD_INPUTS[case]
    answer = client.post(INFER, json={"inputs": inputs})
    error = refused(answer)
    assert re.search(message, error), error


@pytest.mark.parametrize(
    "more",
    [
        {"id": 5},
        {"outputs": {"name": "prediction"}},
        {"outputs": ["prediction"]},
        {"outputs": [{}]},
        {"outputs": [{"name": "prediction"}] * 2},
        {"outputs": [{"name": "prediction", "parameters": {"binary_data": "yes"}}]},
        {"outputs": [{"name": "probabilities", "parameters": {"classification": 2}}]},
        {"parameters": {"binary_data_output": 1}},
        {"parameters": "pd"},
    ],
)
def test_bad_requests(client: FlaskClient, body: dict[str, Any], more: dict[str, Any]) -> None:
    answer = client.post(INFER, json={**body, **more})
    refused(answer)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{",
        b'{"inputs": [{"name": "features", "shape": [1, 4], "datatype": "FP64", "data": [NaN, 1, 2, 3]}]}',
        b"[]",
        b'{"inputs": [], "inputs": []}',
        b"[" * 100_000,
    ],
)
def test_bodies_that_are_not_json(client: FlaskClient, data: bytes) -> None:
    assert client.post(INFER, data=data, content_type="application/json").status_code == 400


def test_no_content_type_is_json_and_text_is_refused(client: FlaskClient, body: dict[str, Any]) -> None:
    assert client.post(INFER, data=json.dumps(body)).status_code == 200
    assert client.post(INFER, data=json.dumps(body), content_type="text/plain").status_code == 415
    assert client.post(INFER, data=json.dumps(body), content_type="application/octet-stream").status_code == 415


def test_what_is_loading_is_not_ready(make_app: MakeApp, store: Path, body: dict[str, Any]) -> None:
    loading = make_app(store, start=False)
    assert loading.get("/v2/health/live").status_code == 200
    for answer in (
        loading.get("/v2/health/ready"),
        loading.get("/v2/models/iris"),
        loading.get("/v2/models/iris/ready"),
        loading.post("/v2/models/iris/infer", json=body),
    ):
        refused(answer, 503, "not_ready")
    assert {entry["state"] for entry in told(loading.post("/v2/repository/index"))} == {"LOADING"}
    assert loading.post("/v2/repository/index", json={"ready": True}).json == []


def test_what_could_not_be_loaded_says_so(make_app: MakeApp, echo_store: Path) -> None:
    failed = make_app(echo_store, allow_code=False)
    assert failed.get("/v2/health/ready").status_code == 503
    refused(failed.get("/v2/models/echo/ready"), 503, "model_failed")
    (entry,) = told(failed.post("/v2/repository/index"))
    assert entry["state"] == "UNAVAILABLE"
    assert entry["reason"]


def test_a_body_that_is_too_long(make_app: MakeApp, store: Path, body: dict[str, Any]) -> None:
    small = make_app(store, max_body_bytes=50, models="iris@1")
    assert small.post(INFER, json=body).status_code == 413
