"""`berth score` and `berth pull` with the libraries of the three clouds, against servers that speak their APIs."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from berth.models.store import Entry, verify_version
from live.server import free_port, wait_until
from other_venv import ROOT, VENVS, other_venv
from s3_gateway import running_s3
from score.row_models import add_row_model

pytestmark = pytest.mark.slow
ROWS = [f"r{at},{at * 0.3:.1f},{at},{'x' if at % 10 == 9 else 1},4" for at in range(23)]
_FILL = """
import sys, fsspec
scheme, store, rows = sys.argv[1:]
files = fsspec.filesystem(scheme)
try:
    files.mkdir("models")
except FileExistsError:
    pass
files.put(store + "/", "models/store/", recursive=True)
files.put(rows, "models/rows/in.csv")
"""


@dataclass(frozen=True)
class Cloud:
    """A scheme, and the environment in which its library reaches the emulator."""

    scheme: str
    environ: Mapping[str, str]

    @property
    def variables(self) -> dict[str, str]:
        """An environment with the clouds' libraries beside Berth's."""
        libraries = next((VENVS / "clouds" / "lib").glob("python*/site-packages"))
        return {**os.environ, **self.environ, "PYTHONPATH": f"{ROOT / 'image'}:{libraries}"}

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Python in that environment."""
        command = [sys.executable, *words]
        return subprocess.run(command, env=self.variables, capture_output=True, text=True, timeout=120)


def _s3(programs: Path, folder: Path, port: int) -> tuple[list[str], dict[str, str]]:
    keys = {"AWS_ACCESS_KEY_ID": "k", "AWS_SECRET_ACCESS_KEY": "s", "AWS_DEFAULT_REGION": "us-east-1"}
    command = [str(programs / "moto_server"), "-H", "127.0.0.1", "-p", str(port)]
    return command, {**keys, "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}"}


def _gs(programs: Path, folder: Path, port: int) -> tuple[list[str], dict[str, str]]:
    command = [str(programs / "gcp-storage-emulator"), "start", "--host=127.0.0.1", f"--port={port}", "--in-memory"]
    environ = {"STORAGE_EMULATOR_HOST": f"http://127.0.0.1:{port}", "FSSPEC_GS_TOKEN": "anon"}
    # Else gcsfs looks over gRPC for a bucket with folders, which the emulator does not speak.
    return command, {**environ, "GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT": "false"}


def _az(programs: Path, folder: Path, port: int) -> tuple[list[str], dict[str, str]]:
    azurite = shutil.which("azurite-blob")
    if azurite is None:
        pytest.skip("azurite-blob is not on PATH: npm install --global azurite")
    command = [azurite, "--inMemoryPersistence", "--silent", "--skipApiVersionCheck", f"--blobPort={port}"]
    # The account and the key that every Azurite has.
    key = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
    account = f"AccountName=devstoreaccount1;AccountKey={key};BlobEndpoint=http://127.0.0.1:{port}/devstoreaccount1"
    return command, {"AZURE_STORAGE_CONNECTION_STRING": f"DefaultEndpointsProtocol=http;{account};"}


STARTS: dict[str, Callable[[Path, Path, int], tuple[list[str], dict[str, str]]]] = {"s3": _s3, "gs": _gs, "az": _az}


@contextmanager
def _emulated(name: str, programs: Path, folder: Path) -> Iterator[Mapping[str, str]]:
    """The environment in which the library of `name` reaches its emulator."""
    port = free_port()
    command, environ = STARTS[name](programs, folder, port)
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
    try:
        wait_until(lambda: _answers(port), f"the emulator of {name}", seconds=60)
        yield environ
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _answers(port: int) -> bool:
    try:
        httpx.get(f"http://127.0.0.1:{port}/", timeout=2)
    except httpx.HTTPError:
        return False
    return True


