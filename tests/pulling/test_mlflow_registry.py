"""`berth add mlflow:…` against a real `mlflow server` with SQLite that hands out its artifacts."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from berth.cli.main import berth
from berth.errors import BerthError
from berth.models.store import find_version, list_names, read_manifest
from file_server import serve_files
from misbehaving_front import Front, in_front_of
from tracking_server import Tracking, running_tracking

pytestmark = pytest.mark.slow


@dataclass(frozen=True)
class Logged:
    """A tracking server, and what is logged in it: slopes 2 and 3, of which @champion is the first."""

    server: Tracking
    logged: tuple[dict[str, str], dict[str, str]]

    @property
    def url(self) -> str:
        """Where it answers."""
        return self.server.url


@pytest.fixture(scope="module")
def tracking(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Logged]:
    """The server."""
    folder = tmp_path_factory.mktemp("mlflow")
    with running_tracking(folder, str(folder / "files")) as server:
        first, second = server.log("2"), server.log("3")
        server.log("alias", "1")
        yield Logged(server, (first, second))


@pytest.fixture
def front(tracking: Logged) -> Iterator[Front]:
    """The server behind a proxy that can misbehave."""
    with in_front_of(tracking.server.port) as front:
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
def test_every_kind_of_address(tracking: Logged, tmp_path: Path, form: str) -> None:
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
def test_what_is_not_there(tracking: Logged, tmp_path: Path, address: str, reason: str) -> None:
    refused(tmp_path, add(tmp_path, tracking.url, address), reason, f"mlflow:{address}")


def test_a_run_that_logged_something_else(tracking: Logged, tmp_path: Path) -> None:
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


def test_an_alias_that_moves_meanwhile(tracking: Logged, front: Front, tmp_path: Path) -> None:
    moves = ["2"]

    def move() -> None:
        if moves:
            tracking.server.log("alias", moves.pop())

    front.before["/MLmodel"] = move
    try:
        result = add(tmp_path, front.url, "models:/churn@champion")
    finally:
        tracking.server.log("alias", "1")
    refused(tmp_path, result, "it moved from version 1 to 2 while it was fetched")


def test_files_that_only_the_server_can_read(tracking: Logged, front: Front, tmp_path: Path) -> None:
    refused(tmp_path, add(tmp_path, "file:///mlruns", "models:/churn/1"), "want the http(s) URL of a tracking server")
    refused(tmp_path, add(tmp_path, f"{tracking.url}/nothing", "models:/churn/1"), "returned 404")
    refused(tmp_path, add(tmp_path, "", "models:/churn/1"), "needs MLFLOW_TRACKING_URI")
