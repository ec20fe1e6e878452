"""An experiment over HTTP: every way to predict reaches its arm, and says which one that was."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flask.testing import FlaskClient

from berth.errors import SettingsError
from berth.experiments.peer_tokens import make_token
from berth.loaders.formats import LoadOptions
from berth.publishing.adding import AddRequest, add_version
from berth.telemetry.feedback.receipts import decode_receipt
from berth.web.auth import encode_key
from collector import wait_for
from web.asking import MakeApp, refused, tensor, told
from web.ways import WAYS, Case, Way

SERVED = "churn@1,churn@2"
SECRET = "s" * 32
ROW = [1.0, 7.0]
ARMS = [{"model": "churn@1", "weight": 50}, {"model": "churn@2", "weight": 50}]
SPLIT = {"name": "q4", "model": "churn", "unit": "header:X-User-Id", "seed": "q4", "arms": ARMS}


@pytest.fixture(scope="module")
def arms_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """churn@1 predicts 1 for every row, churn@2 predicts 2; columns age and user."""
    import joblib
    import pandas as pd
    from sklearn.linear_model import LinearRegression

    store, folder = tmp_path_factory.mktemp("arms"), tmp_path_factory.mktemp("estimators")
    rows = pd.DataFrame({"age": [0.0, 1.0, 2.0], "user": [0.0, 1.0, 0.0]})
    rows.to_csv(folder / "rows.csv", index=False)
    for version in ("1", "2"):
        joblib.dump(LinearRegression().fit(rows, np.full(3, float(version))), folder / f"{version}.joblib")
        request = AddRequest("churn", version, sample=folder / "rows.csv")
        add_version(store, folder / f"{version}.joblib", request, LoadOptions())
    return store


def write(path: Path, *experiments: Any) -> Path:
    path.write_text(json.dumps({"experiments": list(experiments)}), "utf-8")
    return path


@pytest.fixture
def serve(make_app: MakeApp, arms_store: Path, tmp_path: Path) -> Callable[..., FlaskClient]:
    """serve({…}, …, setting=…): the application with these experiments."""

    def start(*experiments: Any, **settings: object) -> FlaskClient:
        file = write(tmp_path / "experiments.json", *experiments)
        return make_app(arms_store, **{"models": SERVED, "experiment_file": file, **settings})

    return start


BODIES = [
    ("/predict", {"features": ROW}),
    ("/v1/models/{}:predict", {"instances": [ROW]}),
    ("/v2/models/{}/infer", {"inputs": [tensor("features", ROW, [1, 2])]}),
    ("/invocations", {"instances": [ROW]}),
]


def predicted(path: str, document: Any) -> float:
    if "infer" in path:
        return float(document["outputs"][0]["data"][0])
    return float(document["prediction" if path == "/predict" else "predictions"][0])


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
def test_every_way_reaches_the_arm_of_its_unit(serve: Callable[..., FlaskClient], way: Way) -> None:
    client = serve(SPLIT, batch_max_rows=1)
    arms: dict[str, set[str]] = {}
    for path, body in BODIES:
        for number in range(8):
            case = Case(path.format("churn"), body, headers={"X-User-Id": f"user-{number}"})
            status, headers, data = way(client, case)
            assert status == 200, data
            arm = headers["X-Berth-Arm"]
            assert headers["X-Berth-Model"] == arm
            assert headers["X-Berth-Experiment"] == "q4"
            document = json.loads(data)
            assert f"churn@{predicted(path, document):.0f}" == arm
            version = document.get("version") or document.get("model_version")
            assert version is None or f"churn@{version}" == arm
            arms.setdefault(f"user-{number}", set()).add(arm)
    assert all(len(seen) == 1 for seen in arms.values())  # the same over every route
    assert {arm for seen in arms.values() for arm in seen} == {"churn@1", "churn@2"}
    counted = [line for line in client.get("/metrics").text.splitlines() if "experiment_units_total{" in line]
    assert sum(float(line.rpartition(" ")[2]) for line in counted) == 32
    assert all('experiment="q4"' in line and 'sticky="yes"' in line for line in counted)


def test_naming_a_version_bypasses_it(serve: Callable[..., FlaskClient]) -> None:
    client = serve(SPLIT)
    for answer in (
        client.post("/predict", json={"features": ROW, "model": "churn", "version": "2"}),
        client.post("/v1/models/churn/versions/2:predict", json={"instances": [ROW]}),
    ):
        assert answer.status_code == 200
        assert answer.headers["X-Berth-Model"] == "churn@2"
        assert "X-Berth-Arm" not in answer.headers
    assert "experiment_units_total{" not in client.get("/metrics").text


def test_without_its_unit_a_request_is_one_of_its_own(serve: Callable[..., FlaskClient]) -> None:
    client = serve(SPLIT)
    seen = [client.post("/predict", json={"features": ROW}).headers["X-Berth-Arm"] for _ in range(40)]
    assert set(seen) == {"churn@1", "churn@2"}
    again = {
        client.post("/predict", json={"features": ROW}, headers={"X-Request-Id": "one"}).headers["X-Berth-Arm"]
        for _ in range(5)
    }
    assert len(again) == 1
    assert 'sticky="yes"' not in client.get("/metrics").text


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
def test_a_column_may_be_the_unit(serve: Callable[..., FlaskClient], way: Way) -> None:
    client = serve(SPLIT | {"unit": "field:user"}, batch_max_rows=1)
    arms: dict[int, set[str]] = {}
    for user in range(8):
        row = [float(user * 3), float(user)]
        for path, body in (
            ("/predict", {"features": row}),
            ("/predict", {"features": {"age": 4.0, "user": user}}),
            ("/v1/models/churn:predict", {"instances": [row]}),
            ("/v2/models/churn/infer", {"inputs": [tensor("features", row, [1, 2])]}),
        ):
            status, headers, data = way(client, Case(path, body))
            assert status == 200, data
            document = json.loads(data)
            assert headers["X-Berth-Model"] == headers["X-Berth-Arm"] == f"churn@{predicted(path, document):.0f}"
            assert document.get("version", headers["X-Berth-Arm"][-1]) == headers["X-Berth-Arm"][-1]
            arms.setdefault(user, set()).add(headers["X-Berth-Arm"])
    assert all(len(seen) == 1 for seen in arms.values())
    assert len({arm for seen in arms.values() for arm in seen}) == 2
    assert 'sticky="no"' not in client.get("/metrics").text


def test_a_public_name_of_its_own(serve: Callable[..., FlaskClient]) -> None:
    client = serve(SPLIT | {"model": "best"})
    assert told(client.get("/v2/models"))["models"] == ["churn", "best"]
    assert told(client.get("/v1/models"))["models"] == ["churn", "best"]
    metadata = told(client.get("/v2/models/best"))
    assert (metadata["name"], metadata["versions"]) == ("best", [])
    assert told(client.get("/v2/models/best/ready")) == {"name": "best", "ready": True}
    assert told(client.get("/v1/models/best"))["ready"] is True
    for path, body in BODIES[1:3]:
        assert client.post(path.format("best"), json=body).headers["X-Berth-Experiment"] == "q4"
    document = client.get("/openapi.json").get_json()
    parameter = document["paths"]["/v2/models/{model}/infer"]["post"]["parameters"][0]
    assert "best" in parameter["schema"]["enum"]
    assert "X-Berth-Arm" not in client.post("/predict", json={"features": ROW}).headers
    refused(client.post("/v1/models/best/versions/1:predict", json={"instances": [ROW]}), 404, "model_not_found")


def test_keys_are_for_the_public_name(serve: Callable[..., FlaskClient], tmp_path: Path) -> None:
    (tmp_path / "keys").write_text(f"a:{encode_key('one')}:best\nb:{encode_key('two')}:churn\n", "utf-8")
    client = serve(SPLIT | {"model": "best"}, api_keys_file=tmp_path / "keys")
    body = {"instances": [ROW]}
    assert client.post("/v1/models/best:predict", json=body, headers={"X-Api-Key": "one"}).status_code == 200
    assert client.post("/v1/models/best:predict", json=body, headers={"X-Api-Key": "two"}).status_code == 403
    assert client.post("/v1/models/churn:predict", json=body, headers={"X-Api-Key": "one"}).status_code in (403, 404)
    assert told(client.get("/v2/models", headers={"X-Api-Key": "one"}))["models"] == ["best"]
    assert told(client.get("/v2/models", headers={"X-Api-Key": "two"}))["models"] == ["churn"]


def test_receipts_and_payloads_name_the_arm(serve: Callable[..., FlaskClient], tmp_path: Path) -> None:
    (tmp_path / "secret").write_text(SECRET, "utf-8")
    log = tmp_path / "log.jsonl"
    client = serve(SPLIT, feedback_key_file=tmp_path / "secret", payload_log=str(log), slot="blue")
    answer = client.post("/predict", json={"features": ROW}, headers={"X-User-Id": "ann"})
    arm = answer.headers["X-Berth-Arm"]
    receipt = decode_receipt(answer.headers["X-Berth-Receipt"], [SECRET.encode()])
    assert (receipt.arm, f"{receipt.model}@{receipt.version}") == (f"q4/{arm}", arm)
    wait_for(lambda: log.exists() and log.read_bytes().endswith(b"\n"))
    line = json.loads(log.read_bytes())
    assert (line["experiment"], line["arm"], line["probability"]) == ("q4", arm, 0.5)


def test_a_bad_file_stops_the_start(serve: Callable[..., FlaskClient]) -> None:
    with pytest.raises(SettingsError, match=r"BERTH_EXPERIMENT_FILE: .*churn@9 is not served"):
        serve(SPLIT | {"arms": [{"model": "churn@9"}]})


def test_the_file_is_read_again(serve: Callable[..., FlaskClient], tmp_path: Path) -> None:
    """And a bad one changes nothing, but is said."""
    client, file = serve(SPLIT), tmp_path / "experiments.json"

    def arm() -> str | None:
        return client.post("/predict", json={"features": ROW}).headers.get("X-Berth-Arm")

    assert told(client.get("/health"))["experiment_file"] == "ok"
    part = write(tmp_path / "next", SPLIT | {"arms": [{"model": "churn@2"}]})
    os.replace(part, file)
    wait_for(lambda: {arm() for _ in range(20)} == {"churn@2"})
    file.write_text("{", "utf-8")
    wait_for(lambda: "not JSON" in told(client.get("/health"))["experiment_file"])
    said = 'berth_experiment_file_ok{model="",slot="",version=""} 0.0'
    wait_for(lambda: said in client.get("/metrics").text)  # the thread that looks once a second says it
    assert arm() == "churn@2"
    write(file)
    wait_for(lambda: arm() is None)
    assert told(client.get("/health"))["experiment_file"] == "ok"


def test_nothing_is_there_without_the_setting(make_app: MakeApp, arms_store: Path) -> None:
    client = make_app(arms_store, models=SERVED)
    answer = client.post("/predict", json={"features": ROW})
    assert "X-Berth-Arm" not in answer.headers
    assert "berth_experiment_file_ok{" not in client.get("/metrics").text
    assert "experiment_file" not in told(client.get("/health"))


def reward(client: FlaskClient, user: str, worth: dict[str, float]) -> str:
    """Predict for a user and report what its arm is worth; the arm."""
    answer = client.post("/predict", json={"features": ROW}, headers={"X-User-Id": user})
    item = {"receipt": answer.headers["X-Berth-Receipt"], "reward": worth[answer.headers["X-Berth-Arm"]]}
    assert told(client.post("/feedback", json=item))["accepted"] == 1
    return str(answer.headers["X-Berth-Arm"])


def test_rewards_reach_their_arms(serve: Callable[..., FlaskClient], tmp_path: Path) -> None:
    (tmp_path / "secret").write_text(SECRET, "utf-8")
    client = serve(SPLIT, feedback_key_file=tmp_path / "secret", slot="blue")
    got = [reward(client, f"user-{at}", {"churn@1": 0.0, "churn@2": 1.0}) for at in range(60)]
    client.post("/predict", json={"features": ROW}, headers={"X-User-Id": "user-0"})
    (report,) = told(client.get("/experiments"))["experiments"]
    arms = {arm["arm"]: arm for arm in report["arms"]}
    for key, mean in (("churn@1", 0.0), ("churn@2", 1.0)):
        assert arms[key]["rewards"] == arms[key]["units"] == got.count(key)
        assert arms[key]["mean_reward"] == mean
    assert sum(arm["requests"] for arm in arms.values()) == 61
    assert (report["verdict"], arms["churn@1"]["share"]) == ("undecided", 0.5)
    assert report["split_p"] > 0.001


def test_a_bandit_follows_its_rewards(serve: Callable[..., FlaskClient], tmp_path: Path) -> None:
    (tmp_path / "secret").write_text(SECRET, "utf-8")
    bandit = SPLIT | {"policy": "thompson", "minimumRewards": 5, "unit": "request"}
    client = serve(bandit, feedback_key_file=tmp_path / "secret")
    for at in range(60):
        reward(client, str(at), {"churn@1": 0.0, "churn@2": 1.0})
    service = client.application.extensions["berth"]
    (service.experiments._pod._folder / "mark.json").unlink()  # as if the minute was over
    wait_for(lambda: service.experiments.running["churn"].shares[1].probability > 0.9)
    arms = [client.post("/predict", json={"features": ROW}).headers["X-Berth-Arm"] for _ in range(100)]
    assert arms.count("churn@2") > 85
    (report,) = told(client.get("/experiments"))["experiments"]
    assert report["arms"][1]["share"] > 0.9


def test_keys_see_their_experiments(serve: Callable[..., FlaskClient], tmp_path: Path) -> None:
    (tmp_path / "keys").write_text(f"a:{encode_key('one')}:best\nb:{encode_key('two')}:churn\n", "utf-8")
    (tmp_path / "secret").write_text(SECRET, "utf-8")
    settings = {"api_keys_file": tmp_path / "keys", "feedback_key_file": tmp_path / "secret"}
    client = serve(SPLIT | {"model": "best"}, **settings)
    one, two = {"X-Api-Key": "one"}, {"X-Api-Key": "two"}
    answer = client.post("/v1/models/best:predict", json={"instances": [ROW]}, headers=one)
    item = {"receipt": answer.headers["X-Berth-Receipt"], "reward": 1}
    assert client.post("/feedback", json=item, headers=two).status_code == 400
    assert told(client.post("/feedback", json=item, headers=one))["accepted"] == 1
    assert client.get("/experiments").status_code == 401
    nothing: dict[str, Any] = {"experiments": [], "sources": {}, "cells": {}}
    for path in ("/experiments", "/experiments/state"):
        assert len(told(client.get(path, headers=one))["experiments"]) == 1
        assert told(client.get(path, headers=two))["experiments"] == []
    assert "q4" not in client.get("/experiments/state", headers=two).text
    token = make_token([SECRET.encode()], time.time())
    peers = told(client.get("/experiments/state", headers={"X-Berth-Peer": token}))
    assert "q4" in json.dumps(peers["state"])
    for wrong in (make_token([b"x" * 32], time.time()), make_token([SECRET.encode()], time.time() - 200), "1.é"):
        document = told(client.get("/experiments/state", headers={"X-Berth-Peer": wrong}))
        assert {"experiments": document["experiments"], **document["state"]}.items() >= nothing.items()


def test_without_experiments_there_is_nothing_to_report(client: FlaskClient) -> None:
    document = told(client.get("/experiments"))
    assert document["experiments"] == []
    assert "BERTH_EXPERIMENT_FILE" in document["reason"]
    assert told(client.get("/experiments/state"))["experiments"] == []
