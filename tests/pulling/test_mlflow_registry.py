"""`berth add mlflow:…` against a real `mlflow server` with SQLite that hands out its artifacts."""

from __future__ import annotations

import base64
import json
import os
import shutil
import signal
import subprocess
import urllib.request
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from cryptography.hazmat.primitives.asymmetric import ec

from berth.cli.main import berth
from berth.errors import BerthError
from berth.models.store import find_version, list_names, read_manifest
from file_server import serve_files
from live.server import free_port, wait_until
from misbehaving_front import Front, in_front_of
from models.test_signing import write_key
from other_venv import ROOT, other_venv

pytestmark = pytest.mark.slow


@dataclass(frozen=True)
class Tracking:
    """A running tracking server, and what is logged in it: slopes 2 and 3, of which @champion is the first."""

    port: int
    python: Path
    logged: tuple[dict[str, str], dict[str, str]]

    @property
    def url(self) -> str:
        """Where it answers."""
        return f"http://127.0.0.1:{self.port}"

    def log(self, *words: str) -> str:
        """Run mlflow_log.py with these words."""
        return _log(self.python, self.url, *words)


def _log(python: Path, url: str, *words: str) -> str:
    script = Path(__file__).with_name("mlflow_log.py")
    environ = {**os.environ, "MLFLOW_TRACKING_URI": url, "MLFLOW_DISABLE_TELEMETRY": "true"}
    done = subprocess.run([python, script, *words], env=environ, check=True, capture_output=True, text=True)
    return next((line for line in done.stdout.splitlines() if line.startswith("{")), "{}")


def _answers(url: str) -> bool:
    with suppress(OSError), urllib.request.urlopen(f"{url}/health", timeout=5) as response:
        return bool(response.status == 200)
    return False


@pytest.fixture(scope="module")
def tracking(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tracking]:
    """The server."""
    programs = other_venv("mlflow", ROOT / "bench" / "apps" / "mlflow.txt")
    folder, port = tmp_path_factory.mktemp("mlflow"), free_port()
    command = [programs / "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    command += [
        "--backend-store-uri",
        f"sqlite:///{folder}/db.sqlite",
        "--artifacts-destination",
        str(folder / "files"),
    ]
    environ = {**os.environ, "MLFLOW_DISABLE_TELEMETRY": "true", "PATH": f"{programs}:{os.environ['PATH']}"}
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            list(map(str, command)), env=environ, stdout=log, stderr=log, cwd=folder, start_new_session=True
        )
    try:
        url = f"http://127.0.0.1:{port}"
        wait_until(lambda: _answers(url), f"mlflow server; log: {folder / 'log'}", 180)
        made = [json.loads(_log(programs / "python", url, slope)) for slope in ("2", "3")]
        _log(programs / "python", url, "alias", "1")
        yield Tracking(port, programs / "python", (made[0], made[1]))
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


@pytest.fixture
def front(tracking: Tracking) -> Iterator[Front]:
    """The server behind a proxy that can misbehave."""
    with in_front_of(tracking.port) as front:
        yield front


def add(store: Path, url: str, address: str, **environ: str) -> Result:
    """`berth add mlflow:ADDRESS`."""
    words = ["add", f"mlflow:{address}", "--name", "churn", "--store", str(store)]
    return CliRunner().invoke(berth, words, env={"MLFLOW_TRACKING_URI": url, **environ}, standalone_mode=False)


def refused(store: Path, result: Result, *reasons: str) -> None:
    """That it ended with one line, and nothing in the store."""
    assert isinstance(result.exception, BerthError), result.exception
    assert "\n" not in result.exception.message
    for reason in reasons:
        assert reason in result.exception.message
    assert not store.exists() or list_names(store) == []


@pytest.mark.parametrize("form", ["models:/churn@champion", "models:/churn/2", "models:/churn/latest", "id", "run"])
def test_every_kind_of_address(tracking: Tracking, tmp_path: Path, form: str) -> None:
    first, second = tracking.logged
    wanted = first if form in ("models:/churn@champion", "run") else second
    address = {"id": f"models:/{second['id']}", "run": f"runs:/{first['run']}/model"}.get(form, form)
    result = add(tmp_path, tracking.url, address)
    assert result.exception is None, result.exception
    manifest = read_manifest(find_version(tmp_path, "churn"))
    source = manifest.metadata["source"]
    assert (source["uri"], source["model_id"], source["run_id"]) == (f"mlflow:{address}", wanted["id"], wanted["run"])
    assert form in ("id", "run") or source["version"] == wanted["version"]
    assert manifest.format == "mlflow"
    assert source["fetched_at"].endswith("Z")
    example = manifest.example or {}
    ((value,),) = [example["outputs"]["prediction"]]
    assert isinstance(value, float)


