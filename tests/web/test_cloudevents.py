"""Events in, events out: both modes, what makes an event invalid, and errors as plain responses."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient

from web.asking import MakeApp

ROW = {"features": [5.1, 3.5, 1.4, 0.2]}
HEADERS = {
    "ce-specversion": "1.0",
    "ce-id": "7",
    "ce-source": "/sensors/1",
    "ce-type": "reading",
    "ce-subject": "s%201",
}
EVENT: dict[str, Any] = {"specversion": "1.0", "id": "7", "source": "/sensors/1", "type": "reading", "subject": "é",
                         "datacontenttype": "application/json", "data": ROW}  # fmt: skip
STRUCTURED = "application/cloudevents+json"


def test_binary_mode(client: FlaskClient) -> None:
    response = client.post("/predict", json=ROW, headers=HEADERS)
    assert response.status_code == 200, response.text
    assert response.json == {"prediction": [0], "model": "iris", "version": "1"}
    event = {name.lower(): value for name, value in response.headers.items() if name.lower().startswith("ce-")}
    assert event.pop("ce-id") not in ("7", "")
    assert event.pop("ce-time").startswith("20")
    assert event == {
        "ce-specversion": "1.0", "ce-source": "/models/iris/versions/1", "ce-type": "dev.berth.prediction",
        "ce-subject": "s%201",
    }  # fmt: skip


def test_structured_mode(client: FlaskClient) -> None:
    response = client.post("/predict", data=json.dumps(EVENT), content_type=f"{STRUCTURED}; charset=utf-8")
    assert (response.status_code, response.content_type) == (200, STRUCTURED), response.text
    event = json.loads(response.data)
    assert (event["type"], event["subject"], event["specversion"]) == ("dev.berth.prediction", "é", "1.0")
    assert event["data"] == {"prediction": [0], "model": "iris", "version": "1"}
    assert event["id"] != "7"
    encoded = {**EVENT, "data_base64": base64.b64encode(json.dumps(ROW).encode()).decode()}
    del encoded["data"]
    again = client.post("/predict", data=json.dumps(encoded), content_type=STRUCTURED)
    assert json.loads(again.data)["data"] == event["data"]


def test_an_event_without_a_subject(client: FlaskClient) -> None:
    headers = {name: value for name, value in HEADERS.items() if name != "ce-subject"}
    assert "ce-subject" not in client.post("/predict", json=ROW, headers=headers).headers
    assert "ce-id" not in client.post("/predict", json=ROW).headers


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"specversion": "0.3"}, "specversion"),
        ({"id": None}, "id must be a string"),
        ({"source": ""}, "source"),
        ({"type": 7}, "type"),
        ({"subject": "x" * 2000}, "subject"),
        ({"datacontenttype": "text/xml"}, "datacontenttype"),
        ({"data": [1]}, "data must be"),
        ({"data_base64": "!"}, "not base64"),
        ({"data": {"features": [1]}}, "got 1 values"),
    ],
)
def test_what_is_no_event(client: FlaskClient, change: dict[str, Any], said: str) -> None:
    response = client.post("/predict", data=json.dumps({**EVENT, **change}), content_type=STRUCTURED)
    assert (response.status_code, json.loads(response.data)["code"]) == (400, "invalid_input")
    assert said in json.loads(response.data)["error"]


def test_headers_that_are_no_event(client: FlaskClient) -> None:
    response = client.post("/predict", json=ROW, headers={**HEADERS, "ce-id": ""})
    assert (response.status_code, json.loads(response.data)["code"]) == (400, "invalid_input")
    response = client.post("/predict", data="[]", content_type=STRUCTURED)
    assert response.status_code == 400
    batch = client.post("/predict", data="[]", content_type="application/cloudevents-batch+json")
    assert batch.status_code == 415


def test_a_server_that_is_not_ready_says_when_to_come_back(make_app: MakeApp, store: Path) -> None:
    loading = make_app(store, start=False)
    response = loading.post("/predict", json=ROW, headers=HEADERS)
    assert (response.status_code, response.headers["Retry-After"]) == (503, "1")
