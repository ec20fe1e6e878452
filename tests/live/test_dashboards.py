"""Every query of every dashboard and alert returns data from a real Prometheus that scrapes a loaded server."""

from __future__ import annotations

import http.client
import json
import re
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pytest
import yaml
from sklearn.datasets import load_iris
from sklearn.linear_model import LinearRegression, LogisticRegression

from berth.loaders.formats import LoadOptions
from berth.publishing.adding import AddRequest, add_version
from berth.telemetry.metrics.drift_metrics import DriftCollector
from berth.telemetry.metrics.registry import Metrics
from live.berths import add_sleeper, ask, ask_on, running_ready
from live.prometheus import PROGRAM, Prometheus
from live.server import HOST, Server

pytestmark = [
    pytest.mark.live,
    pytest.mark.slow,
    pytest.mark.skipif(PROGRAM is None, reason="no prometheus on PATH"),
]
CHART = Path(__file__).parents[2] / "chart" / "files"
POD = {"namespace": "shop", "pod": "iris-berth-blue-1"}
# As the chart's templates and a dashboard's variables fill them in, with a range in which the load lies.
WORDS = {
    "NAMESPACE": "shop", "FULLNAME": "iris-berth", "SLOT_NAMES": "iris-berth-blue|iris-berth-green",
    "CHECK_JOBS": "iris-berth-gate", "SCORING_JOBS": "iris-berth-scoring-.*", "WATCH_MINUTES": "60",
    "$namespace": "shop", "$slot": ".*", "$model": ".*", "$__rate_interval": "20s", "[5m]": "[20s]",
}  # fmt: skip
# What kube-state-metrics says of the cluster, which is not here.
CLUSTER = """
kube_horizontalpodautoscaler_status_current_replicas{horizontalpodautoscaler="iris-berth-blue"} 3
kube_horizontalpodautoscaler_spec_max_replicas{horizontalpodautoscaler="iris-berth-blue"} 3
kube_horizontalpodautoscaler_spec_min_replicas{horizontalpodautoscaler="iris-berth-blue"} 1
kube_pod_container_status_restarts_total{container="berth"} 0
kube_job_status_failed{job_name="iris-berth-gate"} 1
kube_job_status_failed{job_name="iris-berth-scoring-1"} 1
"""


def read_queries() -> dict[str, str]:
    """Every query by its place: `bool` makes the comparisons of alerts return 0 where they do not hold."""
    queries = {}
    for path in sorted((CHART / "alerts").glob("*.yaml")):
        rule = yaml.safe_load(path.read_text("utf-8"))
        compared = re.sub(r"(?<=\s)(>=|<=|==|!=|>|<)(?=\s)", r"\1 bool", rule["expr"])
        queries[rule["alert"]] = compared.replace("absent(", "count(")
    for path in sorted((CHART / "dashboards").glob("*.json")):
        for panel in json.loads(path.read_text("utf-8"))["panels"]:
            for target in panel["targets"]:
                queries[f"{path.stem}: {panel['title']} {target['refId']}"] = target["expr"]
    for word, value in WORDS.items():
        queries = {place: query.replace(word, value) for place, query in queries.items()}
    return queries


def read_families() -> set[str]:
    """Every metric that is declared, as a name that its samples have."""
    found = set()
    for family in (*Metrics().registry.collect(), *DriftCollector(lambda: [], "").collect()):
        found.add(family.name + {"counter": "_total", "histogram": "_count", "summary": "_count"}.get(family.type, ""))
    return found


def fill_store(folder: Path) -> Path:
    """iris (classes, with a reference and a sample), prices (numbers, likewise, twice) and sleeper (slow)."""
    iris = load_iris()
    np.savetxt(folder / "iris.csv", iris.data, delimiter=",")
    np.savetxt(folder / "prices.csv", iris.data[:, :3], delimiter=",")
    models = {
        "iris": (LogisticRegression(max_iter=1000).fit(iris.data, iris.target), {"accuracy": 0.96}),
        "prices": (LinearRegression().fit(iris.data[:, :3], iris.data[:, 3]), {"mae": 0.2}),
    }
    for name, (model, figures) in models.items():
        joblib.dump(model, folder / f"{name}.joblib")
        request = AddRequest(name, "1", sample=folder / f"{name}.csv", metadata={"metrics": figures})
        add_version(folder / "store", folder / f"{name}.joblib", request, LoadOptions())
    add_version(folder / "store", folder / "prices.joblib", AddRequest("prices", "2"), LoadOptions())
    add_sleeper(folder / "store", folder / "sleeper")
    return folder / "store"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One worker with every feature on, and limits that the load reaches."""
    folder = tmp_path_factory.mktemp("loaded")
    (folder / "keys").write_text("k" * 32, "utf-8")
    arms = [{"model": "prices@1"}, {"model": "prices@2"}]
    split = {"name": "q4", "model": "split", "arms": arms}
    shadowed = {"name": "next", "model": "prices", "shadow": {"model": "prices@1", "share": 1}}
    (folder / "experiments.json").write_text(json.dumps({"experiments": [split, shadowed]}), "utf-8")
    settings = {
        "models": "iris,prices@1,prices@2,sleeper", "slot": "blue", "workers": 1, "allow_code": "true",
        "max_inflight": 4,
        "feedback_key_file": folder / "keys", "cache_bytes": 1 << 20, "watch_rows": 500,
        "payload_log": "http://127.0.0.1:9/?queue=1", "experiment_file": folder / "experiments.json",
    }  # fmt: skip
    with running_ready(fill_store(folder), folder, **settings) as running:
        yield running


@pytest.fixture(scope="module")
def cluster() -> Iterator[int]:
    """The port at which the cluster's own metrics are served."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/plain; version=0.0.4")
            self.end_headers()
            self.wfile.write(CLUSTER.encode())

        def log_message(self, format: str, *args: object) -> None:
            """Nobody reads it."""

    with ThreadingHTTPServer((HOST, 0), Handler) as running:
        thread = threading.Thread(target=running.serve_forever)
        thread.start()
        yield running.server_port
        running.shutdown()
        thread.join()


