"""MLflow's artifacts in a real S3: large ones by presigned addresses, without credentials; others by s3fs."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from click.testing import CliRunner

from berth.cli.main import berth
from berth.errors import BerthError
from berth.models.store import find_version, list_names, read_manifest
from misbehaving_front import Front, in_front_of
from other_venv import ROOT, VENVS, other_venv
from s3_gateway import running_s3
from score.test_clouds import Cloud
from tracking_server import Tracking, running_tracking

pytestmark = pytest.mark.slow
# More than the 32 MiB above which an address is asked for.
_BYTES = str(33 << 20)
_BOTO = ("boto3", "botocore", "s3transfer", "jmespath")


@dataclass(frozen=True)
class Logged:
    """churn/1 is a large model behind the server, churn/2 a small one in the bucket."""

    server: Tracking
    aws: dict[str, str]


@pytest.fixture(scope="module")
def logged(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Logged]:
    """A tracking server over a bucket."""
    folder = tmp_path_factory.mktemp("buckets")
    other_venv("clouds", ROOT / "tests" / "venvs" / "clouds.txt")
    libraries = next((VENVS / "clouds" / "lib").glob("python*/site-packages"))
    (folder / "boto").mkdir()
    for name in _BOTO:
        (folder / "boto" / name).symlink_to(libraries / name)
    with running_s3(folder / "s3", "models") as aws:
        environ = {**aws, "MLFLOW_S3_ENDPOINT_URL": aws["AWS_ENDPOINT_URL"], "PYTHONPATH": str(folder / "boto")}
        with running_tracking(folder, "s3://models/served", environ) as server:
            server.log("2", "large", "mlflow-artifacts:/large", _BYTES)
            server.log("3", "direct", "s3://models/direct")
            yield Logged(server, aws)


@pytest.fixture
def front(logged: Logged) -> Iterator[Front]:
    """The server behind a proxy that notes what comes."""
    with in_front_of(logged.server.port) as front:
        yield front


def add(store: Path, url: str, endpoint: str) -> str:
    """`berth add mlflow:models:/churn/1` without any credentials: the reason where it fails."""
    words = ["add", "mlflow:models:/churn/1", "--name", "churn", "--store", str(store)]
    environ = {"MLFLOW_TRACKING_URI": url, "MLFLOW_S3_ENDPOINT_URL": endpoint}
    result = CliRunner().invoke(berth, words, env=environ, standalone_mode=False)
    assert result.exception is None or isinstance(result.exception, BerthError), result.exception
    return str(result.exception or "")


def fetched(front: Front) -> list[str]:
    """The files that came through the tracking server."""
    served = [path for path, _ in front.asked if "/mlflow-artifacts/artifacts/" in path]
    return [path.rpartition("/")[2].partition("?")[0] for path in served]


def large_file(store: Path) -> str:
    """The name of the largest file of churn."""
    files = read_manifest(find_version(store, "churn")).files
    return max(files, key=lambda name: files[name].bytes).rpartition("/")[2]


def test_a_large_artifact_comes_from_the_bucket(logged: Logged, front: Front, tmp_path: Path) -> None:
    assert add(tmp_path, front.url, logged.aws["AWS_ENDPOINT_URL"]) == ""
    name = large_file(tmp_path)
    assert name not in fetched(front)
    assert "MLmodel" in fetched(front)
    assert any("/presigned/" in path and path.endswith(name) for path, _ in front.asked)


def test_a_bucket_that_is_not_named_is_not_contacted(logged: Logged, front: Front, tmp_path: Path) -> None:
    assert add(tmp_path, front.url, "http://127.0.0.1:9") == ""
    assert large_file(tmp_path) in fetched(front)


def test_an_address_with_another_signature_is_refused(logged: Logged, front: Front, tmp_path: Path) -> None:
    assert add(tmp_path / "good", front.url, logged.aws["AWS_ENDPOINT_URL"]) == ""
    (path,) = {path for path, _ in front.asked if "/presigned/" in path}
    with urllib.request.urlopen(logged.server.url + path) as response:
        document = json.load(response)
    url = document["url"]
    front.forged["/presigned/"] = json.dumps(document | {"url": url[:-1] + ("0" if url[-1] != "0" else "1")}).encode()
    reason = add(tmp_path / "forged", front.url, logged.aws["AWS_ENDPOINT_URL"])
    assert "returned 403: the signed address is refused" in reason
    assert "Signature" not in reason
    assert not (tmp_path / "forged").exists() or list_names(tmp_path / "forged") == []


@pytest.mark.parametrize("known", [True, False])
def test_artifacts_in_the_bucket_need_its_credentials(logged: Logged, tmp_path: Path, known: bool) -> None:
    wrong = {} if known else {"AWS_SECRET_ACCESS_KEY": "wrong"}
    cloud = Cloud("s3", {**logged.aws, **wrong, "MLFLOW_TRACKING_URI": logged.server.url})
    done = cloud.run(
        "-m", "berth", "add", "mlflow:models:/churn/2", "--name", "churn", "--store", str(tmp_path / "store")
    )
    if known:
        assert done.returncode == 0, done.stderr[-2000:]
        source = read_manifest(find_version(tmp_path / "store", "churn")).metadata["source"]
        assert (source["version"], source["artifacts"].startswith("s3://models/direct/")) == ("2", True)
        return
    assert done.returncode == 1
    assert "may not be read" in done.stderr
    assert not (tmp_path / "store").exists() or list_names(tmp_path / "store") == []
