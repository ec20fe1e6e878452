"""MLflow's scoring form: four JSON forms, CSV, and errors its clients can read."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from flask.testing import FlaskClient

import berth
from web.asking import MakeApp, refused, told

Rows = Sequence[Sequence[float]]
PATH = "/invocations"
COLUMNS = ["sepal length (cm)", "sepal width (cm)", "petal length (cm)", "petal width (cm)"]


@pytest.fixture(scope="module")
def people(make_app: MakeApp, store: Path) -> FlaskClient:
    """An application whose default model takes a frame with strings."""
    return make_app(store, models="people")


@pytest.fixture(scope="module")
def prices(make_app: MakeApp, store: Path) -> FlaskClient:
    """An application whose default model takes a matrix of two columns without names."""
    return make_app(store, models="prices")


def frame(rows: Rows) -> pd.DataFrame:
    """The rows with their columns' names, in another order."""
    return pd.DataFrame(rows, columns=COLUMNS)[COLUMNS[::-1]]


FORMS: dict[str, Callable[[Rows], dict[str, Any]]] = {
    "dataframe_split": lambda rows: {"dataframe_split": frame(rows).to_dict(orient="split")},
    "dataframe_split, columns counted": lambda rows: {"dataframe_split": pd.DataFrame(rows).to_dict(orient="split")},
    "dataframe_split, no columns": lambda rows: {"dataframe_split": {"data": rows}},
    "dataframe_records": lambda rows: {"dataframe_records": frame(rows).to_dict(orient="records")},
    "instances": lambda rows: {"instances": rows},
    "inputs": lambda rows: {"inputs": rows},
    "inputs by column": lambda rows: {"inputs": frame(rows).to_dict(orient="list")},
    "with params": lambda rows: {"inputs": rows, "params": {"temperature": 1}},
    "with null params": lambda rows: {"inputs": rows, "params": None},
}


@pytest.mark.parametrize("form", FORMS)
def test_json(client: FlaskClient, iris_rows: Rows, form: str) -> None:
    answer = client.post(PATH, json=FORMS[form](iris_rows))
    assert told(answer) == {"predictions": [0, 1, 2]}
    assert answer.headers["X-Berth-Model"] == "iris@1"


@pytest.mark.parametrize("content_type", ["text/csv", "text/csv; charset=utf-8"])
def test_csv_as_pandas_writes_it(client: FlaskClient, iris_rows: Rows, content_type: str) -> None:
    text = frame(iris_rows).to_csv(index=False)
    assert told(client.post(PATH, data=text, content_type=content_type)) == {"predictions": [0, 1, 2]}


def test_csv_with_strings_and_a_missing_one(people: FlaskClient) -> None:
    text = 'member,city,age\n1,"Rome",50\n0,,20\n'
    assert told(people.post(PATH, data=text, content_type="text/csv")) == {"predictions": ["yes", "no"]}


def test_csv_without_known_names_goes_by_position(prices: FlaskClient) -> None:
    answer = told(prices.post(PATH, data="a,b\n1,2\n3,4\n", content_type="text/csv"))
    assert answer["predictions"] == pytest.approx([3.0, 7.0])


def test_a_split_frame_without_known_names_goes_by_position(prices: FlaskClient) -> None:
    split = {"columns": ["a", "b"], "index": [7], "data": [[1, 2]]}
    assert told(prices.post(PATH, json={"dataframe_split": split}))["predictions"] == pytest.approx([3.0])


def test_records_with_strings(people: FlaskClient) -> None:
    records = [{"age": 50, "city": "Rome", "member": 1}, {"age": 20, "city": "Oslo", "member": 0}]
    assert told(people.post(PATH, json={"dataframe_records": records})) == {"predictions": ["yes", "no"]}


def error_of(answer: Any, status: int = 400, code: str = "invalid_input") -> str:
    """What a refusal says, once it has MLflow's keys too."""
    error = refused(answer, status, code)
    assert answer.json["message"] == error
    assert answer.json["error_code"] == code.upper()
    return error


