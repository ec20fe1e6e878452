"""Open Inference Protocol over gRPC, by Triton's own client against a real server with two workers."""

from __future__ import annotations

import hashlib
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from berth.rpc.messages import message_classes
from berth.tensors.arrays import DATATYPES, Array
from live.berths import Serve, ask, metric, running_ready, start_ready
from live.server import HOST, Server, free_port, wait_until

pytestmark = pytest.mark.live
grpc = pytest.importorskip("grpc", reason="grpcio is not installed")
triton = pytest.importorskip("tritonclient.grpc", reason="tritonclient[grpc] is not installed")

ROWS = np.array([[5.1, 3.5, 1.4, 0.2], [6.7, 3.0, 5.2, 2.3]])
KEY = "s3cret"


@pytest.fixture(scope="module")
def port() -> int:
    """The gRPC port of `server`."""
    return free_port()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, store: Path, echo_store: Path, port: int) -> Iterator[Server]:
    """A server of the models of both stores."""
    folder = tmp_path_factory.mktemp("grpc")
    for each in (store, echo_store):
        shutil.copytree(each, folder / "store", dirs_exist_ok=True)
    settings = {"models": "iris@1,iris@2,people,echo", "allow_code": True, "workers": 2, "grpc_port": port}
    with running_ready(folder / "store", folder, max_body_bytes=1_000_000, slot="blue", **settings) as server:
        yield server


@pytest.fixture
def client(server: Server, port: int) -> Iterator[Any]:
    """Triton's gRPC client, once the port accepts."""
    with triton.InferenceServerClient(f"{HOST}:{port}") as client:
        wait_until(lambda: _is_live(client), "the gRPC port")
        yield client


def _is_live(client: Any) -> bool:
    try:
        return bool(client.is_server_live())
    except Exception:  # it does not listen yet
        return False


def _input(name: str, array: Array, datatype: str) -> Any:
    given = triton.InferInput(name, list(array.shape), datatype)
    given.set_data_from_numpy(array)
    return given


def test_the_server_and_its_models(client: Any) -> None:
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready("iris", "2")
    metadata = client.get_server_metadata(as_json=True)
    assert metadata["name"] == "berth"
    model = client.get_model_metadata("iris", as_json=True)
    assert model["versions"] == ["1", "2"]
    assert model["inputs"] == [{"name": "features", "datatype": "FP64", "shape": ["-1", "4"]}]


@pytest.mark.parametrize("rows", [1, 64])
def test_infer(client: Any, rows: int) -> None:
    array = np.resize(ROWS, (rows, 4))
    asked = [triton.InferRequestedOutput("probabilities"), triton.InferRequestedOutput("prediction")]
    answer = client.infer("iris", [_input("features", array, "FP64")], "1", outputs=asked, request_id="seven")
    assert answer.get_response().id == "seven"
    assert [tensor.name for tensor in answer.get_response().outputs] == ["probabilities", "prediction"]
    assert answer.as_numpy("prediction").tolist() == np.resize([0, 2], rows).tolist()
    assert answer.as_numpy("probabilities").shape == (rows, 3)


def _values(datatype: str) -> Array:
    dtype = DATATYPES[datatype]
    if datatype == "BOOL":
        return np.array([[True, False], [False, True]])
    if datatype == "BYTES":
        return np.array([["ä\n", ""], ["b" * 300, "c"]], object)
    info = np.iinfo(dtype) if dtype.kind in "iu" else np.finfo(dtype)
    return np.array([[0, 1], [info.min, info.max]], dtype)


@pytest.mark.parametrize("datatype", DATATYPES)
def test_every_datatype_raw(client: Any, datatype: str) -> None:
    given = {name: _values(name) for name in DATATYPES}
    inputs = [_input(name.lower(), array, name) for name, array in given.items()]
    answer = client.infer("echo", inputs, outputs=[triton.InferRequestedOutput(datatype.lower())])
    found = answer.as_numpy(datatype.lower())
    if datatype == "BYTES":
        found = np.vectorize(bytes.decode, otypes=[object])(found)
    assert found.tolist() == given[datatype].tolist()


def _call(port: int, method: str, request: Any, reply: str, package: str = "inference", **more: Any) -> Any:
    service = "inference.GRPCInferenceService" if package == "inference" else "grpc.health.v1.Health"
    with grpc.insecure_channel(f"{HOST}:{port}") as channel:
        call = channel.unary_unary(f"/{service}/{method}")
        data = call(request.SerializeToString(), timeout=10, **more)
    return message_classes(package)[reply].FromString(data)


