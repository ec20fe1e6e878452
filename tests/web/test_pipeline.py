"""What happens around every request: ids, time limits, errors, headers, the log line and the metrics."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient

from web.asking import MakeApp, ReadLog

GOOD = {"features": [5.1, 3.5, 1.4, 0.2]}
PROBES = ["/livez", "/readyz", "/health", "/ping", "/v2/health/live", "/v2/health/ready"]


@pytest.fixture
def logging_client(make_app: MakeApp, store: Path, read_log: ReadLog) -> FlaskClient:
    """An application that logs at `info`; the lines of its start are read already."""
    client = make_app(store, models="iris@1", log_level="info", slot="blue")
    read_log()
    return client


@pytest.mark.parametrize("given", ["abc", "A-1_b.c", "x" * 128])
def test_a_sane_request_id_is_kept(client: FlaskClient, given: str) -> None:
    answer = client.post("/predict", json={}, headers={"X-Request-Id": given})
    assert answer.headers["X-Request-Id"] == given
    assert answer.json is not None
    assert answer.json["request_id"] == given


@pytest.mark.parametrize("given", ["", "a b", "x" * 129, "ü", "a,b", "<script>", "a\tb", "{}", '"'])
def test_any_other_request_id_is_replaced(client: FlaskClient, given: str) -> None:
    answer = client.get("/livez", headers={"X-Request-Id": given})
    assert re.fullmatch(r"[0-9a-f]{32}", answer.headers["X-Request-Id"])


def test_every_request_has_an_id_of_its_own(client: FlaskClient) -> None:
    assert len({client.get("/livez").headers["X-Request-Id"] for _ in range(20)}) == 20


def test_one_line_tells_of_a_request(logging_client: FlaskClient, read_log: ReadLog) -> None:
    trace = "0af7651916cd43dd8448eb211c80319c"
    headers = {"X-Request-Id": "r-1", "traceparent": f"00-{trace}-b7ad6b7169203331-01"}
    answer = logging_client.post("/predict", json={**GOOD, "model": "iris", "version": "1"}, headers=headers)
    (line,) = read_log()
    assert answer.headers["X-Berth-Slot"] == "blue"
    assert answer.headers["X-Berth-Model"] == "iris@1"
    assert 0 <= line.pop("ms") < 10_000
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", line.pop("ts"))
    wanted = {
        "level": "info",
        "request_id": "r-1",
        "trace_id": trace,
        "method": "POST",
        "route": "/predict",
        "status": 200,
        "model": "iris",
        "version": "1",
        "slot": "blue",
        "rows": 1,
        "key": "",
        "client": "127.0.0.1",
    }
    assert line.items() >= wanted.items()


@pytest.mark.parametrize("trace", ["", "00-xyz-1-01", f"00-{'A' * 32}-{'b' * 16}-01", "\n"])
def test_a_broken_trace_is_left_out(logging_client: FlaskClient, read_log: ReadLog, trace: str) -> None:
    logging_client.post("/predict", json=GOOD, headers={"traceparent": trace.strip()})
    assert read_log()[0]["trace_id"] == ""


def test_user_data_never_breaks_a_log_line(logging_client: FlaskClient, read_log: ReadLog, capfd: Any) -> None:
    evil = 'x\r\n{"level":"error"}\u2028\x1b[31m\x00'
    logging_client.post("/predict", json={**GOOD, "model": evil})
    logging_client.post("/predict", json={**GOOD, evil: 1})
    logging_client.post("/predict", json={"features": [[evil, 1, 2, 3]]})
    logging_client.get("/%0d%0a%1b[31m", headers={"X-Request-Id": "a b"})
    text = capfd.readouterr().out
    assert text.count("\n") == 4
    assert not set(text) & set("\r\x00\x1b\u2028")
    assert [json.loads(line)["status"] for line in text.splitlines()] == [404, 400, 400, 404]


def test_the_text_form_never_breaks_a_line_either(make_app: MakeApp, store: Path, read_log: Any, capfd: Any) -> None:
    client = make_app(store, log_level="info", log_format="text")
    capfd.readouterr()
    client.post("/predict", json={**GOOD, "model": "x\r\ny\x1b"})
    text = capfd.readouterr().out
    assert text.count("\n") == 1
    assert "route='/predict' status=404" in text
    assert not set(text) & set("\r\x1b")


def test_probes_are_not_logged_and_errors_are_named(logging_client: FlaskClient, read_log: ReadLog) -> None:
    for probe in PROBES:
        assert logging_client.get(probe).status_code == 200
    assert read_log() == []
    logging_client.post("/predict", json={"features": []})
    (line,) = read_log()
    assert (line["status"], line["code"]) == (400, "invalid_input")
    assert "empty" in line["error"]
    logging_client.get("/no/such/route")
    assert read_log()[0]["route"] == "unmatched"


@pytest.mark.parametrize("level", ["error", "warning"])
def test_a_higher_level_leaves_good_requests_out(make_app: MakeApp, store: Path, read_log: ReadLog, level: str) -> None:
    client = make_app(store, log_level=level)
    client.post("/predict", json=GOOD)
    assert read_log() == []


def shape_is_right(document: Any) -> bool:
    """Whether it is the one error shape."""
    return set(document) == {"error", "code", "request_id"} and all(isinstance(text, str) for text in document.values())


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/nowhere", 404, "not_found"),
        ("GET", "/predict/", 405, "method_not_allowed"),
        ("GET", "/predict", 405, "method_not_allowed"),
        ("DELETE", "/livez", 405, "method_not_allowed"),
        ("BREW", "/predict", 405, "method_not_allowed"),
        ("POST", "/%ff%fe", 404, "not_found"),
        ("GET", "/v2/models/roses", 404, "model_not_found"),
        ("GET", "/static/berth.css/../../etc/passwd", 404, "not_found"),
    ],
)
def test_routing_errors_have_the_one_shape(client: FlaskClient, method: str, path: str, status: int, code: str) -> None:
    answer = client.open(path, method=method)
    assert answer.status_code == status
    assert answer.json is not None
    assert shape_is_right(answer.json)
    assert answer.json["code"] == code
    assert ("Allow" in answer.headers) == (status == 405)


@pytest.mark.parametrize(
    ("kind", "status", "code", "said"),
    [
        ("value", 400, "rejected_by_model", "no such place"),
        ("runtime", 500, "prediction_failed", "the server's log"),
        ("memory", 500, "prediction_failed", "the server's log"),
    ],
)
def test_a_model_that_breaks(
    make_app: MakeApp, broken_store: Path, read_log: ReadLog, kind: str, status: int, code: str, said: str
) -> None:
    client = make_app(broken_store, allow_code=True)
    answer = client.post("/predict", json={"features": [kind]})
    assert answer.json is not None
    assert (answer.status_code, answer.json["code"]) == (status, code)
    assert shape_is_right(answer.json)
    assert said in answer.json["error"]
    assert "secret" not in answer.text
    assert client.post("/predict", json={"features": ["fine"]}).json == {
        "prediction": ["fine"],
        "model": "broken",
        "version": "1",
    }


def test_the_log_has_the_reason_that_the_client_is_not_told(
    make_app: MakeApp, broken_store: Path, read_log: ReadLog
) -> None:
    client = make_app(broken_store, allow_code=True)
    client.post("/predict", json={"features": ["runtime"]})
    assert any("secret of /srv/model.py" in json.dumps(line) for line in read_log())


def test_a_mistake_of_ours_is_told_without_its_insides(make_app: MakeApp, store: Path, read_log: ReadLog) -> None:
    client = make_app(store)

    def broken() -> str:
        raise KeyError("secret")

    client.application.view_functions["info"] = broken
    answer = client.get("/info")
    assert answer.status_code == 500
    assert answer.json is not None
    assert answer.json["code"] == "internal_error"
    assert shape_is_right(answer.json)
    assert "secret" not in answer.text
    broke = next(line for line in read_log() if "broke" in line.get("message", ""))
    assert "KeyError" in broke["error"]
    assert broke["request_id"] == answer.json["request_id"]


@pytest.mark.parametrize("given", ["0", "-1", "soon", "1.5", "9999999999", ""])
def test_a_time_limit_must_be_one(client: FlaskClient, given: str) -> None:
    answer = client.post("/predict", json=GOOD, headers={"X-Request-Timeout-Ms": given})
    assert answer.status_code == 400
    assert "X-Request-Timeout-Ms must be a whole number above 0" in answer.text


def test_the_shorter_time_limit_counts(make_app: MakeApp, store: Path) -> None:
    client = make_app(store, request_timeout_seconds=0.001)
    rows = {"features": [GOOD["features"]] * 50_000}
    answer = client.post("/predict", json=rows, headers={"X-Request-Timeout-Ms": "100000"})
    assert (answer.status_code, answer.json and answer.json["code"]) == (504, "deadline_exceeded")
    answer = make_app(store).post("/predict", json=rows, headers={"X-Request-Timeout-Ms": "1"})
    assert (answer.status_code, answer.json and answer.json["code"]) == (504, "deadline_exceeded")


def test_what_is_not_ready_is_told(make_app: MakeApp, store: Path) -> None:
    client = make_app(store, start=False)
    answer = client.post("/predict", json=GOOD)
    assert (answer.status_code, answer.json and answer.json["code"]) == (503, "not_ready")
    assert answer.headers["Retry-After"] == "1"
    assert client.get("/readyz").status_code == client.get("/health").status_code == 503
    assert client.get("/livez").status_code == 200


def sample(client: FlaskClient, name: str, *labels: str) -> float:
    """The sum of a metric's samples with all these labels."""
    lines = [line for line in client.get("/metrics").text.splitlines() if line.startswith(name + "{")]
    return sum(float(line.rpartition(" ")[2]) for line in lines if all(label in line for label in labels))


