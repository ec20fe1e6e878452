"""Lines in, lines out: the same order, the same values as /predict, and a bad line alone is an error."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient

from web.asking import MakeApp

NDJSON = "application/x-ndjson"


def ask_lines(client: FlaskClient, text: str | bytes, query: str = "") -> list[dict[str, Any]]:
    """The lines of the response."""
    response = client.post(f"/predict{query}", data=text, content_type=NDJSON)
    assert (response.status_code, response.content_type) == (200, NDJSON), response.text
    return [json.loads(line) for line in response.data.splitlines()]


def test_rows_and_records(client: FlaskClient, iris_rows: list[list[float]]) -> None:
    names = ["sepal length (cm)", "sepal width (cm)", "petal length (cm)", "petal width (cm)"]
    text = "\n".join(json.dumps(row) for row in iris_rows) + "\n"
    assert ask_lines(client, text) == [{"prediction": 0}, {"prediction": 1}, {"prediction": 2}]
    records = "\n".join(json.dumps(dict(zip(names, row, strict=True))) for row in iris_rows)
    found = ask_lines(client, records, "?model=iris&version=1&outputs=probabilities,prediction")
    wanted = client.post("/predict", json={"features": iris_rows, "outputs": ["probabilities"]})
    assert [line["probabilities"] for line in found] == json.loads(wanted.data)["probabilities"]
    assert [list(line) for line in found] == [["probabilities", "prediction"]] * 3


def test_a_bad_line_is_an_error_and_the_others_are_not(client: FlaskClient) -> None:
    good = b"[5.1, 3.5, 1.4, 0.2]"
    bad = [b"[1, 2", b'"x"', b"[1, 2]", b"{}", b"[[1, 2, 3, 4], [1, 2, 3, 4]]", b"nan", b"null"]
    text = b"\n".join(line for each in bad for line in (good, b"", each))
    found = ask_lines(client, text)
    assert found[::2] == [{"prediction": 0}] * len(bad)
    assert [sorted(line) for line in found[1::2]] == [["code", "error", "line"]] * len(bad)
    assert [line["line"] for line in found[1::2]] == [3 * number for number in range(1, len(bad) + 1)]
    assert {line["code"] for line in found[1::2]} == {"malformed_json", "invalid_input"}


def test_brackets_never_join_lines(client: FlaskClient) -> None:
    """Two lines that are JSON together are two bad lines."""
    found = ask_lines(client, b"[5.1, 3.5,\n1.4, 0.2]\n[5.1, 3.5, 1.4, 0.2], [5.1, 3.5, 1.4, 0.2]\n")
    assert [line["code"] for line in found] == ["malformed_json"] * 3


def test_more_lines_than_a_chunk(client: FlaskClient) -> None:
    row, bad = b"[5.1, 3.5, 1.4, 0.2]\n", b"[1]\n"
    found = ask_lines(client, (row * 99 + bad) * 25)
    assert [number for number, line in enumerate(found, 1) if "error" in line] == list(range(100, 2501, 100))
    assert [line["line"] for line in found if "error" in line] == list(range(100, 2501, 100))
    assert ask_lines(client, b"") == []


@pytest.mark.parametrize(
    ("query", "status", "code"),
    [("?model=none", 404, "model_not_found"), ("?outputs=x", 400, "unknown_output"), ("?rows=1", 400, "invalid_input"),
     ("?" + "&".join("model=iris" for _ in range(40)), 400, "invalid_input")],
)  # fmt: skip
def test_what_concerns_all_lines_is_the_status(client: FlaskClient, query: str, status: int, code: str) -> None:
    response = client.post(f"/predict{query}", data=b"[1]", content_type=NDJSON)
    assert (response.status_code, json.loads(response.data)["code"]) == (status, code)


def test_other_media_types_are_refused_as_before(client: FlaskClient) -> None:
    response = client.post("/predict", data=b"[1]", content_type="text/plain")
    assert (response.status_code, json.loads(response.data)["code"]) == (415, "unsupported_media_type")


def test_a_model_that_breaks_says_nothing_of_why(make_app: MakeApp, broken_store: Path) -> None:
    found = ask_lines(make_app(broken_store, allow_code=True), b'"runtime"\n"fine"\n')
    assert [line.get("code", line) for line in found] == ["prediction_failed", {"prediction": "fine"}]
    assert "secret" not in json.dumps(found)
    assert "log has the reason" in found[0]["error"]
