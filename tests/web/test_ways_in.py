"""Whichever way a request comes in, the answer is the same: status, headers, body, metrics, log and payload lines.

The ways: inline (bytes to bytes, on the worker's main thread), pooled (WSGI before Flask's dispatch), Flask's routes.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from http import HTTPStatus
from pathlib import Path
from typing import Any, TypeAlias

import pytest
from flask import Flask
from flask.testing import FlaskClient

from berth.web.endpoints import ENDPOINTS
from berth.worker.inline import INCOMPLETE, InlineAnswers
from collector import wait_for
from web.asking import MakeApp

ROW = [5.1, 3.5, 1.4, 0.2]
GOOD = {"features": ROW}
SERVED = "iris@1,iris@2,people@1"
JSON, CSV, BINARY = "application/json", "text/csv", "application/octet-stream"
NAMES = ["sepal length (cm)", "sepal width (cm)", "petal length (cm)", "petal width (cm)"]


@dataclass(frozen=True)
class Case:
    """A request for a prediction, and the status it must be answered with."""

    path: str
    body: Any
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)

    @property
    def data(self) -> bytes:
        """The body as it is sent."""
        return self.body if isinstance(self.body, bytes) else json.dumps(self.body).encode()

    @property
    def fields(self) -> dict[str, str]:
        """The header fields as they are sent."""
        return {"Content-Type": JSON} | self.headers


def _infer(name: str = "features", **more: Any) -> dict[str, Any]:
    return {"inputs": [{"name": name, "shape": [1, 4], "datatype": "FP64", "data": ROW}], **more}


def _binary() -> Case:
    tensor = {"name": "features", "shape": [1, 4], "datatype": "FP64", "parameters": {"binary_data_size": 32}}
    head = json.dumps({"inputs": [tensor], "parameters": {"binary_data_output": True}}).encode()
    headers = {"Content-Type": BINARY, "Inference-Header-Content-Length": str(len(head))}
    return Case("/v2/models/iris/infer", head + bytes(32), 200, headers)


V2, V2_VERSION = "/v2/models/iris/infer", "/v2/models/iris/versions/2/infer"
V1, V1_VERSION = "/v1/models/iris:predict", "/v1/models/iris/versions/2:predict"
CASES = [
    Case("/predict", GOOD),
    Case("/predict", GOOD | {"outputs": ["probabilities"]}, headers={"X-Request-Id": "mine"}),
    Case("/predict", {"features": [1]}, 400),
    Case("/predict", GOOD | {"model": "nobody"}, 404),
    Case("/predict", GOOD, 415, {"Content-Type": "text/plain"}),
    Case("/predict", GOOD, 415, {"Content-Encoding": "br"}),
    Case("/predict", GOOD, 400, {"X-Request-Timeout-Ms": "soon"}),
    Case("/predict", GOOD, 200, {"X-Request-Timeout-Ms": "5000", "X-Request-Id": "two words"}),
    Case("/predict", b"{", 400),
    Case("/predict", b"", 400),
    Case(V2, _infer(id="a")),
    Case(V2, _infer(outputs=[{"name": "x"}]), 400),
    Case(V2, _infer(parameters={"binary_data_output": True})),
    Case(V2, [], 400),
    Case(V2, _infer(), 415, {"Content-Type": BINARY}),
    _binary(),
    Case(V2_VERSION, _infer()),
    Case(V2_VERSION, _infer("wrong"), 400),
    Case("/v2/models/nobody/infer", _infer(), 404),
    Case("/v2/models/iris/versions/9/infer", _infer(), 404),
    Case(V1, {"instances": [ROW]}),
    Case(V1, {"inputs": {name: [1.0] for name in NAMES}}),
    Case(V1, {"rows": [ROW]}, 400),
    Case(V1_VERSION, {"instances": [ROW]}),
    Case("/v1/models/nobody:predict", {"instances": [ROW]}, 404),
    Case("/invocations", {"instances": [ROW]}),
    Case("/invocations", {"dataframe_split": {"columns": NAMES, "data": [ROW]}}),
    Case("/invocations", (",".join(NAMES) + "\n5.1,3.5,1.4,0.2\n").encode(), 200, {"Content-Type": CSV}),
    Case("/invocations", b"a,b\n1,2\n", 400, {"Content-Type": CSV}),
    Case("/invocations", {}, 400),
    Case("/invocations", GOOD, 415, {"Content-Type": "text/plain"}),
]
# (status, headers, body)
Answer: TypeAlias = tuple[int, dict[str, str], bytes]
Way: TypeAlias = Callable[[FlaskClient, Case], Answer]


def as_sent(case: Case) -> bytes:
    """A whole request as the worker reads it."""
    sent = {"Host": "localhost", "Content-Length": str(len(case.data))} | case.fields
    fields = "".join(f"{name}: {value}\r\n" for name, value in sent.items())
    return f"POST {case.path} HTTP/1.1\r\n{fields}\r\n".encode() + case.data


def inline_of(client: FlaskClient) -> InlineAnswers:
    """What the worker's main thread calls. A model that was slow when it was measured is measured again."""
    backend = client.application.extensions["berth"].express._pipeline.backend
    for model in backend.catalog.models():
        for _ in range(20):
            if model.name != "iris" or backend.predictor.may_answer_at_once(model):
                break
            backend.predictor.prepare(model)
    inline: InlineAnswers = client.application.extensions["berth"].express
    return inline