def test_credentials_go_to_the_server(front: Front, tmp_path: Path) -> None:
    front.authorization = "Basic " + base64.b64encode(b"ann:secret").decode()
    given = {"MLFLOW_TRACKING_USERNAME": "ann", "MLFLOW_TRACKING_PASSWORD": "secret"}
    assert add(tmp_path, front.url, "models:/churn/1", **given).exception is None
    assert {authorization for _, authorization in front.asked} == {front.authorization}
    front.authorization = "Bearer token"
    assert add(tmp_path, front.url, "models:/churn/1", MLFLOW_TRACKING_TOKEN="token").exception is None


def test_a_wrong_password(front: Front, tmp_path: Path) -> None:
    front.authorization = "Basic x"
    given = {"MLFLOW_TRACKING_USERNAME": "ann", "MLFLOW_TRACKING_PASSWORD": "hunter2"}
    result = add(tmp_path, front.url, "models:/churn@champion", **given)
    refused(tmp_path, result, "returned 401: set MLFLOW_TRACKING_USERNAME")
    assert "hunter2" not in result.output + str(result.exception)


@pytest.mark.parametrize(
    ("address", "reason"),
    [
        ("models:/churn@nobody", "Registered model alias nobody not found"),
        ("models:/churn/99", "(name=churn, version=99) not found"),
        ("models:/none/latest", "the registry has no version of 'none'"),
        ("models:/m-0123", "Logged model with ID 'm-0123' not found"),
        ("runs:/0123/model", "Run with id=0123 not found"),
        ("models:/churn", "an address must be mlflow:models:/NAME@ALIAS"),
        ("models:/../x/1", "an address must be"),
    ],
)
def test_what_is_not_there(tracking: Tracking, tmp_path: Path, address: str, reason: str) -> None:
    refused(tmp_path, add(tmp_path, tracking.url, address), reason, f"mlflow:{address}")


def test_a_run_that_logged_something_else(tracking: Tracking, tmp_path: Path) -> None:
    run = tracking.logged[0]["run"]
    refused(tmp_path, add(tmp_path, tracking.url, f"runs:/{run}/other"), "there is no file at")


def test_a_file_that_is_cut(front: Front, tmp_path: Path) -> None:
    front.cut = "/MLmodel"
    refused(tmp_path, add(tmp_path, front.url, "models:/churn/1"), "the connection was cut after", "5 tries")


def test_a_redirect_to_another_host(front: Front, tmp_path: Path) -> None:
    with serve_files(tmp_path) as elsewhere:
        front.moved["/MLmodel"] = f"{elsewhere.url}/MLmodel"
        result = add(tmp_path / "store", front.url, "models:/churn/1", MLFLOW_TRACKING_TOKEN="secret")
        refused(tmp_path / "store", result, "leads to another host, 127.0.0.1")
        assert elsewhere.asked == []


def test_an_alias_that_moves_meanwhile(tracking: Tracking, front: Front, tmp_path: Path) -> None:
    moves = ["2"]

    def move() -> None:
        if moves:
            tracking.log("alias", moves.pop())

    front.before["/MLmodel"] = move
    try:
        result = add(tmp_path, front.url, "models:/churn@champion")
    finally:
        tracking.log("alias", "1")
    refused(tmp_path, result, "it moved from version 1 to 2 while it was fetched")


def test_files_that_only_the_server_can_read(tracking: Tracking, front: Front, tmp_path: Path) -> None:
    refused(tmp_path, add(tmp_path, "file:///mlruns", "models:/churn/1"), "want the http(s) URL of a tracking server")
    refused(tmp_path, add(tmp_path, f"{tracking.url}/nothing", "models:/churn/1"), "returned 404")
    refused(tmp_path, add(tmp_path, "", "models:/churn/1"), "needs MLFLOW_TRACKING_URI")


def test_a_registered_model_becomes_a_signed_image(tracking: Tracking, tmp_path: Path) -> None:
    if (crane := shutil.which("crane")) is None:
        pytest.skip("crane, which serves the registry, is not on PATH")
    key = write_key(tmp_path / "team.pem", ec.generate_private_key(ec.SECP256R1()))
    port = free_port()
    registry = subprocess.Popen(
        [crane, "registry", "serve", "--address", f"127.0.0.1:{port}"], stderr=subprocess.DEVNULL
    )
    try:
        environ = {
            **os.environ,
            "MLFLOW_TRACKING_URI": tracking.url,
            "MODELS": f"127.0.0.1:{port}/models",
            "SIGN_KEY": str(key),
        }
        command = [str(ROOT / "ci" / "import-model"), "mlflow:models:/churn@champion", "churn", "7"]
        done = subprocess.run(command, env=environ, check=True, capture_output=True, text=True)
        reference = done.stdout.strip()
        assert reference.startswith(f"127.0.0.1:{port}/models/churn@sha256:")
        words = ["pull", f"oci://{reference}", f"--into={tmp_path / 'into'}", f"--key={key.with_suffix('.pub')}"]
        result = CliRunner().invoke(berth, words, standalone_mode=False)
        assert result.exception is None, result.exception
        assert read_manifest(find_version(tmp_path / "into", "churn")).metadata["source"]["alias"] == "champion"
    finally:
        registry.kill()
        registry.wait()
