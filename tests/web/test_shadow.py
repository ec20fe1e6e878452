"""A shadow predicts again and is compared; whatever it does, no request fails or waits for it."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pytest
from flask.testing import FlaskClient
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression

from berth.experiments.shadowing import QUEUE, is_shadowed
from berth.loaders.formats import LoadOptions
from berth.publishing.adding import AddRequest, add_version
from berth.tensors.arrays import TensorSpec
from berth.tensors.differences import compare_outputs
from collector import wait_for
from web.asking import MakeApp, told

# Behaves as its version's name says, once it has been loaded and has answered its example.
CODE = """
import sys
import time

def load(directory):
    kind = (directory / "kind").read_text()
    def predict(inputs):
        values = inputs["x"][:, 0]
        if values[0] > 5:
            if kind == "raises":
                raise RuntimeError("no")
            if kind == "exits":
                sys.exit(3)
            if kind == "sleeps":
                time.sleep(0.2)
            if kind == "differs":
                return {"prediction": values + 0.5}
        return {"prediction": values}
    return predict
"""
KINDS = ("same", "twin", "raises", "exits", "sleeps", "differs")


@pytest.fixture(scope="module")
def shadow_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """echo@same and versions that fail in their ways."""
    store = tmp_path_factory.mktemp("shadows")
    specs = (TensorSpec("x", "FP64", (-1, 1)),), (TensorSpec("prediction", "FP64", (-1,)),)
    for kind in KINDS:
        folder = tmp_path_factory.mktemp(kind)
        (folder / "model.py").write_text(CODE, "utf-8")
        (folder / "kind").write_text(kind, "utf-8")
        request = AddRequest("echo", kind, "python", inputs=specs[0], outputs=specs[1])
        add_version(store, folder, request, LoadOptions(allow_code=True))
    return store


@pytest.fixture
def serve(make_app: MakeApp, shadow_store: Path, tmp_path: Path) -> Callable[[str, float], FlaskClient]:
    """serve(kind, share): echo@same with a shadow of that kind."""

    def start(kind: str, share: float = 1.0) -> FlaskClient:
        shadow = {"name": "next", "model": "echo", "shadow": {"model": f"echo@{kind}", "share": share}}
        file = tmp_path / "experiments.json"
        file.write_text(json.dumps({"experiments": [shadow]}), "utf-8")
        return make_app(shadow_store, models=f"echo@same,echo@{kind}", experiment_file=file, allow_code=True)

    return start


def results(client: FlaskClient) -> dict[str, int]:
    (report,) = told(client.get("/experiments"))["experiments"]
    return {word: report["shadow"][word] for word in ("agree", "differ", "failed", "dropped")}


def ask(client: FlaskClient, count: int) -> None:
    for number in range(count):
        answer = client.post("/predict", json={"features": [[10.0 + number]]})
        assert told(answer)["prediction"] == [10.0 + number]
        assert answer.headers["X-Berth-Model"] == "echo@same"
        assert "X-Berth-Arm" not in answer.headers


@pytest.mark.parametrize(
    ("kind", "word"), [("twin", "agree"), ("differs", "differ"), ("raises", "failed"), ("exits", "failed")]
)
def test_every_request_is_predicted_again(serve: Callable[..., FlaskClient], kind: str, word: str) -> None:
    client = serve(kind)
    ask(client, 20)
    wait_for(lambda: results(client)[word] == 20)
    counted = [line for line in client.get("/metrics").text.splitlines() if line.startswith("berth_shadow_total{")]
    assert [float(line.rpartition(" ")[2]) for line in counted] == [20.0]
    assert f'result="{word}"' in counted[0]
    if kind == "differs":
        text = client.get("/metrics").text
        assert 'berth_shadow_difference_sum{model="echo",slot="",version="differs"} 10.0' in text
    if word != "failed":
        assert f'berth_shadow_duration_seconds_count{{model="echo",slot="",version="{kind}"}} 20.0' in (
            client.get("/metrics").text
        )
    lines = [line for line in client.get("/metrics").text.splitlines() if line.startswith("berth_requests_total{")]
    own = [float(line.rpartition(" ")[2]) for line in lines if f'version="{kind}"' in line]
    assert sum(own) == 0  # nobody requested the shadow


def test_a_shadow_that_sleeps_loses_its_own_requests(serve: Callable[..., FlaskClient]) -> None:
    client = serve("sleeps")
    ask(client, QUEUE + 40)
    found = results(client)
    assert found["dropped"] >= 30
    assert found["failed"] == found["differ"] == 0


@pytest.fixture(scope="module")
def linear_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """lr@1 and lr@2, both accelerated: quick ones."""
    store = tmp_path_factory.mktemp("linear")
    features, target = load_iris(return_X_y=True)
    for version, strength in (("1", 1.0), ("2", 0.01)):
        file = tmp_path_factory.mktemp("files") / "lr.joblib"
        joblib.dump(LogisticRegression(C=strength, max_iter=500).fit(features, target), file)
        add_version(store, file, AddRequest("lr", version, "joblib"), LoadOptions(accelerate="auto"))
    return store


def test_quick_shadows_wait_for_the_thread_that_serves(make_app: MakeApp, linear_store: Path, tmp_path: Path) -> None:
    file = tmp_path / "experiments.json"
    shadow = {"name": "next", "model": "lr", "shadow": {"model": "lr@2", "share": 1}}
    file.write_text(json.dumps({"experiments": [shadow]}), "utf-8")
    client = make_app(linear_store, models="lr@1,lr@2", experiment_file=file)
    shadows = client.application.extensions["berth"].shadows
    rows = load_iris().data

    def send(count: int) -> None:
        for row in rows[:count].tolist():
            assert client.post("/predict", json={"features": row}).status_code == 200

    shadows.use_this_thread()
    send(50)
    assert sum(results(client).values()) == 0
    for _ in range(50):
        assert shadows.wants_turn()
        shadows.take_quick()
    assert not shadows.wants_turn()
    old, new = (joblib.load(linear_store / "lr" / version / "lr.joblib") for version in ("1", "2"))
    same = int(np.sum(old.predict(rows[:50]) == new.predict(rows[:50])))
    assert results(client) == {"agree": same, "differ": 50 - same, "failed": 0, "dropped": 0}
    send(QUEUE + 3)
    assert results(client)["dropped"] == 3
    shadows._slow.add("lr@2")  # as a call that takes long does
    send(20)
    wait_for(lambda: sum(results(client).values()) == 73)
    late = replace(shadows._quick[0], offered=time.monotonic() - 6)
    shadows._quick.appendleft(late)
    shadows.take_quick()
    assert results(client)["dropped"] == 4  # it waited for more than five seconds


def test_a_share_is_a_share(serve: Callable[..., FlaskClient]) -> None:
    client = serve("twin", 0.25)
    ids = [f"request-{number}" for number in range(60)]
    for name in ids:
        client.post("/predict", json={"features": [[1.0]]}, headers={"X-Request-Id": name})
    expected = sum(is_shadowed(name, 0.25) for name in ids)
    wait_for(lambda: results(client)["agree"] == expected)
    many = [is_shadowed(str(number), 0.25) for number in range(20_000)]
    assert np.mean(many) == pytest.approx(0.25, abs=0.01)


def test_a_named_version_has_no_shadow(serve: Callable[..., FlaskClient]) -> None:
    client = serve("twin")
    client.post("/predict", json={"features": [[1.0]], "model": "echo", "version": "same"})
    ask(client, 1)
    wait_for(lambda: results(client)["agree"] == 1)


@pytest.mark.parametrize(
    ("found", "wanted", "agree", "difference"),
    [
        ({"prediction": [1, 2]}, {"prediction": [1, 2]}, True, None),
        ({"prediction": [1, 3]}, {"prediction": [1, 2]}, False, None),
        ({"prediction": [1.0, 2.0]}, {"prediction": [1.0, 2.0 + 1e-9]}, True, 1e-9),
        ({"prediction": [1.0, np.nan]}, {"prediction": [1.0, np.nan]}, True, 0.0),
        ({"prediction": [1.0]}, {"prediction": [np.nan]}, False, 0.0),
        ({"prediction": [1], "probabilities": [[0.4]]}, {"prediction": [1], "probabilities": [[0.3]]}, True, 0.1),
        ({"probabilities": [[0.4]]}, {"probabilities": [[0.3]]}, False, 0.1),
        ({"prediction": ["a"]}, {"prediction": ["b"]}, False, None),
        ({"prediction": [1.0]}, {"prediction": [1.0, 2.0]}, False, None),
    ],
)
def test_what_agrees(found: dict[str, Any], wanted: dict[str, Any], agree: bool, difference: float | None) -> None:
    arrays = [{name: np.array(values) for name, values in each.items()} for each in (found, wanted)]
    got = compare_outputs(arrays[0], arrays[1])
    assert got[0] == agree
    assert got[1] == (difference if difference is None else pytest.approx(difference, abs=1e-12))