def inline(client: FlaskClient, case: Case) -> Answer:
    """On the main thread, which never waits."""
    answer = inline_of(client).answer_plain(as_sent(case), "127.0.0.1")
    assert answer is not None, f"{case.path} would wait"
    head, _, body = answer.data.partition(b"\r\n\r\n")
    status_line, *lines = head.decode().split("\r\n")
    told = dict(line.split(": ", 1) for line in lines)
    assert told.pop("Server") == "gunicorn"
    assert told.pop("Date")
    assert told.pop("Connection") == ("close" if answer.closes else "keep-alive")
    if answer.closes:
        told["Connection"] = "close"
    status = int(status_line.split()[1])
    assert status_line == f"HTTP/1.1 {status} {HTTPStatus(status).phrase}"
    return status, told, body


def pooled(client: FlaskClient, case: Case) -> Answer:
    """A WSGI application; predictions never reach Flask."""
    answer = client.post(case.path, data=case.data, headers=case.fields)
    return answer.status_code, dict(answer.headers), answer.data


def routed(client: FlaskClient, case: Case) -> Answer:
    """Flask alone, as for paths that are spelled in another way."""
    app = client.application
    before, app.wsgi_app = app.wsgi_app, Flask.wsgi_app.__get__(app)  # type: ignore[method-assign]
    assert before != app.wsgi_app
    try:
        return pooled(client, case)
    finally:
        app.wsgi_app = before  # type: ignore[method-assign]


WAYS: tuple[Way, ...] = (inline, pooled, routed)
_OWN_ID = re.compile(rb'"request_id":"[0-9a-f]{32}"')


def _without_id(answer: Answer, case: Case) -> Answer:
    """The answer without a request id that the server made; its length is the same every time."""
    status, headers, body = answer
    assert len(headers["X-Request-Id"]) == 32 or headers["X-Request-Id"] == case.headers["X-Request-Id"]
    return status, {name: value for name, value in headers.items() if name != "X-Request-Id"}, _OWN_ID.sub(b"", body)


def _compare(clients: list[FlaskClient], cases: list[Case]) -> None:
    for case in cases:
        seen = [_without_id(way(client, case), case) for way, client in zip(WAYS, clients, strict=True)]
        assert seen[0][0] == case.status, (case, seen[0])
        assert seen[0] == seen[1] == seen[2], case


def _counted(client: FlaskClient) -> list[str]:
    """The lines of /metrics that do not depend on the time something took, or on /metrics itself."""
    wanted = (
        r"flask_http_request_\w*(total|count)\{|berth_(requests_total|rejected|predictions|inflight|cache|batch_rows)"
    )
    lines = client.get("/metrics").text.splitlines()
    return sorted(line for line in lines if re.match(wanted, line) and '"GET"' not in line and "_created" not in line)