def test_requests_are_counted_by_protocol_status_and_model(make_app: MakeApp, store: Path) -> None:
    client = make_app(store, models="iris@1", slot="blue")
    for _ in range(3):
        client.post("/predict", json={**GOOD, "model": "iris", "version": "1"})
    client.post("/predict", json={**GOOD, "model": "roses"})
    client.post("/invocations", json={})
    client.get("/livez")
    good = ('model="iris"', 'version="1"', 'slot="blue"', 'protocol="predict"', 'status="200"')
    assert sample(client, "berth_requests_total", *good) == 3
    assert sample(client, "berth_requests_total", 'protocol="predict"', 'status="404"', 'model=""') == 1
    assert sample(client, "berth_requests_total", 'protocol="mlflow"', 'status="400"') == 1
    assert sample(client, "berth_requests_total") == 5
    assert sample(client, "berth_request_duration_seconds_count", 'model="iris"', 'version="1"') == 4
    assert sample(client, "berth_predictions_total", 'model="iris"', 'label="0"') == 3
    assert "/nowhere" not in client.get("/metrics").text


def test_the_gate_is_left_after_every_answer(make_app: MakeApp, store: Path) -> None:
    client = make_app(store, max_inflight=1)
    for document in (GOOD, {}, GOOD, {"features": None}, GOOD):
        assert client.post("/predict", json=document).status_code in (200, 400)
    client.post("/predict", data=b"x", content_type="text/plain")
    assert client.application.extensions["berth"].gate.inside == 0


