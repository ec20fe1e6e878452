"""ci/deploy canary: weight by weight, back to 0 at the first failure, whatever ends it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from image.scripts import ROOT, ci
from live.server import wait_until

# Notes its calls; an upgrade to a weight of FAILS fails, one to a weight of HANGS waits until it is ended.
HELM = """#!{python}
import json, os, pathlib, sys, time
here, words = pathlib.Path(__file__).parent, sys.argv[1:]
values = json.loads(pathlib.Path(words[words.index("-f") + 1]).read_text()) if "-f" in words else None
with (here / "calls").open("a") as calls:
    print(json.dumps([words, values]), file=calls)
if words[:2] == ["get", "values"]:
    print((here / "release.json").read_text())
if words[0] == "status":
    print(json.dumps({{"version": 7}}))
weight = (values or {{}}).get("canary", {{}}).get("weight")
if str(weight) in os.environ.get("HANGS", "").split():
    time.sleep(600)
sys.exit(str(weight) in os.environ.get("FAILS", "").split() or words[0] in os.environ.get("FAILS", "").split())
"""
RELEASE = {"activeSlot": "blue", "canary": {"weight": 0, "analysis": {"seconds": 100}}, "gate": {"timeoutSeconds": 30}}


@dataclass(frozen=True)
class Stage:
    """A folder with that helm, and the release that it knows."""

    folder: Path

    @property
    def environ(self) -> dict[str, str]:
        """What ci/deploy is called with."""
        path = f"{self.folder}:{os.environ['PATH']}"
        return {"RELEASE": "iris", "NAMESPACE": "models", "CHART": "oci://e.org/berth", "PATH": path}

    def run(self, *words: str, **environ: str) -> subprocess.CompletedProcess[str]:
        """ci/deploy to its end, whatever it returns."""
        command = [str(ROOT / "ci" / "deploy"), *words]
        given = {**os.environ, **self.environ, **environ}
        return subprocess.run(command, capture_output=True, text=True, env=given, check=False)

    def calls(self, *verbs: str) -> list[tuple[list[str], Any]]:
        """The calls of these verbs: words, and values where there were some."""
        lines = (self.folder / "calls").read_text("utf-8").splitlines() if (self.folder / "calls").exists() else []
        return [(words, values) for words, values in map(json.loads, lines) if words[0] in verbs]

    def weights(self) -> list[int]:
        """The weights of its upgrades."""
        return [values["canary"]["weight"] for _, values in self.calls("upgrade")]


@pytest.fixture
def stage(tmp_path: Path) -> Stage:
    (tmp_path / "helm").write_text(HELM.format(python=sys.executable), "utf-8")
    (tmp_path / "helm").chmod(0o755)
    (tmp_path / "release.json").write_text(json.dumps(RELEASE), "utf-8")
    return Stage(tmp_path)


def test_each_weight_is_an_upgrade_with_analysis_and_none_a_switch(stage: Stage) -> None:
    done = stage.run("canary", "5,25,50")
    assert (done.returncode, done.stdout) == (0, "green\n")
    upgrades = stage.calls("upgrade")
    assert [values for _, values in upgrades] == [
        {"canary": {"weight": weight, "analysis": {"enabled": True}}} for weight in (5, 25, 50)
    ]
    # Analysis, verify's 60 s, the gate's, and two minutes for the Jobs to start.
    assert all(words[words.index("--timeout") + 1] == "310s" for words, _ in upgrades)
    assert not any("--no-hooks" in words for words, _ in upgrades)
    assert "green passed at 25 %" in done.stderr
    assert "next: SLOT=green ci/deploy switch" in done.stderr.splitlines()[-1]


def test_the_first_failure_ends_it_with_the_weight_back_at_0(stage: Stage) -> None:
    done = stage.run("canary", "5,25,50", FAILS="25")
    assert (done.returncode, done.stdout) == (1, "")
    assert stage.weights() == [5, 25, 0]
    assert "--no-hooks" in stage.calls("upgrade")[-1][0]
    told = [line for line in done.stderr.splitlines() if line.startswith("deploy:")]
    assert told[-2:] == ["deploy: green failed at 25 %", "deploy: canary.weight is back at 0"]


def test_where_no_upgrade_can_begin_it_rolls_back(stage: Stage) -> None:
    done = stage.run("canary", "5,25", FAILS="25 0")
    assert done.returncode == 1
    assert stage.calls("rollback") == [(["rollback", "iris", "7", "-n", "models", "--no-hooks"], None)]
    assert done.stderr.splitlines()[-1] == "deploy: canary.weight is back at 0, with revision 7"


def test_a_weight_that_stays_is_an_exit_code_of_its_own(stage: Stage) -> None:
    done = stage.run("canary", "5", FAILS="5 0 rollback")
    assert done.returncode == 3
    assert "--set canary.weight=0" in done.stderr.splitlines()[-1]


def test_a_canary_that_is_interrupted_takes_its_weight_back(stage: Stage) -> None:
    # A script cannot trap a signal that is ignored when it starts, as SIGINT is in a shell's background jobs.
    command = ["env", "--default-signal=INT", str(ROOT / "ci" / "deploy"), "canary", "5"]
    environ = {**os.environ, **stage.environ, "HANGS": "5"}
    process = subprocess.Popen(command, env=environ, stderr=subprocess.PIPE, text=True, start_new_session=True)
    wait_until(lambda: stage.weights() == [5], "the upgrade")
    os.killpg(process.pid, signal.SIGINT)
    _, told = process.communicate(timeout=30)
    assert process.returncode in (1, 130)
    assert stage.weights() == [5, 0]
    assert "canary.weight is back at 0" in told


@pytest.mark.parametrize(
    "words", [["canary"], ["canary", "5,x"], ["canary", "25,5"], ["canary", "5,5"], ["canary", "0"]]
)
def test_weights_that_are_none_are_wrong_use(stage: Stage, words: Sequence[str]) -> None:
    done = stage.run(*words)
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1
    assert stage.calls("upgrade") == []


def test_a_switch_takes_the_canarys_weight_to_0(stage: Stage) -> None:
    stage.run("switch", SLOT="green")
    assert stage.calls("upgrade")[-1][1] == {"activeSlot": "green"}
    (stage.folder / "release.json").write_text(json.dumps({**RELEASE, "canary": {"weight": 50}}), "utf-8")
    stage.run("switch", SLOT="green")
    assert stage.calls("upgrade")[-1][1] == {"activeSlot": "green", "canary": {"weight": 0}}


def test_help_names_every_step_and_exit_code() -> None:
    told = ci("deploy", "--help")
    for word in ("stage", "verify", "switch", "retire", "canary WEIGHTS", "3 the canary's weight"):
        assert word in told
    assert "set -e" not in told
