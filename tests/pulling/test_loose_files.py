"""A folder in a bucket as Vertex AI names it: its files, and the server that fetches and serves it."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import pytest
from click.testing import CliRunner

from berth.cli.main import berth
from berth.errors import StoreError
from berth.platforms import bucket_of_platform
from berth.pulling.bucket import BucketSource
from berth.pulling.loose_files import copy_loose_files
from berth.pulling.transfer import Persistence


def _memory(files: dict[str, bytes]) -> BucketSource:
    fsspec = pytest.importorskip("fsspec", reason="fsspec is not installed")
    memory = fsspec.filesystem("memory")
    if memory.exists("/bucket"):
        memory.rm("/bucket", recursive=True)
    for name, content in files.items():
        memory.pipe_file(f"/bucket/churn/{name}", content)
    memory.pipe_file("/bucket/other", b"")
    return BucketSource(memory, "/bucket/churn", "gs://bucket/churn")


def test_every_file_below_the_address_is_copied(tmp_path: Path) -> None:
    files = {"model.joblib": b"1" * 100_000, "code/a.txt": b"", "code/deep/b": b"2"}
    source = _memory(files)
    source._place = "/bucket/churn"  # memory's names begin with a slash
    copy_loose_files(source, tmp_path, Persistence())
    found = {path.relative_to(tmp_path).as_posix(): path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    assert found == files


def test_an_empty_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="gs://bucket/churn has no files"):
        copy_loose_files(_memory({}), tmp_path, Persistence())


def test_only_what_the_platform_names_is_fetched() -> None:
    vertex = {"AIP_STORAGE_URI": "gs://b/m"}
    assert bucket_of_platform(vertex, "gs://b/m") == "gs://b/m"
    assert bucket_of_platform(vertex, "/models") == bucket_of_platform({}, "gs://b/m") == ""


def test_without_the_library_it_names_the_extra(tmp_path: Path) -> None:
    if find_spec("gcsfs") is not None:
        pytest.skip("gcsfs is installed")
    environ = {"AIP_HTTP_PORT": "8080", "AIP_STORAGE_URI": "gs://b/m", "BERTH_RUN_DIR": str(tmp_path)}
    ran = CliRunner(env=environ).invoke(berth, ["serve"])
    assert isinstance(ran.exception, StoreError)
    assert "berth[gs]" in ran.exception.message
