"""The gate and verify against two real servers as blue and green."""

from __future__ import annotations

import hashlib
import re
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pytest
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression

from berth.loaders.formats import LoadOptions
from berth.publishing.adding import AddRequest, add_version
from berth.switchgate.asking import Caller, key_headers
from berth.switchgate.plan import SwitchPlan
from live.berths import Serve, ask, start_berth, start_ready
from live.gating import BLUE, GREEN, Lookup, judge, switch, verify
from live.server import HOST, Server, free_port, wait_until

pytestmark = pytest.mark.live
Slots = tuple[Server, Server]


@pytest.fixture(scope="module")
def slots(store: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Slots]:
    """blue with iris@1 (a logistic regression) and green with iris@2 (a tree)."""
    servers: list[Server] = []
    folder = tmp_path_factory.mktemp("slots")

    def serve(command: Sequence[str], env: Any, port: int) -> Server:
        servers.append(Server(command, env, port, folder / f"{env['BERTH_SLOT']}.log"))
        return servers[-1]

    try:
        for slot, fingerprint, model in (("blue", BLUE, "iris@1"), ("green", GREEN, "iris@2,people")):
            run_dir = folder / slot
            start_berth(serve, store, run_dir, models=model, slot=slot, fingerprint=fingerprint, workers=1)
        for server in servers:
            server.wait_accepting()
            wait_until(lambda server=server: ask(server, "GET", "/readyz")[0] == 200, "ready")  # type: ignore[misc]
        yield servers[0], servers[1]
    finally:
        for server in servers:
            server.stop()


def plan_of(slots: Slots) -> SwitchPlan:
    """From the real blue to the real green."""
    return switch(f"http://active.shop.svc:{slots[0].port}", f"http://target.shop.svc:{slots[1].port}")


def test_a_good_switch_passes_and_tells_what_was_looked_at(slots: Slots, lookup: Lookup, told: list[str]) -> None:
    assert judge(plan_of(slots), lookup, told) == (True, "traffic may go to slot green")
    patterns = ["slot blue is live", "mode stays serve", f"fingerprint {GREEN}: iris@2, people@1", "1 pods, 1 wanted"]
    patterns += ["2 sample predictions come", "5 of 5 connections"]
    assert len(told) == len(patterns)
    for line, pattern in zip(told, patterns, strict=True):
        assert line.startswith("ok    ")
        assert pattern in line


def test_each_sample_has_a_connection_of_its_own_and_asks_every_model(slots: Slots, lookup: Lookup) -> None:
    before = _predictions(slots[1])
    assert judge(replace(plan_of(slots), successes=7), lookup, [])[0]
    after = _predictions(slots[1])
    assert {model: after[model] - before[model] for model in after} == {"iris": 7, "people": 7}


def _predictions(server: Server) -> dict[str, int]:
    lines = [line for line in server.log_lines() if line.get("route") == "/predict" and line["status"] == 200]
    return {model: sum(line["model"] == model for line in lines) for model in ("iris", "people")}


def test_what_is_no_switch_passes(slots: Slots, lookup: Lookup, told: list[str]) -> None:
    plan = replace(plan_of(slots), target_slot="blue", fingerprint="0" * 12, other_mode="absent")
    assert judge(plan, lookup, told) == (True, "slot blue is live already: this upgrade is not a switch")


def test_a_first_install(slots: Slots, lookup: Lookup, told: list[str]) -> None:
    lookup.missing["active.shop.svc"] = socket.EAI_NONAME
    passed, sentence = judge(plan_of(slots), lookup, told)
    assert passed
    assert "first install" in sentence
    passed, sentence = judge(replace(plan_of(slots), bootstrap="refuse"), lookup, told)
    assert not passed
    assert "gate.bootstrap is refuse" in sentence


def test_dns_that_is_down_is_no_first_install(slots: Slots, lookup: Lookup, told: list[str]) -> None:
    lookup.missing["active.shop.svc"] = socket.EAI_AGAIN
    passed, sentence = judge(replace(plan_of(slots), timeout_seconds=0.5), lookup, told)
    assert not passed
    assert "DNS did not respond" in sentence


def test_in_an_outage_the_target_is_judged_alone(slots: Slots, lookup: Lookup, told: list[str]) -> None:
    plan = replace(plan_of(slots), active_url=f"http://active.shop.svc:{free_port()}", timeout_seconds=4)
    plan = replace(plan, other_mode="absent", require_agreement=True)
    assert judge(plan, lookup, told)[0]
    assert "an outage" in told[0]
    passed, sentence = judge(replace(plan, fingerprint="0" * 12), lookup, told)
    assert not passed
    assert "--no-hooks" in sentence


def test_the_other_slot_may_not_be_shrunk_by_the_switch(slots: Slots, lookup: Lookup, told: list[str]) -> None:
    passed, sentence = judge(replace(plan_of(slots), other_mode="standby"), lookup, told)
    assert not passed
    assert "slots.blue.mode is standby" in sentence