@pytest.fixture
def three(make_app: MakeApp, store: Path) -> Callable[..., list[FlaskClient]]:
    """The same application for each way."""

    def make(**settings: object) -> list[FlaskClient]:
        own = {"models": SERVED, "slot": "blue", "batch_max_rows": 1} | settings
        return [make_app(store, **{key: str(value).format(way.__name__) for key, value in own.items()}) for way in WAYS]

    return make


def test_every_prediction_endpoint_has_cases() -> None:
    paths = {re.sub(r"<\w+>", "[^/]+", endpoint.rule) for endpoint in ENDPOINTS if endpoint.protocol}
    assert len(paths) == 6
    for path in paths:
        assert {case.status for case in CASES if re.fullmatch(path, case.path)} >= {200}, path


def test_every_way_answers_and_counts_alike(three: Callable[..., list[FlaskClient]]) -> None:
    clients = three()
    _compare(clients, CASES)
    counted = [_counted(client) for client in clients]
    assert counted[0] == counted[1] == counted[2]
    assert any('url_rule="/v1/models/<name>/versions/<version>:predict"' in line for line in counted[0])
    assert any(line.startswith("berth_inflight") and line.endswith(" 0.0") for line in counted[0])


def test_every_way_logs_alike(three: Callable[..., list[FlaskClient]], tmp_path: Path, read_log: Any) -> None:
    payloads = f"{tmp_path}/{{}}.jsonl?redact=sepal+width+%28cm%29"
    clients = three(log_level="info", payload_log=payloads, cache_bytes=1_000_000)
    read_log()
    logged = []
    for way, client in zip(WAYS, clients, strict=True):
        for case in CASES:
            way(client, case)
        lines = [line for line in read_log() if "route" in line]
        assert len(lines) == len(CASES)
        file = tmp_path / f"{way.__name__}.jsonl"
        wait_for(lambda file=file: file.exists() and file.read_bytes().count(b"\n") >= len(CASES))  # type: ignore[misc]
        lines += [json.loads(line) for line in file.read_bytes().splitlines()]
        for line in lines:
            assert line.pop("ms") >= 0
            assert line.pop("ts")
            own = line.pop("request_id")
            assert len(own) == 32 or own == "mine"
            if isinstance(line.get("response"), dict):
                line["response"].pop("request_id", None)
        logged.append(lines)
    assert logged[0] == logged[1] == logged[2]


def test_keys_hold_on_every_way(three: Callable[..., list[FlaskClient]], tmp_path: Path) -> None:
    digests = {key: hashlib.sha256(key.encode()).hexdigest() for key in ("one", "two")}
    (tmp_path / "keys").write_text(f"alice:{digests['one']}\nbob:{digests['two']}:people\n")
    clients = three(api_keys_file=tmp_path / "keys")
    good = [case for case in CASES if case.status == 200]
    with_key = [({}, 401), ({"X-Api-Key": "no"}, 401), ({"X-Api-Key": "one"}, 200), ({"X-Api-Key": "two"}, 403)]
    for key, status in with_key:
        _compare(clients, [Case(case.path, case.body, status, case.headers | key) for case in good])
    assert _counted(clients[0]) == _counted(clients[1]) == _counted(clients[2])


def test_the_gate_holds_on_every_way(three: Callable[..., list[FlaskClient]]) -> None:
    clients = three(max_inflight=1)
    gates = [client.application.extensions["berth"].gate for client in clients]
    tickets = [gate.enter() for gate in gates]
    refused = [Case(case.path, case.body, 429, case.headers) for case in CASES if case.status == 200]
    _compare(clients, refused)
    for gate, ticket in zip(gates, tickets, strict=True):
        gate.leave(ticket)
    _compare(clients, CASES)
    assert [gate.inside for gate in gates] == [0, 0, 0]
    assert _counted(clients[0]) == _counted(clients[1]) == _counted(clients[2])