@pytest.fixture(scope="module")
def rows_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with a classifier of four numbers."""
    return add_row_model(tmp_path_factory.mktemp("rows"))


@pytest.fixture(scope="module", params=[*STARTS, "s3 gateway"])
def cloud(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, rows_store: Path
) -> Iterator[Cloud]:
    """A bucket `models` with the store and rows/in.csv: at an emulator, or at a real S3 server."""
    programs = other_venv("clouds", ROOT / "tests" / "venvs" / "clouds.txt")
    folder, name = tmp_path_factory.mktemp("cloud"), str(request.param)
    running = _emulated(name, programs, folder) if name in STARTS else running_s3(folder / "s3", "models")
    with running as environ:
        (folder / "in.csv").write_text("\n".join(["id,a,b,c,d", *ROWS, ""]))
        cloud = Cloud(name.split()[0], environ)
        filled = cloud.run("-c", _FILL, cloud.scheme, str(rows_store), str(folder / "in.csv"))
        assert filled.returncode == 0, filled.stderr[-2000:]
        yield cloud


def test_a_store_is_pulled(cloud: Cloud, tmp_path: Path) -> None:
    words = ("pull", f"{cloud.scheme}://models/store", f"--into={tmp_path / 'here'}", "--models=rows")
    done = cloud.run("-m", "berth", *words)
    assert done.returncode == 0, done.stderr[-2000:]
    verify_version(Entry("rows", "1", tmp_path / "here" / "rows" / "1"))


def test_shards_from_bucket_to_bucket(cloud: Cloud, rows_store: Path, tmp_path: Path) -> None:
    (tmp_path / "in.csv").write_text("\n".join(["id,a,b,c,d", *ROWS, ""]))
    options = ("--model", "rows@1", "--store", str(rows_store), "--keep", "id", "--chunk-rows", "4")
    here = cloud.run("-m", "berth", "score", str(tmp_path / "in.csv"), str(tmp_path / "out.csv"), *options)
    assert here.returncode == 1, here.stderr
    bucket = f"{cloud.scheme}://models"
    for index in range(2):
        shard = ("--shard", f"{index}/2", *options)
        done = cloud.run("-m", "berth", "score", f"{bucket}/rows/in.csv", f"{bucket}/parts", *shard)
        assert done.returncode == (1, 0)[index], done.stderr[-2000:]  # both bad rows are in chunks of the first
        assert f"-> {bucket}/parts/part-0000{index}-of-00002.csv" in done.stdout
    done = cloud.run("-m", "berth", "score", "--join", f"{bucket}/parts", str(tmp_path / "joined.csv"))
    assert done.returncode == 1, done.stderr[-2000:]
    assert (tmp_path / "joined.csv").read_bytes() == (tmp_path / "out.csv").read_bytes()


def test_what_is_not_there(cloud: Cloud, rows_store: Path, tmp_path: Path) -> None:
    uri = f"{cloud.scheme}://models/rows/absent.csv"
    done = cloud.run("-m", "berth", "score", uri, str(tmp_path / "out.csv"), "--store", str(rows_store))
    assert done.returncode == 2
    assert f"there is no file '{uri}'" in " ".join(done.stderr.replace("│", " ").split())
    assert list(tmp_path.iterdir()) == []


def test_vertex_ai_names_a_folder_in_a_bucket(cloud: Cloud, tmp_path: Path) -> None:
    if cloud.scheme != "gs":
        pytest.skip("Vertex AI has Google's buckets only")
    port = free_port()
    platform = {
        "AIP_HTTP_PORT": str(port), "AIP_HEALTH_ROUTE": "/health", "AIP_PREDICT_ROUTE": "/predict",
        "AIP_STORAGE_URI": "gs://models/store", "BERTH_HOST": "127.0.0.1", "BERTH_WORKERS": "1",
        "TMPDIR": str(tmp_path),
    }  # fmt: skip
    with (tmp_path / "log").open("wb") as log:
        command = [sys.executable, "-m", "berth", "serve"]
        server = subprocess.Popen(command, env=cloud.variables | platform, stdout=log, stderr=log)
    try:
        wait_until(
            lambda: _answers(port) and httpx.get(f"http://127.0.0.1:{port}/health").status_code == 200, "readiness"
        )
        body = {"instances": [[1, 1, 1, 1], [6, 6, 6, 6]]}
        assert httpx.post(f"http://127.0.0.1:{port}/predict", json=body).json() == {"predictions": [False, True]}
    finally:
        server.terminate()
        assert server.wait(60) == 0, (tmp_path / "log").read_text()
    assert [path.name for path in tmp_path.iterdir()] == ["log"], "what was fetched is removed"
