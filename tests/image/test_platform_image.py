"""The image with its extras, started as each platform starts one: nothing is set but what that platform sets.

Needs a builder and an engine, as test_built_image.py does. The client runs inside the container: no port is published.
"""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from image.scripts import ROOT, ci, find
from live.server import wait_until

NAME = "localhost/berth-test:extras"
EXTRAS = "grpc,gs,kafka,redis,sign"
# The default image has 400 (ci/smoke); most of the rest is Google's client for its buckets, and librdkafka.
MOST_MB = 500
ENGINE = find("engine")
CLIENT = (Path(__file__).parent / "platform_client.py").read_text("utf-8")
# An engine's own default may be above what this machine allows.
LIMITS = ("--network", "none", "--ulimit", "nofile=1024:1024", "--ulimit", "nproc=1024:1024")
ROW, OTHER = [5.1, 3.5, 1.4, 0.2], [6.7, 3.0, 5.2, 2.3]
INSTANCES = {"instances": [ROW, OTHER]}

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not ENGINE, reason="no docker or podman that works here, or nothing that builds images"),
]


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The serving image of a clean checkout, with the extras."""
    folder = tmp_path_factory.mktemp("checkout") / "berth"
    subprocess.run(["git", "clone", "--quiet", ROOT, folder], check=True)
    began = time.monotonic()
    name = ci("build-image", "serve", NAME, "--", "--build-arg", f"EXTRAS={EXTRAS}", cwd=folder)
    print(f"\nbuilt in {time.monotonic() - began:.0f} s")
    try:
        tried = subprocess.run([ENGINE, "run", "--rm", *LIMITS, name, "--version"], capture_output=True, text=True)
        if tried.returncode:
            pytest.skip(f"{ENGINE} starts no containers here: {tried.stderr.strip().splitlines()[-1]}")
        yield name
    finally:
        words = ["untag", name, name] if ENGINE == "podman" else ["rm", name]
        subprocess.run([ENGINE, "image", *words], capture_output=True)


@pytest.fixture(scope="module")
def artifact(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model file in a folder, as a platform unpacks or downloads it."""
    import joblib
    from sklearn.datasets import load_iris
    from sklearn.linear_model import LogisticRegression

    folder = tmp_path_factory.mktemp("artifact")
    joblib.dump(LogisticRegression(max_iter=1000).fit(*load_iris(return_X_y=True)), folder / "model.joblib")
    return _readable(folder)


def _readable(folder: Path) -> Path:
    """A folder that the image's user may read."""
    subprocess.run(["chmod", "-R", "a+rX", folder], check=True)
    return folder


@contextmanager
def _container(image: str, *words: str, environ: Mapping[str, str], mounts: Mapping[Path, str]) -> Iterator[str]:
    """A container that runs the image with arguments; its name."""
    options = [word for name, value in environ.items() for word in ("-e", f"{name}={value}")]
    options += [word for path, place in mounts.items() for word in ("-v", f"{path}:{place}:ro")]
    command = [ENGINE, "run", "-d", *LIMITS, *options, image, *words]
    name = subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()
    try:
        yield name
    finally:
        subprocess.run([ENGINE, "rm", "-f", "-t", "0", name], capture_output=True)


def _python(container: str, code: str, *arguments: str) -> str:
    """What Python code prints inside a container."""
    command = [ENGINE, "exec", container, "python", "-c", code, *arguments]
    done = subprocess.run(command, capture_output=True, text=True)
    log = subprocess.run([ENGINE, "logs", container], capture_output=True, text=True)
    assert done.returncode == 0, f"{done.stderr}\n{log.stdout}{log.stderr}"
    return done.stdout


def _ask(container: str, port: int, health: str, *requests: Sequence[Any]) -> list[tuple[int, dict[str, str], Any]]:
    """Status, headers and JSON of each request: (path, body), (path, body, headers); a body that is no text is JSON."""
    asked = []
    for path, *rest in requests:
        body, headers = (*rest, None, None)[:2]
        text = body if isinstance(body, str) or body is None else json.dumps(body)
        asked.append(["GET" if body is None else "POST", path, text, headers or {"Content-Type": "application/json"}])
    found = json.loads(_python(container, CLIENT, str(port), health, json.dumps(asked)))
    return [(status, headers, json.loads(text) if text else None) for status, headers, text in found]


def test_it_has_its_extras_and_stays_small(image: str) -> None:
    words = [ENGINE, "image", "inspect", "--format", "{{.Size}}", image]
    size = int(subprocess.run(words, check=True, capture_output=True, text=True).stdout) / 1e6
    print(f"\n{size:.0f} MB")
    assert size < MOST_MB
    imports = "import confluent_kafka, cryptography, gcsfs, grpc, redis"
    subprocess.run([ENGINE, "run", "--rm", *LIMITS, "--entrypoint", "python", image, "-c", imports], check=True)


def test_sagemaker(image: str, artifact: Path) -> None:
    """`IMAGE serve`, the model in /opt/ml/model, port 8080."""
    with _container(image, "serve", environ={}, mounts={artifact: "/opt/ml/model"}) as container:
        text = {"Content-Type": "text/csv"}
        csv = "5.1,3.5,1.4,0.2\n6.7,3.0,5.2,2.3\n"
        answers = _ask(container, 8080, "/ping", ("/invocations", INSTANCES), ("/invocations", csv, text))
    assert [(status, body) for status, _, body in answers] == [(200, {"predictions": [0, 2]})] * 2


