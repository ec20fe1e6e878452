"""Whichever way a request comes in, the answer is the same: status, headers, body, metrics, log and payload lines.

The ways: inline (bytes to bytes, on the worker's main thread), pooled (WSGI before Flask's dispatch), Flask's routes.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient

from berth.web.endpoints import ENDPOINTS
from berth.worker.inline import InlineAnswer
from collector import wait_for
from web.asking import MakeApp
from web.ways import WAYS, Case, as_sent, compare, inline_of, pooled

ROW = [5.1, 3.5, 1.4, 0.2]
GOOD = {"features": ROW}
SERVED = "iris@1,iris@2,people@1"
CSV, BINARY, FORM = "text/csv", "application/octet-stream", "application/x-www-form-urlencoded"
NAMES = ["sepal length (cm)", "sepal width (cm)", "petal length (cm)", "petal width (cm)"]


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
    Case(V2_VERSION, _infer("input-0", outputs=[{"name": "predict"}])),
    Case(V2_VERSION, _infer(outputs=[{"name": "predict"}, {"name": "prediction"}]), 400),
    Case("/v2/models/nobody/infer", _infer(), 404),
    Case("/v2/models/iris/versions/9/infer", _infer(), 404),
    Case(V1, {"instances": [ROW]}),
    Case(V1, {"inputs": {name: [1.0] for name in NAMES}}),
    Case(V1, {"instances": [ROW], "outputs": ["predict", "predict_proba"]}, headers={"Content-Type": FORM}),
    Case(V1, {"rows": [ROW]}, 400),
    Case(V1_VERSION, {"instances": [ROW]}),
    Case("/v1/models/nobody:predict", {"instances": [ROW]}, 404),
    Case("/invocations", {"instances": [ROW]}),
    Case("/invocations", {"dataframe_split": {"columns": NAMES, "data": [ROW]}}),
    Case("/invocations", (",".join(NAMES) + "\n5.1,3.5,1.4,0.2\n").encode(), 200, {"Content-Type": CSV}),
    Case("/invocations", b"a,b\n1,2\n", 400, {"Content-Type": CSV}),
    Case("/invocations", {"dataframe_records": [dict(zip([*NAMES, "id"], [*ROW, 7], strict=True))]}),
    Case("/invocations", b'{"instances": [[NaN, 1, 2, 3]], "params": {"outputs": ["probabilities"]}}', 400),
    Case("/invocations", {}, 400),
    Case("/invocations", GOOD, 415, {"Content-Type": "text/plain"}),
]


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
    compare(clients, CASES)
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
        compare(clients, [Case(case.path, case.body, status, case.headers | key) for case in good])
    assert _counted(clients[0]) == _counted(clients[1]) == _counted(clients[2])


def test_the_gate_holds_on_every_way(three: Callable[..., list[FlaskClient]]) -> None:
    clients = three(max_inflight=1)
    gates = [client.application.extensions["berth"].gate for client in clients]
    tickets = [gate.enter() for gate in gates]
    refused = [Case(case.path, case.body, 429, case.headers) for case in CASES if case.status == 200]
    compare(clients, refused)
    for gate, ticket in zip(gates, tickets, strict=True):
        gate.leave(ticket)
    compare(clients, CASES)
    assert [gate.inside for gate in gates] == [0, 0, 0]
    assert _counted(clients[0]) == _counted(clients[1]) == _counted(clients[2])


def test_a_body_over_the_limit_closes_the_connection_on_every_way(three: Callable[..., list[FlaskClient]]) -> None:
    clients = three(max_body_bytes=20)
    compare(clients, [Case(case.path, case.body, 413, case.headers) for case in CASES if case.status == 200])
    answer = inline_of(clients[0]).answer_plain(as_sent(CASES[0]), "")
    assert answer is not None
    assert answer.closes
    assert answer.data.count(b"Connection: close") == 1


def test_what_is_not_ready_is_said_on_every_way(make_app: MakeApp, store: Path) -> None:
    clients = [make_app(store, models=SERVED, start=False) for _ in WAYS]
    compare(clients, [Case(case.path, case.body, 503, case.headers) for case in CASES if case.status == 200])


@pytest.mark.parametrize("path", ["/predict/", "/%70redict", "/v2/models/%69ris/infer", "/v1/models/iris%3Apredict"])
def test_a_path_spelled_in_another_way_reaches_the_same_endpoint(client: FlaskClient, path: str) -> None:
    body = GOOD if "redict" in path[:10] else _infer() if "infer" in path else {"instances": [ROW]}
    assert client.post(path, json=body).status_code == 200
    assert inline_of(client).answer_plain(as_sent(Case(path, body)), "") is None


def test_other_requests_are_left_to_the_servers_parser(make_app: MakeApp, store: Path) -> None:
    inline = inline_of(make_app(store, models="iris@1", batch_max_rows=1))
    whole = as_sent(Case("/predict", GOOD))
    assert inline.answer_plain(whole, "") is not None
    assert inline.answer_plain(whole[:-1], "") == InlineAnswer(b"", whole_bytes=len(whole))
    lines = as_sent(Case("/predict", b"[1]\n[2]\n", headers={"Content-Type": "application/x-ndjson"}))
    assert inline.answer_plain(lines[:-1], "") is None  # it is served line by line
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
