"""The express path answers as Flask's views do: same status, body, headers, metrics and log fields."""

from __future__ import annotations

import json
import re
from http import HTTPStatus
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient

from berth.web.express import INCOMPLETE, Express
from web.asking import MakeApp

GOOD = {"features": [5.1, 3.5, 1.4, 0.2]}
INFER = {"id": "a", "inputs": [{"name": "features", "shape": [1, 4], "datatype": "FP64", "data": [5.1, 3.5, 1.4, 0.2]}]}
CASES: list[tuple[str, Any, dict[str, str]]] = [
    ("/predict", GOOD, {}),
    ("/predict", GOOD | {"outputs": ["probabilities"]}, {"X-Request-Id": "mine"}),
    ("/predict", {"features": [1]}, {}),
    ("/predict", GOOD | {"model": "nobody"}, {}),
    ("/predict", GOOD, {"Content-Type": "text/plain"}),
    ("/predict", GOOD, {"Content-Encoding": "br"}),
    ("/predict", GOOD, {"X-Request-Timeout-Ms": "soon"}),
    ("/v2/models/iris/infer", INFER, {}),
    ("/v2/models/iris/infer", INFER | {"outputs": [{"name": "x"}]}, {}),
    ("/v2/models/iris/infer", INFER | {"parameters": {"binary_data_output": True}}, {}),
    ("/v2/models/iris/infer", [], {}),
]


@pytest.fixture(scope="module")
def both(make_app: MakeApp, store: Path) -> tuple[FlaskClient, FlaskClient]:
    """The same application with the express path, and with Flask alone."""
    with_express, alone = (make_app(store, models="iris@1", slot="blue", batch_max_rows=1) for _ in range(2))
    app: Flask = alone.application
    assert isinstance(app.wsgi_app, Express)
    app.wsgi_app = app.wsgi_app._behind  # type: ignore[method-assign,assignment]
    return with_express, alone


@pytest.mark.parametrize(("path", "document", "headers"), CASES)
def test_both_paths_answer_alike(
    both: tuple[FlaskClient, FlaskClient], path: str, document: Any, headers: dict[str, str]
) -> None:
    seen = []
    for client in both:
        sent = {"Content-Type": "application/json"} | headers
        answer = client.post(path, data=json.dumps(document), headers=sent)
        body = re.sub(rb'"request_id":"[0-9a-f]{32}"', b"", answer.data)
        told = {name: value for name, value in answer.headers if name != "X-Request-Id" or "X-Request-Id" in headers}
        # Without a request id of our own, the length of the body is the same all the same.
        seen.append((answer.status_code, body, told))
    assert seen[0] == seen[1]


def _as_sent(path: str, document: Any, headers: dict[str, str]) -> bytes:
    body = json.dumps(document).encode()
    sent = {"Host": "localhost", "Content-Type": "application/json", "Content-Length": str(len(body))} | headers
    fields = "".join(f"{name}: {value}\r\n" for name, value in sent.items())
    return f"POST {path} HTTP/1.1\r\n{fields}\r\n".encode() + body


@pytest.mark.parametrize(("path", "document", "headers"), CASES)
def test_a_whole_request_is_answered_alike(
    both: tuple[FlaskClient, FlaskClient], path: str, document: Any, headers: dict[str, str]
) -> None:
    express = both[0].application.extensions["berth"].express
    answer = express.answer_plain(_as_sent(path, document, headers), "127.0.0.1")
    assert answer is not None
    data, closes = answer
    head, _, body = data.partition(b"\r\n\r\n")
    status_line, *fields = head.decode().split("\r\n")
    told = dict(field.split(": ", 1) for field in fields)
    assert told.pop("Server") == "gunicorn"
    assert told.pop("Date")
    assert told.pop("Connection") == ("close" if closes else "keep-alive")
    sent = {"Content-Type": "application/json"} | headers
    flask = both[1].post(path, data=json.dumps(document), headers=sent)
    wanted = {name: value for name, value in flask.headers.items() if name != "Connection"}
    for headers_seen in (told, wanted):
        if "X-Request-Id" not in headers:
            del headers_seen["X-Request-Id"]
    ids = re.compile(rb'"request_id":"[0-9a-f]{32}"')
    assert (status_line, told) == (f"HTTP/1.1 {flask.status_code} {HTTPStatus(flask.status_code).phrase}", wanted)
    assert ids.sub(b"", body) == ids.sub(b"", flask.data)


def test_other_requests_are_left_to_the_servers_parser(make_app: MakeApp, store: Path) -> None:
    express = make_app(store, models="iris@1", batch_max_rows=1).application.extensions["berth"].express
    whole = _as_sent("/predict", GOOD, {})
    assert express.answer_plain(whole, "") is not None
    assert express.answer_plain(whole[:-1], "") == INCOMPLETE
    for other in (whole + b"x", whole.replace(b"POST", b"PUT"), whole.replace(b"/predict", b"/predict?a")):
        assert express.answer_plain(other, "") is None


def test_a_body_over_the_limit_closes_the_connection(make_app: MakeApp, store: Path) -> None:
    express = (
        make_app(store, models="iris@1", max_body_bytes=20, batch_max_rows=1).application.extensions["berth"].express
    )
    data, closes = express.answer_plain(_as_sent("/predict", GOOD, {}), "")
    assert closes
    assert data.startswith(b"HTTP/1.1 413 ")
    assert data.count(b"Connection: close") == 1


def test_what_would_wait_is_not_begun(make_app: MakeApp, store: Path) -> None:
    client = make_app(store, models="iris@1", batch_max_rows=1)
    service = client.application.extensions["berth"]
    rows = {"features": [GOOD["features"]] * 65}
    assert service.express.answer_plain(_as_sent("/predict", rows, {}), "") is None
    assert service.gate.inside == 0
    assert "berth_requests_total{" not in client.get("/metrics").text
    few = {"features": [GOOD["features"]] * 64}
    assert service.express.answer_plain(_as_sent("/predict", few, {}), "")[0].startswith(b"HTTP/1.1 200 ")


def test_both_paths_count_alike(both: tuple[FlaskClient, FlaskClient]) -> None:
    counted = []
    for client in both:
        client.post("/predict", json=GOOD)
        client.post("/predict", json={})
        lines = client.get("/metrics").text.splitlines()
        wanted = re.compile(r"(flask_http_request\w*_(total|count)|berth_requests_total)\{.*POST|berth_requests_total")
        counted.append(sorted(line for line in lines if wanted.match(line)))
    assert counted[0] == counted[1]
    assert any('url_rule="/predict"' in line for line in counted[0])


def test_the_keys_and_the_gate_hold_there_too(make_app: MakeApp, store: Path, tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    keys.write_text("me:" + "0" * 64, "utf-8")
    client = make_app(store, models="iris@1", api_keys_file=keys, max_inflight=1)
    assert client.post("/predict", json=GOOD).status_code == 401
    gate = client.application.extensions["berth"].gate
    assert gate.inside == 0
    open_client = make_app(store, models="iris@1", max_inflight=1)
    gate = open_client.application.extensions["berth"].gate
    ticket = gate.enter()
    refused = open_client.post("/predict", json=GOOD)
    assert (refused.status_code, refused.headers["Retry-After"]) == (429, "1")
    gate.leave(ticket)
    assert open_client.post("/predict", json=GOOD).status_code == 200
    assert gate.inside == 0
