"""Other servers' own clients, unmodified, against a real server: Triton's, MLflow's, and what KServe's sends."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pandas as pd
import pytest

from berth.tensors.arrays import DATATYPES, Array
from live.berths import running_ready
from live.server import Server

pytestmark = pytest.mark.live

triton = pytest.importorskip("tritonclient.http", reason="tritonclient[http] is not installed")

_VALUES: dict[str, Array] = {
    "BOOL": np.array([[True, False], [False, True]]),
    "BYTES": np.array([["ä\n", ""], ["b" * 300, "c"]], object),
    **{
        name: np.array([[0, 1], [np.iinfo(dtype).min, np.iinfo(dtype).max]], dtype)
        for name, dtype in DATATYPES.items()
        if dtype.kind in "iu"
    },
    **{
        name: np.array([[0.5, -1.25], [np.finfo(dtype).max, np.finfo(dtype).tiny]], dtype)
        for name, dtype in DATATYPES.items()
        if dtype.kind == "f"
    },
}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, store: Path, echo_store: Path) -> Iterator[Server]:
    """A server of the models of both stores, with two workers."""
    folder = tmp_path_factory.mktemp("clients")
    for each in (store, echo_store):
        shutil.copytree(each, folder / "store", dirs_exist_ok=True)
    models = "iris@1,iris@2,people,prices,echo"
    with running_ready(folder / "store", folder, models=models, allow_code=True, workers=2) as server:
        yield server


@pytest.fixture
def client(server: Server) -> Iterator[Any]:
    """Triton's HTTP client."""
    with triton.InferenceServerClient(server.url.removeprefix("http://")) as client:
        yield client


def _input(name: str, array: Array, datatype: str, binary: bool) -> Any:
    given = triton.InferInput(name, list(array.shape), datatype)
    given.set_data_from_numpy(array, binary_data=binary)
    return given


def test_metadata(client: Any) -> None:
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready("iris")
    assert client.is_model_ready("iris", "2")
    assert not client.is_model_ready("nobody")
    assert "binary_tensor_data" in client.get_server_metadata()["extensions"]
    assert client.get_model_metadata("iris")["inputs"][0]["shape"] == [-1, 4]
    assert {model["state"] for model in client.get_model_repository_index()} == {"READY"}


@pytest.mark.parametrize("binary_out", [True, False])
@pytest.mark.parametrize("binary_in", [True, False])
def test_every_datatype(client: Any, binary_in: bool, binary_out: bool) -> None:
    inputs = [_input(name.lower(), array, name, binary_in) for name, array in _VALUES.items()]
    outputs = [triton.InferRequestedOutput(name.lower(), binary_data=binary_out) for name in reversed(_VALUES)]
    result = client.infer("echo", inputs, outputs=outputs, request_id="a/b c")
    response = result.get_response()
    assert response["id"] == "a/b c"
    assert [output["name"] for output in response["outputs"]] == [name.lower() for name in reversed(_VALUES)]
    for name, array in _VALUES.items():
        found = result.as_numpy(name.lower())
        if name == "BYTES" and binary_out:  # Triton's client leaves strings from binary undecoded
            found = np.array([each.decode() for each in found.ravel()], object).reshape(found.shape)
        assert found.dtype == array.dtype, name
        np.testing.assert_array_equal(found, array, err_msg=name)


def test_all_outputs_are_binary_when_none_are_named(client: Any, iris_rows: Sequence[Sequence[float]]) -> None:
    result = client.infer("iris", [_input("features", np.array(iris_rows), "FP64", True)])
    assert "id" not in result.get_response()
    assert result.as_numpy("prediction").tolist() == [0, 1, 2]
    assert result.as_numpy("probabilities").shape == (3, 3)


def test_another_width_and_gzip(client: Any, iris_rows: Sequence[Sequence[float]]) -> None:
    rows = np.array(iris_rows, np.float32)
    result = client.infer(
        "iris", [_input("features", rows, "FP32", True)], model_version="2", request_compression_algorithm="gzip"
    )
    assert result.get_response()["model_version"] == "2"
    assert result.as_numpy("prediction").tolist() == [0, 1, 2]


def test_a_frame(client: Any) -> None:
    inputs = [
        _input("age", np.array([50.0, 20.0]), "FP64", True),
        _input("city", np.array(["Rome", "Oslo"], object), "BYTES", False),
        _input("member", np.array([1.0, 0.0]), "FP64", True),
    ]
    assert client.infer("people", inputs).as_numpy("prediction").tolist() == [b"yes", b"no"]


def test_many_requests_at_once(server: Server, iris_rows: Sequence[Sequence[float]]) -> None:
    with triton.InferenceServerClient(server.url.removeprefix("http://"), concurrency=4) as client:
        asked = [
            client.async_infer("iris", [_input("features", np.array([row]), "FP64", True)], request_id=str(number))
            for number, row in enumerate(list(iris_rows) * 10)
        ]
        for number, one in enumerate(asked):
            result = one.get_result()
            assert result.get_response()["id"] == str(number)
            assert result.as_numpy("prediction").tolist() == [number % 3]


def test_refusals_reach_the_client(client: Any) -> None:
    utils = pytest.importorskip("tritonclient.utils")
    with pytest.raises(utils.InferenceServerException, match="want 4") as refused:
        client.infer("iris", [_input("features", np.zeros((1, 3)), "FP64", True)])
    assert refused.value.status() == "400"
    with pytest.raises(utils.InferenceServerException, match="unknown output 'logits'"):
        client.infer(
            "iris",
            [_input("features", np.zeros((1, 4)), "FP64", True)],
            outputs=[triton.InferRequestedOutput("logits")],
        )


def test_mlflows_client(server: Server, iris_rows: Sequence[Sequence[float]]) -> None:
    scoring = pytest.importorskip("mlflow.pyfunc.scoring_server.client", reason="mlflow is not installed")
    client = scoring.ScoringServerClient("127.0.0.1", server.port)
    client.ping()
    assert client.get_version()
    columns = httpx.get(f"{server.url}/v2/models/iris").json()["inputs"][0]["parameters"]["columns"]
    for data in (pd.DataFrame(iris_rows, columns=columns), pd.DataFrame(iris_rows), np.array(iris_rows)):
        assert client.invoke(data).get_predictions("ndarray").tolist() == [0, 1, 2]


def test_what_kserves_client_sends(server: Server, iris_rows: Sequence[Sequence[float]]) -> None:
    with httpx.Client(base_url=server.url) as client:
        assert client.get("/v1/models/iris").json()["ready"] is True
        answer = client.post("/v1/models/iris:predict", content=b'{"instances": [[5.1, 3.5, 1.4, 0.2]]}')
        assert answer.json() == {"predictions": [0]}
        assert client.get("/v2/health/live").json()["live"] is True
        assert client.get("/v2/health/ready").json()["ready"] is True
        assert client.get("/v2/models/iris/ready").is_success
        raw = np.array(iris_rows).tobytes()
        headers = {"inference-header-content-length": "0", "content-type": "application/octet-stream"}
        answer = client.post("/v2/models/iris/infer", content=raw, headers=headers)
        assert answer.is_success
        assert b'"prediction"' in answer.content[: int(answer.headers["inference-header-content-length"])]