def test_another_fingerprint_is_refused_with_both_commands(slots: Slots, lookup: Lookup, told: list[str]) -> None:
    began = time.monotonic()
    passed, sentence = judge(replace(plan_of(slots), fingerprint="0" * 12, timeout_seconds=2), lookup, told)
    assert not passed
    assert f"runs fingerprint {GREEN} (iris@2, people@1)" in sentence
    assert "stage first (helm upgrade iris CHART -n shop" in sentence
    assert "then switch (helm upgrade iris CHART -n shop" in sentence
    assert time.monotonic() - began < 1.5  # a rollout may be under way, but not for all of the time


def test_a_silent_target_is_refused_when_the_time_is_up(slots: Slots, lookup: Lookup, told: list[str]) -> None:
    plan = replace(plan_of(slots), target_url=f"http://target.shop.svc:{free_port()}", timeout_seconds=0.6)
    passed, sentence = judge(plan, lookup, told)
    assert not passed
    assert "gave no response (Connection refused)" in sentence
    assert "stage first" in sentence
    assert sum("wait" in line for line in told) == 1  # the same sentence is not printed again and again


def test_a_slot_that_is_not_ready(slots: Slots, lookup: Lookup, told: list[str], tmp_path: Path) -> None:
    drain = slots[1].log_file.parent / "green" / "drain"
    drain.touch()
    try:
        passed, sentence = judge(replace(plan_of(slots), timeout_seconds=0.6), lookup, told)
        assert not passed
        assert "slot green is not ready" in sentence
        assert "draining" in sentence
        timer = threading.Timer(0.3, drain.unlink)
        timer.start()
        assert judge(plan_of(slots), lookup, told)[0]  # it waits for what may come true
        timer.join()
    finally:
        drain.unlink(missing_ok=True)


@pytest.mark.parametrize(
    ("pods", "wanted", "passes"),
    [
        ([], 1, False),
        (["10.0.0.1"], 2, False),
        (["10.0.0.1", "fd00::1"], 2, False),  # one pod with an address of each family
        (["10.0.0.1", "fd00::1", "10.0.0.2", "fd00::2"], 2, True),
        ([], 0, True),
    ],
)
def test_ready_addresses(slots: Slots, lookup: Lookup, pods: list[str], wanted: int, passes: bool) -> None:
    lookup.pods = pods
    plan = replace(plan_of(slots), min_ready=wanted, timeout_seconds=20 if passes else 0.5)
    passed, sentence = judge(plan, lookup, [])
    assert passed is passes
    assert passes or f"gate.minReady wants {wanted}" in sentence


def test_a_headless_name_without_pods_has_no_addresses(slots: Slots, lookup: Lookup, told: list[str]) -> None:
    lookup.missing["pods"] = socket.EAI_NONAME
    passed, sentence = judge(replace(plan_of(slots), timeout_seconds=0.5), lookup, told)
    assert not passed
    assert "has 0 ready pods" in sentence


def _flowers() -> tuple[list[float], list[float]]:
    """A flower on which both models agree and one on which they do not."""
    features, target = load_iris(return_X_y=True)
    wrong = np.flatnonzero(LogisticRegression(max_iter=1000).fit(features, target).predict(features) != target)[0]
    return features[0].tolist(), features[wrong].tolist()


def test_agreement(slots: Slots, lookup: Lookup, told: list[str]) -> None:
    same, other = _flowers()
    plan = replace(plan_of(slots), require_agreement=True, request={"features": same})
    assert judge(plan, lookup, told)[0]
    passed, sentence = judge(replace(plan, request={"features": other}), lookup, told)
    assert not passed
    assert re.search(r"slot green returns \{'prediction': \[\d\]\} where the live slot returns", sentence)
    assert judge(replace(plan, request={"features": other}, require_agreement=False), lookup, told)[0]


def test_a_request_that_the_model_does_not_take(slots: Slots, lookup: Lookup, told: list[str]) -> None:
    passed, sentence = judge(replace(plan_of(slots), request={"features": [1, 2]}), lookup, told)
    assert not passed
    assert "returned 400: features: got 2 values" in sentence
    assert "gate.request" in sentence


def test_a_slot_behind_a_key(
    slots: Slots, serve: Serve, sleeper_store: Path, run_dir: Path, lookup: Lookup, told: list[str], tmp_path: Path
) -> None:
    keys = tmp_path / "keys"
    keys.write_text(f"gate:{hashlib.sha256(b'open sesame').hexdigest()}\n")
    settings = {"slot": "green", "fingerprint": GREEN, "api_keys_file": keys, "workers": 1, "allow_code": "true"}
    locked = start_ready(serve, sleeper_store, run_dir, **settings)
    plan = replace(plan_of(slots), target_url=locked.url)
    passed, sentence = judge(plan, lookup, told)
    assert not passed
    assert "returned 401" in sentence
    assert "gate.apiKeySecret.name" in sentence
    assert judge(plan, lookup, told, key="open sesame")[0]
    assert "sesame" not in repr(Caller(key_headers("open sesame"))) + "".join(told)


