"""The payload log over HTTP: what a line tells of each protocol and of failures, and what it leaves out."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient

from berth.app import create_app
from berth.errors import SettingsError
from berth.web.auth import encode_key
from collector import wait_for
from web.asking import MakeApp, ReadLog, tensor

Rows = Sequence[Sequence[float]]
# The second column of iris@1.
REDACT = "redact=sepal+width+%28cm%29"
WIDTH = "sepal width (cm)"


class Logged:
    """A client whose payloads go to a file."""

    def __init__(self, client: FlaskClient, path: Path) -> None:
        self.client = client
        self._path = path
        self._seen = 0

    def line(self) -> dict[str, Any]:
        """The next line."""
        wait_for(lambda: self._path.read_bytes().count(b"\n") > self._seen)
        self._seen += 1
        document: dict[str, Any] = json.loads(self._path.read_bytes().splitlines()[self._seen - 1])
        return document


@pytest.fixture
def logged(make_app: MakeApp, store: Path, tmp_path: Path) -> Logged:
    """The application with one column hidden."""
    path = tmp_path / "p.jsonl"
    return Logged(make_app(store, models="iris@1", slot="blue", payload_log=f"{path}?{REDACT}&max_bytes=4000"), path)


def test_a_line_tells_the_whole_exchange(logged: Logged, iris_rows: Rows) -> None:
    trace = "0af7651916cd43dd8448eb211c80319c"
    headers = {"X-Request-Id": "one", "traceparent": f"00-{trace}-b7ad6b7169203331-01"}
    logged.client.post("/predict", json={"features": iris_rows[0]}, headers=headers)
    line = logged.line()
    assert line.pop("ts").endswith("Z")
    assert 0 < line.pop("ms") < 10_000
    row = iris_rows[0]
    assert line == {
        "request_id": "one",
        "trace_id": trace,
        "protocol": "predict",
        "model": "iris",
        "version": "1",
        "slot": "blue",
        "status": 200,
        "request": {"features": [row[0], "***", row[2], row[3]]},
        "response": {"prediction": [0], "model": "iris", "version": "1"},
    }


def test_every_protocol_is_logged_and_hidden(logged: Logged, iris_rows: Rows) -> None:
    hidden = [[row[0], "***", row[2], row[3]] for row in iris_rows]
    logged.client.post("/v1/models/iris:predict", json={"instances": iris_rows})
    line = logged.line()
    assert (line["protocol"], line["request"]) == ("v1", {"instances": hidden})
    assert line["response"] == {"predictions": [0, 1, 2]}
    flat = [value for row in iris_rows for value in row]
    logged.client.post("/v2/models/iris/infer", json={"inputs": [tensor("features", flat, [3, 4])]})
    line = logged.line()
    assert line["protocol"] == "v2"
    assert line["request"]["inputs"][0]["data"] == [value for row in hidden for value in row]
    csv = f"sepal length (cm),{WIDTH},petal length (cm),petal width (cm)\n5.1,3.5,1.4,0.2\n"
    logged.client.post("/invocations", data=csv, content_type="text/csv")
    line = logged.line()
    assert (line["protocol"], line["status"]) == ("mlflow", 200)
    assert line["request"].splitlines()[1] == "5.1,***,1.4,0.2"


def test_binary_tensors_stay_out(logged: Logged) -> None:
    inputs = [
        {"name": "features", "shape": [1, 4], "datatype": "FP64", "parameters": {"binary_data_size": 32}},
    ]
    head = json.dumps({"inputs": inputs, "parameters": {"binary_data_output": True}}).encode()
    headers = {"Inference-Header-Content-Length": str(len(head))}
    answer = logged.client.post("/v2/models/iris/infer", data=head + bytes(32), headers=headers)
    assert answer.status_code == 200, answer.data
    line = logged.line()
    assert line["request"]["inputs"] == inputs
    assert {output["name"] for output in line["response"]["outputs"]} == {"prediction", "probabilities"}


def test_failures_are_logged_without_the_values_they_quote(logged: Logged) -> None:
    logged.client.post("/predict", json={"features": [1, "secret", 3, 4]})
    line = logged.line()
    assert (line["status"], line["code"], line["error"]) == (400, "invalid_input", "***")
    assert line["request"] == {"features": [1, "***", 3, 4]}
    assert line["response"]["error"] == "***"
    logged.client.post("/predict", data=b'{"features": [1,')
    assert logged.line()["request"] == {"redacted": True, "bytes": 16}
    logged.client.post("/v2/models/nobody/infer", json={"inputs": []})
    line = logged.line()
    assert (line["status"], line["model"], line["request"]) == (404, "", None)


def test_a_long_body_is_told_by_its_length(logged: Logged, iris_rows: Rows) -> None:
    body = json.dumps({"features": list(iris_rows) * 100}).encode()
    assert logged.client.post("/predict", data=body).status_code == 200
    line = logged.line()
    assert line["request"] == {"truncated": True, "bytes": len(body)}
    assert len(line["response"]["prediction"]) == 300


def test_only_prediction_routes_are_logged(logged: Logged, iris_rows: Rows) -> None:
    for path in ("/info", "/livez", "/v2/models/iris", "/nowhere"):
        logged.client.get(path)
    logged.client.post("/predict", json={"features": iris_rows[0]}, headers={"X-Request-Id": "this"})
    assert logged.line()["request_id"] == "this"


def test_who_is_not_known_fills_no_log(make_app: MakeApp, store: Path, tmp_path: Path, iris_rows: Rows) -> None:
    (tmp_path / "keys").write_text(f"me:{encode_key('secret')}\n")
    path = tmp_path / "p.jsonl"
    client = make_app(store, models="iris@1", payload_log=path, api_keys_file=tmp_path / "keys")
    logged, body = Logged(client, path), {"features": iris_rows[0]}
    assert client.post("/predict", json=body, headers={"X-Api-Key": "guess"}).status_code == 401
    assert client.post("/predict", json=body, headers={"X-Api-Key": "secret"}).status_code == 200
    assert logged.line()["status"] == 200


def test_losses_are_a_metric(make_app: MakeApp, store: Path, iris_rows: Rows) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("no /dev/full")
    client = make_app(store, models="iris@1", payload_log="/dev/full")
    assert client.post("/predict", json={"features": iris_rows[0]}).status_code == 200
    wanted = 'berth_payload_log_dropped_total{model="",reason="write",slot="",version=""} 1.0'
    wait_for(lambda: wanted in client.get("/metrics").text)


def test_bad_options_stop_the_start(store: Path, tmp_path: Path) -> None:
    environ = {"BERTH_MODEL_STORE": str(store), "BERTH_PAYLOAD_LOG": f"{tmp_path}/p?sampel=1"}
    with pytest.raises(SettingsError, match="unknown option 'sampel'"):
        create_app(environ | {"BERTH_RUN_DIR": str(tmp_path)})


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/predict", {"features": [1, "987654321", 3, 4]}),
        ("/predict", {"features": {WIDTH + " ": "987654321"}}),
        ("/v1/models/iris:predict", {"instances": [[1, "987654321", 3, 4]]}),
        ("/v2/models/iris/infer", {"inputs": [tensor("features", [1, "987654321", 3, 4], [1, 4])]}),
        ("/invocations", {"dataframe_split": {"columns": ["Sepal Widths"], "data": [["987654321"]]}}),
        ("/invocations", {"instances": [{"sepal-width": "987654321"}]}),
    ],
)
def test_no_line_quotes_a_hidden_value(
    make_app: MakeApp, store: Path, tmp_path: Path, read_log: ReadLog, path: str, body: Any
) -> None:
    file = tmp_path / "p.jsonl"
    client = make_app(store, models="iris@1", payload_log=f"{file}?{REDACT}", log_level="debug")
    read_log()
    assert client.post(path, json=body).status_code == 400
    lines = read_log()
    assert "987654321" not in json.dumps(lines) + json.dumps(Logged(client, file).line())
    (line,) = [line for line in lines if "route" in line]
    assert (line["code"], line["error"]) == ("invalid_input", "***")
    client.post("/predict", json={"features": [1, 2, 3, 4], "model": "nobody"})
    assert "nobody" in json.dumps(read_log())


def test_a_model_that_breaks_quotes_no_hidden_value(
    make_app: MakeApp, broken_store: Path, tmp_path: Path, read_log: ReadLog
) -> None:
    client = make_app(broken_store, allow_code=True, payload_log=f"{tmp_path}/p.jsonl?redact=kind", log_level="debug")
    assert client.post("/predict", json={"features": ["runtime"]}).status_code == 500
    lines = json.dumps(read_log())
    assert "secret of" not in lines
    assert "RuntimeError" in lines
