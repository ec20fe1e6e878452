"""`ci/propose-model` and `ci/retrain` with an alias of a real MLflow: added, tried, signed, pushed, and proposed."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner
from cryptography.hazmat.primitives.asymmetric import ec

from berth.cli.main import berth
from berth.models.store import find_version, read_manifest
from live.server import free_port, wait_until
from models.test_signing import write_key
from other_venv import ROOT
from proposing import Proposals, new_proposals
from tracking_server import Tracking, running_tracking

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(shutil.which("crane") is None, reason="crane, which serves the registry, is not on PATH"),
]


@pytest.fixture(scope="module")
def tracking(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tracking]:
    """A server in which @champion is version 2 of two."""
    folder = tmp_path_factory.mktemp("mlflow")
    with running_tracking(folder, str(folder / "files")) as tracking:
        tracking.log("2")
        tracking.log("3")
        tracking.log("alias", "2")
        yield tracking


@pytest.fixture(scope="module")
def registry() -> Iterator[str]:
    """HOST:PORT of an empty registry."""
    port = free_port()
    command = ["crane", "registry", "serve", "--address", f"127.0.0.1:{port}"]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    try:
        wait_until(
            lambda: subprocess.run(["crane", "catalog", f"127.0.0.1:{port}"], capture_output=True).returncode == 0, ""
        )
        yield f"127.0.0.1:{port}"
    finally:
        process.kill()
        process.wait()


@pytest.fixture
def proposals(tracking: Tracking, registry: str, tmp_path: Path) -> Proposals:
    """A repository with the values file of a release whose blue slot is live."""
    values = {"activeSlot": "blue", "slots": {"blue": {"mode": "serve", "model": {"name": "churn"}}}}
    environ = {"MLFLOW_TRACKING_URI": tracking.url, "MODELS": f"{registry}/{tmp_path.name}"}
    return new_proposals(tmp_path / "repository", values, environ)


def pull(reference: str, into: Path, key: Path) -> str:
    """What `berth pull` of a signed version says; empty where it succeeds."""
    words = ["pull", f"oci://{reference}", f"--into={into}", f"--key={key.with_suffix('.pub')}"]
    result = CliRunner().invoke(berth, words, standalone_mode=False)
    return str(result.exception or "")


def test_an_alias_is_proposed_for_the_idle_slot(proposals: Proposals, tmp_path: Path) -> None:
    key = write_key(tmp_path / "team.pem", ec.generate_private_key(ec.SECP256R1()))
    proposed = proposals.propose("mlflow:models:/churn@champion", "churn", "7", SIGN_KEY=str(key))
    slot = proposed.values["slots"]["green"]
    assert proposed.values["activeSlot"] == "blue"
    assert (slot["mode"], slot["model"]["version"]) == ("serve", "7")
    assert re.fullmatch(r"127\.0\.0\.1:\d+/[^/]+/churn@sha256:[0-9a-f]{64}", slot["model"]["uri"])
    assert "--title Stage churn 7 in green" in proposed.request
    assert slot["model"]["uri"] in proposed.request
    assert pull(slot["model"]["uri"], tmp_path / "into", key) == ""
    source = read_manifest(find_version(tmp_path / "into", "churn")).metadata["source"]
    assert (source["alias"], source["version"]) == ("champion", "2")

    unsigned = proposals.propose("mlflow:models:/churn@champion", "churn", "8")
    assert "is not signed" in pull(unsigned.values["slots"]["green"]["model"]["uri"], tmp_path / "other", key)


def test_nothing_is_proposed_of_an_alias_that_is_not_there(proposals: Proposals) -> None:
    assert "Registered model alias nobody not found" in proposals.refused("mlflow:models:/churn@nobody", "churn", "9")


def test_retrain_brings_in_what_was_trained_elsewhere(proposals: Proposals) -> None:
    words = ["mlflow:models:/churn@champion", "churn", "7"]
    environ = {**os.environ, **proposals.environ}
    done = subprocess.run([ROOT / "ci" / "retrain", *words], env=environ, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"{proposals.environ['MODELS']}/churn@sha256:")
    again = subprocess.run([ROOT / "ci" / "retrain", *words], env=environ, capture_output=True, text=True)
    assert again.returncode == 1
    assert "churn:7 is published; versions never change" in again.stderr
    assert yaml.safe_load(proposals.values_file.read_text("utf-8"))["activeSlot"] == "blue"
