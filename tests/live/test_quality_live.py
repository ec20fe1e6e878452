"""Labels of a day, by receipts and by a payload log, over every protocol: both give scikit-learn's accuracy."""

from __future__ import annotations

import http.client
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from sklearn.datasets import load_iris
from sklearn.metrics import accuracy_score

from berth.cli.main import berth, main
from berth.loaders.formats import LoadOptions
from berth.publishing.adding import AddRequest, add_version
from collector import wait_for
from live.berths import ask, running_ready
from live.server import HOST, Server

pytestmark = [pytest.mark.live, pytest.mark.slow]
ROWS = 240
WAYS = ("/predict", "/v2/models/iris/infer", "/v1/models/iris:predict", "/invocations")


def bodies(row: list[float]) -> list[dict[str, Any]]:
    tensor = {"name": "features", "shape": [1, 4], "datatype": "FP64", "data": row}
    outputs = {"outputs": ["prediction", "probabilities"]}
    return [{"features": [row], **outputs}, {"inputs": [tensor]}, {"instances": [row]}, {"inputs": [row]}]


def predict(connection: http.client.HTTPConnection, number: int, row: list[float]) -> str:
    """The receipt of the request with this number, which goes another way each time."""
    at = number % len(WAYS)
    headers = {"Content-Type": "application/json", "X-Request-Id": f"r{number}"}
    connection.request("POST", WAYS[at], json.dumps(bodies(row)[at]), headers)
    response = connection.getresponse()
    response.read()
    return response.headers["X-Berth-Receipt"] or ""


@pytest.fixture(scope="module")
def added(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with iris@1, which promises an accuracy of 0.96."""
    import joblib
    from sklearn.linear_model import LogisticRegression

    folder = tmp_path_factory.mktemp("promised")
    iris = load_iris()
    joblib.dump(LogisticRegression(max_iter=1000).fit(iris.data, iris.target), folder / "iris.joblib")
    np.savetxt(folder / "sample.csv", iris.data, delimiter=",")
    request = AddRequest("iris", "1", sample=folder / "sample.csv", metadata={"metrics": {"accuracy": 0.96}})
    add_version(folder / "store", folder / "iris.joblib", request, LoadOptions())
    return folder


@pytest.fixture(scope="module")
def server(added: Path) -> Iterator[Server]:
    (added / "keys").write_text("k" * 32, "utf-8")
    settings = {"feedback_key_file": added / "keys", "payload_log": added / "payloads.jsonl", "workers": 2}
    with running_ready(added / "store", added, **settings) as running:
        yield running


def test_receipts_and_the_payload_log_give_one_accuracy(server: Server, added: Path) -> None:
    features, target = load_iris(return_X_y=True)
    assert ask(server, "GET", "/quality")[1]["models"][0]["labels"] == 0  # known by its reference alone
    connection = http.client.HTTPConnection(HOST, server.port, timeout=30)
    receipts = [predict(connection, at, features[at % 150].tolist()) for at in range(ROWS)]
    connection.close()
    # Every fifth label is another class.
    truth = [int((target[at % 150] + (at % 5 == 0)) % 3) for at in range(ROWS)]
    items = [{"receipt": text, "truth": label} for text, label in zip(receipts, truth, strict=True)]
    assert ask(server, "POST", "/feedback", items)[1]["accepted"] == ROWS
    online = CliRunner().invoke(berth, ["quality", server.url, "--json"])
    report = json.loads(online.stdout)["models"][0]
    assert (online.exit_code, report["labels"], report["reference"]) == (1, ROWS, {"accuracy": 0.96})

    pods = ["--headless-host", "127.0.0.1", "--port", str(server.port)]
    assert json.loads(CliRunner().invoke(berth, ["quality", *pods, "--json"]).stdout)["models"][0] == report

    log = added / "payloads.jsonl"
    wait_for(lambda: log.exists() and len(log.read_bytes().splitlines()) == ROWS, 10)
    lines = [json.loads(line) for line in log.read_bytes().splitlines()]
    assert {line["protocol"] for line in lines} == {"predict", "v2", "v1", "mlflow"}
    labels = [f"r{at},{label},{'odd' if at % 2 else 'even'}" for at, label in enumerate(truth)]
    (added / "truth.csv").write_text("\n".join(["request_id,truth,half", *labels, ""]), "utf-8")
    files = [str(log), str(added / "truth.csv"), "--store", str(added / "store")]
    offline = CliRunner().invoke(berth, ["quality", *files, "--json", "--by", "half"])
    found = json.loads(offline.stdout)["models"][0]
    assert (offline.exit_code, found["rows"]) == (1, ROWS)
    predicted = [by_id["prediction"] for by_id in predictions(lines)]
    wanted = accuracy_score(truth, predicted)
    assert report["accuracy"]["value"] == found["whole"]["accuracy"]["value"] == wanted
    assert found["whole"]["log_loss"]["value"] > 0  # of the requests that wanted probabilities
    assert {group["part"] for group in found["groups"]} == {"odd", "even"}

    drift = CliRunner().invoke(berth, ["drift", str(log), "--model", "iris", "--store", str(added / "store"), "--json"])
    wait_for(lambda: ask(server, "GET", "/drift")[1]["models"][0]["rows"] == ROWS)
    assert counts(json.loads(drift.stdout)) == counts(ask(server, "GET", "/drift")[1])

    table = CliRunner().invoke(berth, ["quality", *files, "--on", "request_id"])
    assert "240 of 240 labels belong to a prediction" in table.stderr
    assert "worse than the version was added with: accuracy 0.96" in table.stdout
    shown = CliRunner().invoke(berth, ["quality", server.url])
    assert "most frequent mistakes: " in shown.stdout


def counts(document: dict[str, Any]) -> dict[str, list[int]]:
    return {feature["name"]: feature["observed"] for feature in document["models"][0]["features"]}


def predictions(lines: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """What the model gives for each request, in their order, from the model itself."""
    from sklearn.linear_model import LogisticRegression

    iris = load_iris()
    model = LogisticRegression(max_iter=1000).fit(iris.data, iris.target)
    assert len(lines) == ROWS
    return [{"prediction": int(model.predict(iris.data[[at % 150]])[0])} for at in range(ROWS)]


def test_a_report_can_be_chosen(server: Server) -> None:
    assert len(ask(server, "GET", "/quality?model=iris&version=1")[1]["models"]) == 1
    assert ask(server, "GET", "/quality?model=none")[0] == 404
    assert ask(server, "GET", "/quality?version=1")[0] == 400


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        ([], 2, "give the URL of a server, --headless-host HOST, or PAYLOADS.jsonl TRUTH.csv"),
        (["one.jsonl"], 2, "give the URL of a server"),
        (["none.jsonl", "none.csv"], 1, "No such file or directory: 'none.csv'"),
        (["http://127.0.0.1:1"], 1, "http://127.0.0.1:1/quality: "),
    ],
)
def test_wrong_usage_is_one_line(
    arguments: list[str], code: int, message: str, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["quality", *arguments])
    assert ended.value.code == code
    assert message in capfd.readouterr().err
