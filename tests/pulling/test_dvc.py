"""dvc: a file that DVC tracks, from a real repository with a real remote, by DVC's own API."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import joblib
import pytest
from sklearn.linear_model import LogisticRegression

from berth.errors import StoreError
from berth.models.store import find_version, list_names, read_manifest
from berth.pulling.registry_dvc import DvcAddress, parse_dvc_address
from other_venv import ROOT, other_venv


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("/r:m/x.pkl", DvcAddress("/r", "", "m/x.pkl")),
        ("git@github.com:acme/x.git:m.pkl", DvcAddress("git@github.com:acme/x.git", "", "m.pkl")),
        ("git@github.com:acme/x.git@v1:m.pkl", DvcAddress("git@github.com:acme/x.git", "v1", "m.pkl")),
        ("https://u@host/r:m.pkl", DvcAddress("https://u@host/r", "", "m.pkl")),
        ("https://host/a/b@v3:m.pkl", DvcAddress("https://host/a/b", "v3", "m.pkl")),
    ],
)
def test_addresses(text: str, wanted: DvcAddress) -> None:
    assert parse_dvc_address(text) == wanted


@pytest.mark.parametrize("text", ["", "/r", ":x", "/r:", "https://u:secret@host/a/b"])
def test_what_is_no_address(text: str) -> None:
    with pytest.raises(StoreError, match="want dvc:REPO") as refused:
        parse_dvc_address(text)
    assert "secret" not in refused.value.message


@dataclass(frozen=True)
class Tracked:
    """A repository whose model has two versions: tag v1, and what is checked out."""

    folder: Path
    programs: Path
    digests: tuple[str, str]

    def add(self, uri: str, store: Path) -> subprocess.CompletedProcess[str]:
        """`berth add` of a URI, with dvc to import."""
        words = ["add", uri, "--name", "m", "--store", str(store)]
        libraries = next(self.programs.parent.glob("lib/python*/site-packages"))
        environ = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join([str(ROOT / "image"), str(libraries)]),
            "DVC_NO_ANALYTICS": "1",
        }
        return subprocess.run([sys.executable, "-m", "berth", *words], env=environ, capture_output=True, text=True)


@pytest.fixture(scope="module")
def tracked(tmp_path_factory: pytest.TempPathFactory) -> Tracked:
    """The repository, with a folder as its remote."""
    if shutil.which("git") is None:
        pytest.skip("git is not on PATH")
    programs = other_venv("dvc", ROOT / "tests" / "venvs" / "dvc.txt")
    folder, remote = tmp_path_factory.mktemp("repository"), tmp_path_factory.mktemp("remote")
    environ = {**os.environ, "PATH": f"{programs}:{os.environ['PATH']}", "DVC_NO_ANALYTICS": "1", "HOME": str(remote)}
    environ |= {f"GIT_{who}_{what}": "t@example.com" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}

    def run(*words: str) -> None:
        subprocess.run(words, cwd=folder, env=environ, check=True, capture_output=True)

    run("git", "init", "-q", "-b", "main")
    run("dvc", "init", "-q")
    run("dvc", "remote", "add", "-d", "store", str(remote))
    (folder / "notes").mkdir()
    (folder / "notes" / "why.txt").write_text("git's own")
    digests = []
    for number in (1, 2):
        joblib.dump(LogisticRegression(C=number).fit([[0.0], [1.0]], [0, 1]), folder / "m.joblib")
        digests.append(hashlib.sha256((folder / "m.joblib").read_bytes()).hexdigest())
        run("dvc", "add", "-q", "m.joblib")
        run("git", "add", "-A")
        run("git", "commit", "-q", "-m", f"model {number}")
        run("git", "tag", f"v{number}")
    run("dvc", "push", "-q")
    run("git", "checkout", "-q", "v1")
    run("dvc", "checkout", "-q")
    run("dvc", "push", "-q")
    run("git", "checkout", "-q", "main")
    shutil.rmtree(folder / ".dvc" / "cache")
    (folder / "m.joblib").unlink()
    return Tracked(folder, programs, (digests[0], digests[1]))


@pytest.mark.slow
def test_a_tracked_file(tracked: Tracked, tmp_path: Path) -> None:
    for revision, digest in (("@v1", tracked.digests[0]), ("", tracked.digests[1])):
        done = tracked.add(f"dvc:{tracked.folder}{revision}:m.joblib", tmp_path)
        assert done.returncode == 0, done.stderr
        source = read_manifest(find_version(tmp_path, "m")).metadata["source"]
        assert (source["sha256"], source["uri"]) == (digest, f"dvc:{tracked.folder}{revision}:m.joblib")
        assert len(source["commit"]) == 40
        assert len(source["md5"]) == 32


@pytest.mark.slow
@pytest.mark.parametrize(
    ("rest", "said"), [("@v9:m.joblib", "v9"), (":absent.joblib", "absent.joblib"), (":notes", "is a folder")]
)
def test_what_is_refused(tracked: Tracked, tmp_path: Path, rest: str, said: str) -> None:
    done = tracked.add(f"dvc:{tracked.folder}{rest}", tmp_path)
    assert done.returncode != 0
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("berth:")]
    assert said in line
    assert "Traceback" not in done.stderr
    assert list_names(tmp_path) == []