def test_a_body_over_the_limit_closes_the_connection_on_every_way(three: Callable[..., list[FlaskClient]]) -> None:
    clients = three(max_body_bytes=20)
    _compare(clients, [Case(case.path, case.body, 413, case.headers) for case in CASES if case.status == 200])
    answer = inline_of(clients[0]).answer_plain(as_sent(CASES[0]), "")
    assert answer is not None
    assert answer.closes
    assert answer.data.count(b"Connection: close") == 1


def test_what_is_not_ready_is_said_on_every_way(make_app: MakeApp, store: Path) -> None:
    clients = [make_app(store, models=SERVED, start=False) for _ in WAYS]
    _compare(clients, [Case(case.path, case.body, 503, case.headers) for case in CASES if case.status == 200])


@pytest.mark.parametrize("path", ["/predict/", "/%70redict", "/v2/models/%69ris/infer", "/v1/models/iris%3Apredict"])
def test_a_path_spelled_in_another_way_reaches_the_same_endpoint(client: FlaskClient, path: str) -> None:
    body = GOOD if "redict" in path[:10] else _infer() if "infer" in path else {"instances": [ROW]}
    assert client.post(path, json=body).status_code == 200
    assert inline_of(client).answer_plain(as_sent(Case(path, body)), "") is None


def test_other_requests_are_left_to_the_servers_parser(make_app: MakeApp, store: Path) -> None:
    inline = inline_of(make_app(store, models="iris@1", batch_max_rows=1))
    whole = as_sent(Case("/predict", GOOD))
    assert inline.answer_plain(whole, "") is not None
    assert inline.answer_plain(whole[:-1], "") == INCOMPLETE
    for other in (whole + b"x", whole.replace(b"POST", b"PUT"), whole.replace(b"/predict", b"/predict?a")):
        assert inline.answer_plain(other, "") is None


def test_gzip_is_not_unpacked_on_the_main_thread(make_app: MakeApp, store: Path) -> None:
    client = make_app(store, models="iris@1", batch_max_rows=1)
    body = gzip.compress(json.dumps(GOOD | {"model": ":" * 1_000_000}).encode())
    assert len(body) < 16_000
    case = Case("/predict", body, 404, {"Content-Encoding": "gzip"})
    assert inline_of(client).answer_plain(as_sent(case), "") is None
    assert pooled(client, case)[0] == 404


def test_what_would_wait_is_not_begun(make_app: MakeApp, store: Path) -> None:
    client = make_app(store, models="iris@1", batch_max_rows=1)
    service = client.application.extensions["berth"]
    rows = {"features": [ROW] * 65}
    assert inline_of(client).answer_plain(as_sent(Case("/predict", rows)), "") is None
    assert service.gate.inside == 0
    lines = client.get("/metrics").text.splitlines()
    assert {line.rpartition(" ")[2] for line in lines if line.startswith("berth_requests_total{")} == {"0.0"}
    few = service.express.answer_plain(as_sent(Case("/predict", {"features": [ROW] * 64})), "")
    assert few.data.startswith(b"HTTP/1.1 200 ")


def test_those_that_wait_for_their_turn_are_in_flight(make_app: MakeApp, store: Path) -> None:
    client = make_app(store, models="iris@1", batch_max_rows=1, max_inflight=3)
    request, inline = as_sent(Case("/predict", GOOD)), inline_of(client)
    inflight = re.compile(r"berth_inflight\{[^}]*\} (\S+)")
    seen = []
    for waiting in (5, 4, 3, 2, 1, 0):
        answer = inline.answer_plain(request, "", waiting)
        assert answer is not None
        found = inflight.search(client.get("/metrics").text)
        seen.append((answer.data[9:12], float(found[1]) if found else None))
    assert seen == [(b"429", 5), (b"429", 4), (b"429", 3), (b"200", 2), (b"200", 1), (b"200", 0)]
    assert inline.answer_plain(b"GET /livez HTTP/1.1\r\n\r\n", "", 2) is None
    assert client.application.extensions["berth"].gate.inside == 2
    assert inline.answer_plain(b"GET /livez HTTP/1.1\r\n\r\n", "", 0) is None
    assert client.application.extensions["berth"].gate.inside == 0