def test_a_full_gate_refuses_before_the_body_is_read(make_app: MakeApp, store: Path) -> None:
    client = make_app(store, max_inflight=1)
    gate = client.application.extensions["berth"].gate
    ticket = gate.enter()

    class Unread:
        def read(self, size: int = -1) -> bytes:
            raise AssertionError("the body was read")

    environ = {"wsgi.input": Unread(), "CONTENT_LENGTH": "10", "CONTENT_TYPE": "application/json"}
    answer = client.post("/predict", environ_overrides=environ)
    assert (answer.status_code, answer.headers["Retry-After"]) == (429, "1")
    assert answer.json is not None
    assert shape_is_right(answer.json)
    assert client.get("/livez").status_code == 200
    gate.leave(ticket)
    assert client.post("/predict", json=GOOD).status_code == 200
    assert sample(client, "berth_rejected_total", 'reason="overloaded"') == 1


def test_counters_of_a_ready_model_begin_at_zero_and_refusals_have_its_name(make_app: MakeApp, store: Path) -> None:
    client = make_app(store, models="iris@1", max_inflight=1)
    for status in ("200", "500"):
        assert sample(client, "berth_requests_total", f'protocol="v2",slot="",status="{status}"') == 0
    assert sample(client, "berth_rejected_total", 'model="iris",reason="deadline_exceeded"') == 0
    assert sample(client, "berth_predictions_total", 'model="iris"') == 0
    gate = client.application.extensions["berth"].gate
    ticket = gate.enter()
    assert client.post("/predict", json={"features": [1, 2, 3, 4]}).status_code == 429
    gate.leave(ticket)
    assert sample(client, "berth_rejected_total", 'model="iris",reason="overloaded"') == 1
    assert sample(client, "berth_requests_total", 'model="iris",protocol="predict",slot="",status="429"') == 1
