"""Each platform's documented requests, to a server started with that platform's variables and a model file alone."""

from __future__ import annotations

import http.client
import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import joblib
import pytest
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression

from berth.loaders.formats import LoadOptions
from berth.publishing.adding import AddRequest, add_version
from live.berths import Serve, ask
from live.server import HOST, Server, free_port, wait_until

pytestmark = [pytest.mark.live, pytest.mark.slow]
ROW = [5.1, 3.5, 1.4, 0.2]
INSTANCES = {"instances": [ROW, [6.7, 3.0, 5.2, 2.3]]}
VERTEX = "/v1/endpoints/123/deployedModels/456"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model file in a folder, as platforms unpack an artifact."""
    folder = tmp_path_factory.mktemp("ml") / "model"
    folder.mkdir()
    joblib.dump(LogisticRegression(max_iter=1000).fit(*load_iris(return_X_y=True)), folder / "model.joblib")
    return folder


@pytest.fixture(scope="module")
def stored(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same model in a store, which starts sooner."""
    store = tmp_path_factory.mktemp("stored")
    add_version(store, folder / "model.joblib", AddRequest("iris", "1"), LoadOptions())
    return store


def start(serve: Serve, port: int, variables: Mapping[str, str], health: str, folder: Path) -> Server:
    """`berth serve`, ready by the platform's own health route; the image's empty store is there as well."""
    (folder / "models").mkdir()
    env = {"PATH": os.environ["PATH"], "BERTH_MODEL_STORE": str(folder / "models"), "BERTH_WORKERS": "1", **variables}
    server = serve([sys.executable, "-m", "berth", "serve"], env, port)
    wait_until(lambda: ask(server, "GET", health)[0] == 200, f"readiness; log:\n{server.log()}")
    return server


def post(server: Server, path: str, body: str, content_type: str) -> tuple[int, Any]:
    """A request with a body as it is."""
    connection = http.client.HTTPConnection(HOST, server.port, timeout=30)
    try:
        connection.request("POST", path, body, {"Content-Type": content_type})
        response = connection.getresponse()
        return response.status, json.loads(response.read())
    finally:
        connection.close()


def test_sagemaker(serve: Serve, folder: Path, tmp_path: Path) -> None:
    port = free_port()
    variables = {"SAGEMAKER_BASE_DIR": str(folder.parent), "SAGEMAKER_BIND_TO_PORT": str(port)}
    server = start(serve, port, variables, "/ping", tmp_path)
    assert ask(server, "POST", "/invocations", INSTANCES) == (200, {"predictions": [0, 2]})
    headerless = "5.1,3.5,1.4,0.2\n6.7,3.0,5.2,2.3\n"
    assert post(server, "/invocations", headerless, "text/csv") == (200, {"predictions": [0, 2]})


def test_vertex(serve: Serve, stored: Path, tmp_path: Path) -> None:
    port = free_port()
    variables = {
        "AIP_HTTP_PORT": str(port),
        "AIP_HEALTH_ROUTE": VERTEX,
        "AIP_PREDICT_ROUTE": f"{VERTEX}:predict",
        "AIP_STORAGE_URI": str(stored),
        "AIP_MODE": "PREDICTION",
    }
    server = start(serve, port, variables, VERTEX, tmp_path)
    assert ask(server, "POST", f"{VERTEX}:predict", {**INSTANCES, "parameters": {}}) == (200, {"predictions": [0, 2]})
    status, error = ask(server, "POST", f"{VERTEX}:predict", {"rows": []})
    assert (status, error["code"]) == (400, "invalid_input")
    paths = ask(server, "GET", "/openapi.json")[1]["paths"]
    assert {VERTEX, f"{VERTEX}:predict"} <= set(paths)


def test_vertex_with_berths_own_routes(serve: Serve, stored: Path, tmp_path: Path) -> None:
    port = free_port()
    variables = {
        "AIP_HTTP_PORT": str(port),
        "AIP_HEALTH_ROUTE": "/health",
        "AIP_PREDICT_ROUTE": "/predict",
        "AIP_STORAGE_URI": str(stored),
    }
    server = start(serve, port, variables, "/health", tmp_path)
    assert ask(server, "POST", "/predict", INSTANCES) == (200, {"predictions": [0, 2]})
    assert ask(server, "POST", "/predict", {"features": ROW})[1]["prediction"] == [0]


def test_azure(serve: Serve, stored: Path, tmp_path: Path) -> None:
    port = free_port()  # 5001 may be in use here
    variables = {"AZUREML_MODEL_DIR": str(stored), "BERTH_PORT": str(port)}
    server = start(serve, port, variables, "/readyz", tmp_path)
    assert ask(server, "GET", "/")[0] == 200
    split = {"columns": [0, 1, 2, 3], "index": [0, 1], "data": INSTANCES["instances"]}
    for body in ({"input_data": split}, {"input_data": INSTANCES["instances"]}, {"data": INSTANCES["instances"]}):
        assert ask(server, "POST", "/score", body) == (200, [0, 2])
    status, error = ask(server, "POST", "/score", {"rows": [ROW]})
    assert (status, error["code"]) == (400, "invalid_input")


def test_port_alone(serve: Serve, stored: Path, tmp_path: Path) -> None:
    port = free_port()
    server = start(serve, port, {"PORT": str(port), "BERTH_MODEL_STORE": str(stored)}, "/readyz", tmp_path)
    assert ask(server, "POST", "/predict", {"features": ROW})[1]["prediction"] == [0]
    assert ask(server, "POST", "/score", {"data": [ROW]})[0] == 404