def _watch(port: int, service: str) -> Iterator[int]:
    """The statuses of Health/Watch."""
    messages = message_classes("grpc.health.v1")
    with grpc.insecure_channel(f"{HOST}:{port}") as channel:
        stream = channel.unary_stream("/grpc.health.v1.Health/Watch")
        for data in stream(messages["HealthCheckRequest"](service=service).SerializeToString(), timeout=20):
            yield messages["HealthCheckResponse"].FromString(data).status


def _infer_request(**tensor: Any) -> Any:
    messages = message_classes("inference")
    return messages["ModelInferRequest"](model_name="iris", model_version="1", inputs=[{"name": "features", **tensor}])


def test_typed_contents(client: Any, port: int) -> None:
    del client  # it waited for the port
    request = _infer_request(datatype="FP64", shape=[2, 4], contents={"fp64_contents": ROWS.ravel().tolist()})
    answer = _call(port, "ModelInfer", request, "ModelInferResponse")
    assert list(answer.outputs[0].contents.int64_contents) == [0, 2]
    assert len(answer.raw_output_contents) == 0


@pytest.mark.parametrize(
    ("tensor", "said"),
    [
        ({"datatype": "FP64", "shape": [1, 4], "contents": {"fp64_contents": [1.0]}}, "1 values, but the shape"),
        ({"datatype": "FP64", "shape": [1, 4], "contents": {"fp32_contents": [1.0]}}, "got fp32_contents"),
        ({"datatype": "FP16", "shape": [1, 4]}, "raw_input_contents"),
        ({"datatype": "FP8", "shape": [1, 4]}, "datatype must be one of"),
        ({"datatype": "FP64", "shape": [-1, 4]}, "shape must be"),
        ({"datatype": "FP64", "shape": [1, 3], "contents": {"fp64_contents": [1.0] * 3}}, "got 3 values in a row"),
    ],
)
def test_a_bad_request_is_an_invalid_argument(client: Any, port: int, tensor: dict[str, Any], said: str) -> None:
    del client
    with pytest.raises(grpc.RpcError) as raised:
        _call(port, "ModelInfer", _infer_request(**tensor), "ModelInferResponse")
    assert raised.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert said in raised.value.details()
    assert ("berth-code", "invalid_input") in [(each.key, each.value) for each in raised.value.trailing_metadata()]


def test_statuses(client: Any, port: int) -> None:
    with pytest.raises(triton.InferenceServerException) as raised:
        client.infer("none", [_input("features", ROWS, "FP64")])
    assert raised.value.status() == "StatusCode.NOT_FOUND"
    headers = (("x-request-timeout-ms", "x"),)
    request = _infer_request(datatype="FP64", shape=[2, 4], contents={"fp64_contents": ROWS.ravel().tolist()})
    with pytest.raises(grpc.RpcError) as late:
        _call(port, "ModelInfer", request, "ModelInferResponse", metadata=headers)
    assert late.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    with pytest.raises(grpc.RpcError) as garbage, grpc.insecure_channel(f"{HOST}:{port}") as channel:
        channel.unary_unary("/inference.GRPCInferenceService/ModelInfer")(b"\xff\xff", timeout=10)
    assert garbage.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    request.inputs[0].contents.fp64_contents.extend([0.0] * 200_000)
    with pytest.raises(grpc.RpcError) as large:
        _call(port, "ModelInfer", request, "ModelInferResponse")
    assert large.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED


def test_metadata_metrics_and_health(client: Any, server: Server, port: int) -> None:
    before = metric(server, "berth_requests_total", protocol="grpc", status="200", model="iris")
    with grpc.insecure_channel(f"{HOST}:{port}") as channel:
        call = channel.unary_unary("/inference.GRPCInferenceService/ModelInfer")
        request = _infer_request(datatype="FP64", shape=[2, 4], contents={"fp64_contents": ROWS.ravel().tolist()})
        _, made = call.with_call(request.SerializeToString(), metadata=(("x-request-id", "mine"),), timeout=10)
    trailers = {each.key: each.value for each in made.trailing_metadata()}
    assert (trailers["x-request-id"], trailers["x-berth-model"], trailers["x-berth-slot"]) == ("mine", "iris@1", "blue")
    wait_until(
        lambda: metric(server, "berth_requests_total", protocol="grpc", status="200", model="iris") > before, "metric"
    )
    check = message_classes("grpc.health.v1")["HealthCheckRequest"]
    for service, status in (("", 1), ("inference.GRPCInferenceService", 1), ("iris", 1)):
        answer = _call(port, "Check", check(service=service), "HealthCheckResponse", "grpc.health.v1")
        assert answer.status == status
    with pytest.raises(grpc.RpcError) as raised:
        _call(port, "Check", check(service="none"), "HealthCheckResponse", "grpc.health.v1")
    assert raised.value.code() == grpc.StatusCode.NOT_FOUND