def test_verify_of_real_slots(slots: Slots, lookup: Lookup, told: list[str]) -> None:
    before = _predictions(slots[1])
    passed, sentence = verify(slots[1].url, lookup, told)
    assert (passed, sentence) == (True, f"all 6 connections to {slots[1].url} reached slot green")
    assert _predictions(slots[1]) == {model: count + 6 for model, count in before.items()}
    passed, sentence = verify(slots[0].url, lookup, told, timeout_seconds=0.5)
    assert not passed
    assert "connection 1 of 6" in sentence
    assert "a response from slot blue instead of green" in sentence
    assert "helm rollback" in sentence


def berth(*arguments: str) -> subprocess.CompletedProcess[str]:
    """The command, as the chart runs it."""
    return subprocess.run([sys.executable, "-m", "berth", *arguments], capture_output=True, text=True, check=False)


def arguments_of(slots: Slots, **changes: str) -> list[str]:
    """What the chart's Job passes, with changes."""
    given = {
        "release": "iris",
        "active-url": slots[0].url,
        "target-url": slots[1].url,
        "target-slot": "green",
        "fingerprint": GREEN,
        "headless-host": "localhost",
        "other-mode": "serve",
        "min-ready": "1",
        "successes": "2",
        "timeout-seconds": "3",
        "bootstrap": "allow",
    }
    return ["gate", *(f"--{name}={value}" for name, value in (given | changes).items())]


def test_the_command(slots: Slots) -> None:
    done = berth(*arguments_of(slots))
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.splitlines()[-1] == "berth gate: PASSED: traffic may go to slot green"
    done = berth(*arguments_of(slots, **{"other-mode": "absent"}))
    assert done.returncode == 1
    assert done.stdout.splitlines()[-1].startswith("berth gate: REFUSED: slots.blue.mode is absent")
    assert done.stderr == ""
    done = berth("gate", "--verify", f"--active-url={slots[1].url}", "--target-slot=green", "--connections=2")
    assert done.returncode == 0
    assert "reached slot green" in done.stdout


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"fingerprint": "xyz"}, "12 hex digits"),
        ({"active-url": "http://x/path"}, "without a path"),
        ({"active-url": "ftp://x"}, "want http://host:port"),
        ({"target-slot": "red"}, "'blue', 'green'"),
        ({"request": "[1]"}, "want an object"),
        ({"request": "{"}, "not JSON"),
        ({"request": '{"features": [NaN]}'}, "not JSON"),
        ({"min-ready": "-1"}, "-1"),
        ({"api-key-file": "/nowhere"}, "cannot be read"),
    ],
)
def test_wrong_use(changes: dict[str, str], words: str) -> None:
    from click.testing import CliRunner

    from berth.cli.main import berth as group

    port = str(free_port())
    given = {"release": "iris", "active-url": f"http://{HOST}:{port}", "target-url": f"http://{HOST}:{port}"}
    given |= {"target-slot": "green", "fingerprint": GREEN, "headless-host": "localhost", "other-mode": "serve"}
    arguments = [f"--{name}={value}" for name, value in (given | changes).items()]
    result = CliRunner().invoke(group, ["gate", *arguments])
    assert result.exit_code == 2
    assert words in result.stderr
    assert "Traceback" not in result.output
    missing = CliRunner().invoke(group, ["gate", f"--active-url=http://{HOST}", "--target-slot=green"])
    assert (missing.exit_code, "missing --release" in missing.stderr) == (2, True)


def test_a_slot_whose_requests_have_drifted_is_refused(
    serve: Serve, slots: Slots, tmp_path: Path, run_dir: Path, told: list[str]
) -> None:
    """Green has a profile: at first too few rows, then 300 that are all one flower."""
    iris = load_iris()
    names = ",".join(iris.feature_names)
    np.savetxt(tmp_path / "sample.csv", iris.data, delimiter=",", header=names, comments="")
    model = LogisticRegression(max_iter=1000).fit(iris.data, iris.target)
    joblib.dump(model, tmp_path / "iris.joblib")
    request = AddRequest("iris", "3", sample=tmp_path / "sample.csv")
    add_version(tmp_path / "store", tmp_path / "iris.joblib", request, LoadOptions())
    green = start_ready(serve, tmp_path / "store", run_dir, slot="green", fingerprint=GREEN, workers=1)
    plan = replace(plan_of((slots[0], green)), max_drift=1.5, pod_port=green.port)
    lookup = Lookup([HOST])
    assert judge(plan, lookup, told)[0]
    assert any("too few for a figure, so gate.maxDrift judges nothing" in line for line in told)
    assert ask(green, "POST", "/predict", {"features": [iris.data[0].tolist()] * 300})[0] == 200
    wait_until(lambda: ask(green, "GET", "/drift")[1]["models"][0]["rows"] >= 300, "the counts")
    passed, sentence = judge(plan, lookup, told)
    assert not passed
    assert "of iris@3 has drifted in slot green" in sentence
    assert "gate.maxDrift allows 1.5" in sentence
    assert judge(replace(plan, max_drift=None), lookup, told)[0]