def test_vertex(image: str, artifact: Path) -> None:
    """The variables of a custom container, and the model in the image."""
    route = "/v1/endpoints/123/deployedModels/456"
    environ = {
        "AIP_MODE": "PREDICTION",
        "AIP_HTTP_PORT": "8080",
        "AIP_HEALTH_ROUTE": route,
        "AIP_PREDICT_ROUTE": f"{route}:predict",
        "AIP_STORAGE_URI": "",
        "AIP_PROJECT_NUMBER": "123",
    }
    with _container(image, environ=environ, mounts={artifact: "/models"}) as container:
        request = {**INSTANCES, "parameters": {}}
        ((status, _, body),) = _ask(container, 8080, route, (f"{route}:predict", request))
    assert (status, body) == (200, {"predictions": [0, 2]})


def test_azure(image: str, artifact: Path) -> None:
    """AZUREML_MODEL_DIR and port 5001."""
    place = "/var/azureml-app/azureml-models/iris/1"
    environ = {"AZUREML_MODEL_DIR": place, "AZUREML_ENTRY_SCRIPT": "score.py"}
    with _container(image, environ=environ, mounts={artifact: place}) as container:
        split = {"columns": [0, 1, 2, 3], "index": [0, 1], "data": INSTANCES["instances"]}
        bodies = ({"input_data": split}, {"input_data": INSTANCES["instances"]}, {"data": INSTANCES["instances"]})
        answers = _ask(container, 5001, "/readyz", *(("/score", body) for body in bodies))
    assert [(status, body) for status, _, body in answers] == [(200, [0, 2])] * 3


def test_kserve(image: str, artifact: Path) -> None:
    """The runtime's own arguments, the model where the storage initializer puts it; V1, V2 and its health."""
    yaml = pytest.importorskip("yaml")
    runtime = yaml.safe_load((ROOT / "values-examples" / "kserve-runtime.yaml").read_text("utf-8"))
    (spec,) = runtime["spec"]["containers"]
    words = [word.replace("{{.Name}}", "churn") for word in spec["args"]]
    environ = {each["name"]: each["value"] for each in spec["env"]}
    with _container(image, *words, environ=environ, mounts={artifact: "/mnt/models"}) as container:
        tensor = {"name": "features", "shape": [2, 4], "datatype": "FP64", "data": [*ROW, *OTHER]}
        answers = _ask(
            container,
            8080,
            "/v2/health/ready",
            ("/v1/models/churn:predict", INSTANCES),
            ("/v2/models/churn/infer", {"inputs": [tensor]}),
            ("/v1/models/churn",),
        )
    (_, _, first), (_, _, second), (_, _, ready) = answers
    assert [status for status, _, _ in answers] == [200] * 3
    assert first == {"predictions": [0, 2]}
    assert second["outputs"][0]["data"] == [0, 2]
    assert ready["ready"] in (True, "True")


_INFER = """
import sys, time, grpc, numpy
from berth.rpc.messages import message_classes
messages = message_classes("inference")
tensor = {"name": "features", "datatype": "FP64", "shape": [2, 4]}
request = messages["ModelInferRequest"](model_name="churn", inputs=[tensor])
request.raw_input_contents.append(numpy.array([[5.1, 3.5, 1.4, 0.2], [6.7, 3.0, 5.2, 2.3]]).tobytes())
with grpc.insecure_channel("127.0.0.1:8081") as channel:
    call = channel.unary_unary("/inference.GRPCInferenceService/ModelInfer")
    data = call(request.SerializeToString(), timeout=60, wait_for_ready=True)
answer = messages["ModelInferResponse"].FromString(data)
print(numpy.frombuffer(answer.raw_output_contents[0], numpy.int64).tolist())
"""


def test_kserve_over_grpc(image: str, artifact: Path) -> None:
    """The same with the port of grpc-v2, which only an image with this extra has."""
    words = ("serve", "/mnt/models", "--name", "churn", "--port", "8080")
    with _container(image, *words, environ={"BERTH_GRPC_PORT": "8081"}, mounts={artifact: "/mnt/models"}) as container:
        assert json.loads(_python(container, _INFER)) == [0, 2]


def test_knative(image: str, artifact: Path) -> None:
    """PORT, and an event."""
    environ = {"PORT": "8012", "K_SERVICE": "churn", "K_REVISION": "churn-00001"}
    event = {"ce-specversion": "1.0", "ce-id": "7", "ce-source": "/sensors/1", "ce-type": "reading", "ce-subject": "s1"}
    with _container(image, environ=environ, mounts={artifact: "/models"}) as container:
        body = {"features": [ROW, OTHER]}
        headers = {"Content-Type": "application/json", **event}
        ((status, given, answer),) = _ask(container, 8012, "/readyz", ("/predict", body, headers))
    assert (status, answer["prediction"]) == (200, [0, 2])
    assert (given["ce-type"], given["ce-subject"]) == ("dev.berth.prediction", "s1")


def test_a_consumer_starts_in_it(image: str, store: Path) -> None:
    """It says that it waits for its broker."""
    words = ("consume", "kafka://127.0.0.1:1/rows", "--to", "kafka://127.0.0.1:1/scores")
    with _container(image, *words, environ={}, mounts={_readable(store): "/models"}) as container:

        def log() -> str:
            done = subprocess.run([ENGINE, "logs", container], capture_output=True, text=True)
            return done.stdout + done.stderr

        wait_until(lambda: "waiting for kafka://127.0.0.1:1" in log(), f"the warning; log:\n{log()}")
        own = "import resource, sys; from berth.cli import answer_apart; from berth.consuming import redis_streams"
        assert _python(container, own) == ""