def test_keys_and_the_drain(serve: Serve, store: Path, tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    keys.write_text(f"me:{hashlib.sha256(KEY.encode()).hexdigest()}:iris\n", "utf-8")
    port = free_port()
    settings = {"models": "iris@1,prices", "workers": 1, "grpc_port": port, "api_keys_file": keys}
    server = start_ready(serve, store, tmp_path / "run", **settings)
    inputs = [_input("features", ROWS, "FP64")]
    with triton.InferenceServerClient(f"{HOST}:{port}") as client:
        wait_until(lambda: _is_live(client), "the gRPC port")
        with pytest.raises(triton.InferenceServerException) as raised:
            client.infer("iris", inputs)
        assert raised.value.status() == "StatusCode.UNAUTHENTICATED"
        assert client.infer("iris", inputs, headers={"authorization": f"Bearer {KEY}"}).as_numpy("prediction").size == 2
        with pytest.raises(triton.InferenceServerException) as raised:
            client.infer("prices", inputs, headers={"x-api-key": KEY})
        assert raised.value.status() == "StatusCode.PERMISSION_DENIED"
        watched = _watch(port, "")
        assert next(watched) == 1
        assert next(_watch(port, "none")) == 3
        (tmp_path / "run" / "drain").touch()
        assert not client.is_server_ready()
        check = message_classes("grpc.health.v1")["HealthCheckRequest"]()
        assert _call(port, "Check", check, "HealthCheckResponse", "grpc.health.v1").status == 2
        assert next(watched) == 2
        named = message_classes("grpc.health.v1")["HealthCheckRequest"](service="prices")
        with pytest.raises(grpc.RpcError) as unseen:
            _call(port, "Check", named, "HealthCheckResponse", "grpc.health.v1")
        assert unseen.value.code() == grpc.StatusCode.NOT_FOUND
        assert client.infer("iris", inputs, headers={"x-api-key": KEY})
    assert ask(server, "GET", "/livez")[0] == 200


def test_nothing_that_was_accepted_is_lost_at_a_stop(serve: Serve, sleeper_store: Path, tmp_path: Path) -> None:
    """Twelve channels, each in the middle of a prediction when SIGTERM comes."""
    port = free_port()
    server = start_ready(
        serve, sleeper_store, tmp_path / "run", allow_code=True, workers=1, grpc_port=port, max_inflight=32
    )
    with triton.InferenceServerClient(f"{HOST}:{port}") as client:
        wait_until(lambda: _is_live(client), "the gRPC port")
    answers: list[list[float]] = []
    failures: list[Exception] = []

    def infer() -> None:
        try:
            with triton.InferenceServerClient(f"{HOST}:{port}") as client:
                found = client.infer("sleeper", [_input("seconds", np.array([[0.2]]), "FP64")], client_timeout=20)
                answers.append(found.as_numpy("prediction").tolist())
        except Exception as error:
            failures.append(error)

    threads = [threading.Thread(target=infer) for _ in range(12)]
    for thread in threads:
        thread.start()
    wait_until(lambda: metric(server, "berth_inflight") >= 12, "twelve predictions")
    os.kill(server.pid, signal.SIGTERM)
    for thread in threads:
        thread.join(30)
    assert failures == []
    assert answers == [[0.2]] * 12


def test_without_the_setting_nothing_is_imported(tmp_path: Path) -> None:
    """The default server has neither grpc nor protobuf's messages of ours, and nothing of the consumers."""
    names = ("grpc", "google.protobuf", "confluent_kafka", "redis", "berth.rpc", "berth.consuming")
    program = f"import sys, berth.app; print([name for name in sys.modules if name.startswith({names})])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=tmp_path)
    assert done.stdout.strip() == "[]"