def label(server: Server, model: str, features: list[float], truths: list[Any]) -> None:
    """Predict rows one by one, send back what came true, and a reward for the last."""
    receipts = []
    connection = http.client.HTTPConnection(HOST, server.port, timeout=30)
    for _ in truths:
        body = json.dumps({"features": features, "model": model})
        connection.request("POST", "/predict", body, {"Content-Type": "application/json"})
        response = connection.getresponse()
        response.read()
        receipts.append(response.headers["X-Berth-Receipt"])
    items: list[dict[str, Any]] = [{"receipt": text, "truth": it} for text, it in zip(receipts, truths, strict=True)]
    items.append({"receipt": receipts[-1], "reward": 0.5})
    assert ask_on(connection, "POST", "/feedback", items)[1]["rejected"] == []
    connection.close()


def reward_arms(server: Server) -> None:
    """Rewards for both arms of the experiment, enough for an interval of their difference."""
    connection = http.client.HTTPConnection(HOST, server.port, timeout=30)
    body = json.dumps({"features": load_iris().data[0, :3].tolist(), "model": "split"})
    receipts = []
    for _ in range(400):
        connection.request("POST", "/predict", body, {"Content-Type": "application/json"})
        response = connection.getresponse()
        response.read()
        receipts.append(response.headers["X-Berth-Receipt"])
    for start in range(0, len(receipts), 20):
        items = [{"receipt": text, "reward": 0.5} for text in receipts[start : start + 20]]
        assert ask_on(connection, "POST", "/feedback", items)[1]["rejected"] == []
    connection.close()


def load_once(server: Server) -> None:
    """A turn of everything: drifted rows, too many rows, labels, errors, a full gate and a deadline."""
    iris = load_iris().data
    shifted = (iris + np.array([0, 0, 0, 900])).tolist()
    for model, rows in (("iris", shifted * 8), ("prices", (iris[:, :3] + 900).tolist())):
        assert ask(server, "POST", "/predict", {"features": rows, "model": model})[0] == 200
    assert ask(server, "POST", "/predict", {"features": iris[0, :3].tolist(), "model": "split"})[0] == 200
    label(server, "iris", iris[0].tolist(), [0, 0, 1])
    label(server, "prices", iris[0, :3].tolist(), [0.2, 5.0])
    slow = {"features": [[0.3]], "model": "sleeper"}
    with ThreadPoolExecutor(8) as pool:
        statuses = [one[0] for one in pool.map(lambda _: ask(server, "POST", "/predict", slow), range(8))]
    assert 429 in statuses
    assert ask(server, "POST", "/predict", slow, X_Request_Timeout_Ms="20")[0] == 504
    assert ask(server, "POST", "/predict", {"features": "no"})[0] == 400


def list_without_data(prometheus: Prometheus, queries: dict[str, str]) -> list[str]:
    """The places of the queries that return nothing, or nothing but NaN."""
    return [place for place, query in queries.items() if not prometheus.query(query)]


def test_every_query_returns_data(server: Server, cluster: int, tmp_path: Path) -> None:
    prometheus = Prometheus(tmp_path, {server.port: POD, cluster: POD})
    try:
        prometheus.wait_scraping()
        reward_arms(server)
        scrapes = "count_over_time(up[1m])"
        before = min(prometheus.query(scrapes))
        while min(prometheus.query(scrapes)) < before + 6:
            load_once(server)
        queries = read_queries()
        assert len(queries) > 40
        assert list_without_data(prometheus, queries) == []
        assert list_without_data(prometheus, {name: name for name in read_families()}) == []
        # Renamed, any of them would be on the list.
        first = "models: Drift of features (psi / threshold) A"
        renamed = {first: queries[first].replace("berth_drift_psi", "berth_drift_index")}
        assert list_without_data(prometheus, renamed) == [first]
    finally:
        prometheus.stop()
