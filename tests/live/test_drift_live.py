"""Drift on a real server: every way to predict is counted, a killed worker's counts stay, unusual values are named."""

from __future__ import annotations

import os
import signal
from collections import Counter
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from berth.loaders.formats import LoadOptions
from berth.publishing.adding import AddRequest, add_version
from collector import wait_for
from live.berths import ask, running_ready
from live.server import Server

pytestmark = pytest.mark.live
COLUMNS = ["sepal length (cm)", "sepal width (cm)", "petal length (cm)", "petal width (cm)"]
ROW = [5.1, 3.5, 1.4, 0.2]
BLANK = {"name": "features", "shape": [1, 4], "datatype": "FP64", "data": ROW}
WAYS: dict[str, Any] = {
    "/predict": {"features": ROW},
    "/v2/models/iris/infer": {"inputs": [BLANK]},
    "/v2/models/iris/versions/1/infer": {"inputs": [BLANK]},
    "/v1/models/iris:predict": {"instances": [ROW]},
    "/invocations": {"inputs": [ROW]},
}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Two workers over an iris model that was added with its sample."""
    import joblib
    from sklearn.datasets import load_iris
    from sklearn.linear_model import LogisticRegression

    folder = tmp_path_factory.mktemp("drift")
    iris = load_iris()
    joblib.dump(LogisticRegression(max_iter=1000).fit(iris.data, iris.target), folder / "iris.joblib")
    np.savetxt(folder / "sample.csv", iris.data, delimiter=",", header=",".join(COLUMNS), comments="")
    request = AddRequest("iris", "1", sample=folder / "sample.csv")
    add_version(folder / "store", folder / "iris.joblib", request, LoadOptions())
    with running_ready(folder / "store", folder, workers=2) as running:
        yield running


def report(server: Server) -> dict[str, Any]:
    status, document = ask(server, "GET", "/drift")
    assert status == 200
    found: dict[str, Any] = document["models"][0]
    return found


def samples(server: Server, name: str) -> Counter[str]:
    text = ask(server, "GET", "/metrics")[1]
    lines = [line for line in text.splitlines() if line.startswith(name)]
    return Counter({line.rpartition(" ")[0]: float(line.rpartition(" ")[2]) for line in lines})


def test_every_way_is_counted_and_a_killed_worker_is_not_forgotten(server: Server) -> None:
    sent = 0
    for _ in range(20):
        for path, body in WAYS.items():
            assert ask(server, "POST", path, body)[0] == 200
            sent += 1
    wait_for(lambda: report(server)["rows"] == sent)
    found = report(server)
    assert {feature["name"] for feature in found["features"]} == {*COLUMNS, "prediction"}
    assert all(sum(feature["observed"]) == sent for feature in found["features"])
    assert all(feature["drifted"] for feature in found["features"])  # one row, a hundred times

    os.kill(min(server.workers()), signal.SIGKILL)
    assert report(server)["rows"] == sent
    wait_for(lambda: ask(server, "GET", "/readyz")[0] == 200, 20)
    for _ in range(50):
        assert ask(server, "POST", "/predict", WAYS["/predict"])[0] == 200
    wait_for(lambda: report(server)["rows"] == sent + 50)
    assert sum(samples(server, "berth_drift_rows{").values()) == sent + 50
    assert samples(server, "berth_drift_features{")[
        'berth_drift_features{model="iris",slot="",state="drifted",version="1"}'
    ] == 5  # fmt: skip
    psi, threshold = samples(server, "berth_drift_psi{"), samples(server, "berth_drift_threshold{")
    assert len(psi) == len(threshold) == 5


def test_unusual_values_are_named_where_they_are_asked_for(server: Server) -> None:
    odd = {"features": [ROW, [5.1, 3.5, 1.4, 900.0]], "parameters": {"unusual": True}}
    status, document = ask(server, "POST", "/predict", odd)
    assert status == 200
    assert document["unusual"] == [[], [{"feature": "petal width (cm)", "kind": "above", "value": 900.0}]]
    assert "unusual" not in ask(server, "POST", "/predict", {"features": ROW})[1]
    tensor = BLANK | {"shape": [2, 4], "data": [*ROW, 5.1, 3.5, 1.4, 901.0]}
    path = "/v2/models/iris/infer"
    status, document = ask(server, "POST", path, {"inputs": [tensor], "parameters": {"unusual": True}})
    assert document["parameters"] == {
        "unusual": [[], [{"feature": "petal width (cm)", "kind": "above", "value": 901.0}]]
    }
    assert "parameters" not in ask(server, "POST", path, {"inputs": [tensor]})[1]
    status, document = ask(server, "POST", path, {"inputs": [tensor], "parameters": {"unusual": 1}})
    assert (status, document["code"]) == (400, "invalid_input")
    key = 'berth_unusual_values_total{feature="petal width (cm)",kind="above",model="iris",slot="",version="1"}'
    wait_for(lambda: samples(server, "berth_unusual_values_total")[key] == 3)
    status, document = ask(server, "POST", "/predict", {"features": ROW, "parameters": {"unusual": 1}})
    assert (status, document["code"]) == (400, "invalid_input")


def test_a_report_can_be_chosen(server: Server) -> None:
    assert len(ask(server, "GET", "/drift?model=iris&version=1")[1]["models"]) == 1
    assert ask(server, "GET", "/drift?model=none")[0] == 404
    assert ask(server, "GET", "/drift?version=1")[0] == 400