GOOD = [1.0, 2.0, 3.0, 4.0]


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({}, "exactly one of dataframe_split, dataframe_records, instances, inputs, got none"),
        ({"inputs": [GOOD], "instances": [GOOD]}, "exactly one"),
        ({"input": [GOOD]}, "unknown key 'input'"),
        ([GOOD], "must be an object"),
        ({"inputs": [GOOD], "params": [1]}, "params must be an object"),
        ({"inputs": []}, "at least one"),
        ({"inputs": GOOD}, "each row must be a list or an object"),
        ({"dataframe_split": [GOOD]}, "dataframe_split must be"),
        ({"dataframe_split": {}}, "dataframe_split must be"),
        ({"dataframe_split": {"data": {}}}, "dataframe_split must be"),
        ({"dataframe_split": {"data": []}}, "data is empty"),
        ({"dataframe_split": {"data": [GOOD], "rows": 1}}, "unknown key 'rows'"),
        ({"dataframe_split": {"data": [GOOD], "columns": "a"}}, "columns must be a list of names"),
        ({"dataframe_split": {"data": [GOOD], "columns": [1.5, 2, 3, 4]}}, "columns must be a list of names"),
        ({"dataframe_split": {"data": [GOOD], "index": [0, 1]}}, "index must be a list of 1"),
        ({"dataframe_split": {"data": [GOOD], "index": 0}}, "index must be a list of 1"),
        ({"dataframe_split": {"data": [GOOD[1:]], "columns": COLUMNS}}, "each row must be a list of 4 values"),
        ({"dataframe_split": {"data": [GOOD, 5], "columns": COLUMNS}}, "each row must be a list of 4 values, got 5"),
        ({"dataframe_split": {"data": [GOOD[1:]]}}, "got 3 values in a row, want 4"),
        ({"dataframe_split": {"data": [GOOD], "columns": ["a", *COLUMNS[1:]]}}, "missing column 'sepal length (cm)'"),
        ({"dataframe_split": {"data": [[*GOOD, 5]], "columns": [*COLUMNS, COLUMNS[0]]}}, "is duplicated"),
        ({"dataframe_split": {"data": [["a", 2, 3, 4]], "columns": COLUMNS}}, "must be a number"),
        ({"dataframe_records": {}}, "must be a list of objects"),
        ({"dataframe_records": [GOOD]}, "must be a list of objects"),
        ({"dataframe_records": []}, "dataframe_records is empty"),
        ({"dataframe_records": [{"a": 1}]}, "missing column"),
    ],
)
def test_bad_json(client: FlaskClient, body: Any, message: str) -> None:
    assert message in error_of(client.post(PATH, json=body))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "the CSV is empty"),
        (",".join(COLUMNS) + "\n", "no rows"),
        ("1,2,3,4\n" * 2, "must be a header"),
        (",".join(COLUMNS[1:]) + "\n1,2,3\n", "missing column 'sepal length (cm)'"),
        (",".join([COLUMNS[0], *COLUMNS]) + "\n0,1,2,3,4\n", "twice"),
        (",".join(COLUMNS) + "\n1,2,x,4\n", "column 'petal length (cm)', row 1: want a number"),
        (",".join(COLUMNS) + "\n1,2,,4\n", "NaN"),
    ],
)
def test_bad_csv(client: FlaskClient, text: str, message: str) -> None:
    answer = client.post(PATH, data=text, content_type="text/csv")
    assert message in error_of(answer, 400, "rejected_by_model" if message == "NaN" else "invalid_input")


def test_csv_for_tensors_is_refused(echo_client: FlaskClient) -> None:
    assert "expects tensors, not a table" in error_of(echo_client.post(PATH, data="a\n1\n", content_type="text/csv"))


def test_csv_of_too_many_rows(make_app: MakeApp, store: Path) -> None:
    small = make_app(store, models="prices", max_rows=2)
    assert "more than 2 rows" in error_of(small.post(PATH, data="a,b\n" + "1,2\n" * 3, content_type="text/csv"))


def test_errors_before_the_view_have_mlflows_keys_too(make_app: MakeApp, store: Path, tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    keys.write_text("ci:" + "0" * 64 + "\n", "utf-8")
    guarded = make_app(store, models="iris@1", api_keys_file=keys)
    error_of(guarded.post(PATH, json={"inputs": [GOOD]}), 401, "unauthenticated")
    error_of(make_app(store, start=False).post(PATH, json={"inputs": [GOOD]}), 503, "not_ready")


def test_other_errors(client: FlaskClient) -> None:
    error_of(client.post(PATH, data="{}", content_type="text/plain"), 415, "unsupported_media_type")
    error_of(client.post(PATH, data="{", content_type="application/json"), 400, "malformed_json")
    error_of(client.get(PATH), 405, "method_not_allowed")
    assert "message" not in (client.get("/v2/models/nobody").json or {})


def test_ping_and_version(client: FlaskClient, make_app: MakeApp, store: Path) -> None:
    assert client.get("/ping").status_code == 200
    refused(make_app(store, start=False).get("/ping"), 503, "not_ready")
    assert client.get("/version").text == berth.__version__
    assert client.get("/version").mimetype == "text/plain"
