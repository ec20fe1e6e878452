"""`berth add https://…`: one file, with its digest where the URI names one."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import joblib
import pytest
from click.testing import CliRunner, Result
from sklearn.linear_model import LinearRegression

from berth.cli.main import berth
from berth.errors import BerthError
from berth.models.manifest import digest_file
from berth.models.store import find_version, list_names, read_manifest
from file_server import FileServer, serve_files


@pytest.fixture
def web(tmp_path: Path) -> Iterator[FileServer]:
    """A web server with a model."""
    folder = tmp_path / "web"
    folder.mkdir()
    joblib.dump(LinearRegression().fit([[0.0], [1.0]], [0.0, 2.0]), folder / "a model.joblib")
    with serve_files(folder) as server:
        yield server


def add(store: Path, uri: str, **environ: str) -> Result:
    """`berth add` of the URI."""
    words = ["add", uri, "--name", "m", "--store", str(store)]
    return CliRunner().invoke(berth, words, env=environ, standalone_mode=False)


def test_a_file_behind_http(web: FileServer, tmp_path: Path) -> None:
    digest = digest_file(tmp_path / "web" / "a model.joblib")
    web.authorization = "Bearer t0"
    uri = f"{web.url}/a%20model.joblib"
    for number, each in enumerate((uri, f"{uri}#sha256={digest.sha256}"), 1):
        result = add(tmp_path / "store", each, STORE_TOKEN="t0")
        assert result.exception is None, result.exception
        manifest = read_manifest(find_version(tmp_path / "store", "m", str(number)))
        assert manifest.files["a model.joblib"] == digest
        source = dict(manifest.metadata["source"])
        assert source.pop("fetched_at")
        assert source == {"uri": uri, "sha256": digest.sha256, "bytes": digest.bytes}


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("none.joblib", "answered 404|returned 404"),
        ("a%20model.joblib#sha256=" + "0" * 64, "but the URI says 000"),
        ("a%20model.joblib#md5=1", "want #sha256="),
        ("", "is no name inside a folder"),
    ],
)
def test_what_is_not_added(web: FileServer, tmp_path: Path, path: str, reason: str) -> None:
    result = add(tmp_path / "store", f"{web.url}/{path}")
    with pytest.raises(BerthError, match=reason):
        raise result.exception or AssertionError("it was added")
    assert not (tmp_path / "store").exists() or list_names(tmp_path / "store") == []


def test_a_redirect_takes_no_credentials_along(web: FileServer, tmp_path: Path) -> None:
    with serve_files(tmp_path / "web") as other:
        web.moved["/moved.joblib"] = f"{other.url}/a%20model.joblib"
        assert add(tmp_path / "store", f"{web.url}/moved.joblib", STORE_TOKEN="t0").exception is None
        assert [asked.authorization for asked in other.asked] == [""]


def test_an_unknown_scheme(tmp_path: Path) -> None:
    result = add(tmp_path / "store", "ftp://host/model.joblib")
    with pytest.raises(BerthError, match="ftp: is no source of models; use a file, a folder, or "):
        raise result.exception or AssertionError("it was added")
