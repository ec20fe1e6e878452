"""Models from elsewhere: whole or not at all, again after a cut, and never what was not meant."""

from __future__ import annotations

import hashlib
import json
import os
import random
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from berth.cli.main import berth
from berth.errors import BerthError, IntegrityError, ManifestError, StoreError
from berth.models.manifest import MANIFEST, Manifest, digest_file, encode_manifest
from berth.models.store import Entry, list_versions, verify_version, write_version
from berth.pulling.addresses import Access
from berth.pulling.bucket import BucketSource
from berth.pulling.pull import PullReport, Wanted, parse_wanted, pull_models
from berth.pulling.transfer import Persistence, read_small
from file_server import FileServer, serve_files

ARTIFACT = random.Random(1).randbytes(300_000)
Pull = Callable[..., list[str]]


def put(store: Path, name: str, version: str, *, data: bytes = ARTIFACT) -> Entry:
    """A version with two files, one of them in a folder and with a name that needs quoting."""

    def fill(part: Path) -> None:
        (part / "model.onnx").write_bytes(data)
        (part / "more").mkdir()
        (part / "more" / "50% off?#1.txt").write_bytes(version.encode())
        (part / "more" / "twin.txt").write_bytes(version.encode())
        (part / "more" / "empty.txt").write_bytes(b"")
        files = {path: digest_file(part / path) for path in _files(part)}
        manifest = Manifest(name, version, "onnx", "2026-01-02T03:04:05Z", files)
        (part / MANIFEST).write_bytes(encode_manifest(manifest))

    return write_version(store, name, version, fill)


def _files(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """iris 1, 2, 10 and churn 1, beside a folder that is no model."""
    store = tmp_path / "store"
    for version in ("1", "2", "10"):
        put(store, "iris", version)
    put(store, "churn", "1", data=b"small")
    (store / "recipes").mkdir()
    return store


@pytest.fixture
def web(store: Path) -> Iterator[FileServer]:
    """The store behind a listing."""
    with serve_files(store) as server:
        yield server


@pytest.fixture
def into(tmp_path: Path) -> Path:
    """Where the models should come."""
    return tmp_path / "into"


@pytest.fixture
def pull(into: Path) -> Pull:
    """pull(uri, models, sha256=…): what was told."""

    def run(uri: str | Path, models: str = "", *, sha256: str = "", authorization: str = "") -> list[str]:
        told: list[str] = []
        access = Access(authorization, Persistence(first_pause=0.001))
        pull_models(str(uri), into, parse_wanted(models, sha256), access, PullReport(told.append))
        return told

    return run


def there(into: Path) -> list[str]:
    """Every version in the directory, each verified; nothing else may be there."""
    found = []
    for name in sorted(path.name for path in into.iterdir()) if into.exists() else []:
        entries = list_versions(into, name)
        assert entries, f"{name} is no model"
        for entry in entries:
            verify_version(entry)
            found.append(entry.key)
        assert sorted(path.name for path in (into / name).iterdir()) == sorted(entry.version for entry in entries)
    return found


def manifest_digest(entry: Entry) -> str:
    """What --sha256 takes."""
    return hashlib.sha256((entry.folder / MANIFEST).read_bytes()).hexdigest()


def entry_of(store: Path, name: str, version: str) -> Entry:
    """A version of the store."""
    return Entry(name, version, store / name / version)


@pytest.mark.parametrize("form", ["{}", "file://{}"])
def test_from_a_directory(pull: Pull, store: Path, into: Path, form: str) -> None:
    told = pull(form.format(store), "iris,churn@1")
    assert there(into) == ["churn@1", "iris@10"]
    assert told[0] == f"iris@10: 4 files, 300004 bytes from file://{store}"
    assert _files(into / "iris" / "10") == _files(store / "iris" / "10")
    assert (store / "iris" / "10" / "model.onnx").exists()


@pytest.mark.parametrize(
    ("models", "found"),
    [
        ("iris@2", ["iris@2"]),
        ("iris@latest", ["iris@10"]),
        ("iris@1,iris@2,iris@1", ["iris@1", "iris@2"]),
        ("", ["churn@1", "iris@10"]),
    ],
)
def test_from_a_listing(pull: Pull, web: FileServer, into: Path, models: str, found: list[str]) -> None:
    pull(f"{web.url}/", models)
    assert there(into) == found


def test_from_an_index(pull: Pull, web: FileServer, store: Path, into: Path) -> None:
    result = CliRunner().invoke(berth, ["list", "--json", "--store", str(store)])
    (store / "index.json").write_text(result.output)
    pull(web.url, "iris,churn")
    assert there(into) == ["churn@1", "iris@10"]
    assert not any(path.endswith("/") for path in web.paths())


@pytest.mark.parametrize("text", ["{", "{}x", "[1]", '{"iris": 1}', '[{"name": "iris"}]', "[" * 100_000])
def test_an_index_that_is_none(pull: Pull, web: FileServer, store: Path, text: str) -> None:
    (store / "index.json").write_text(text)
    with pytest.raises(StoreError, match=r"index\.json of .* must be what `berth list --json` prints"):
        pull(web.url, "iris")


def test_a_store_below_a_path_with_a_signature(pull: Pull, store: Path, into: Path) -> None:
    with serve_files(store.parent) as web:
        told = pull(f"{web.url}/store?sig=secret", "iris")
        assert there(into) == ["iris@10"]
        assert all(path.endswith("?sig=secret") for path in web.paths())
    assert "secret" not in " ".join(told)


def test_a_second_run_asks_nobody(pull: Pull, web: FileServer, store: Path, into: Path) -> None:
    digest = manifest_digest(entry_of(store, "iris", "2"))
    pull(web.url, "iris@2,churn@1", sha256=digest)
    before, stamps = len(web.asked), {path: path.stat().st_mtime_ns for path in into.rglob("*")}
    told = pull(web.url, "iris@2,churn@1", sha256=digest)
    assert told == [f"{key}: already in {into}, every file as its model.json says" for key in ("iris@2", "churn@1")]
    assert len(web.asked) == before
    assert {path: path.stat().st_mtime_ns for path in into.rglob("*")} == stamps


def test_a_second_run_brings_only_what_is_missing(pull: Pull, web: FileServer, into: Path) -> None:
    pull(web.url, "iris@1")
    before = len(web.asked)
    told = pull(web.url, "iris@1,churn@1")
    assert there(into) == ["churn@1", "iris@1"]
    assert "already in" in told[0]
    assert not any("iris" in path for path in web.paths()[before:])


def test_what_is_damaged_here_is_neither_used_nor_overwritten(pull: Pull, web: FileServer, into: Path) -> None:
    pull(web.url, "iris@1")
    (into / "iris" / "1" / "model.onnx").write_bytes(b"flipped")
    with pytest.raises(IntegrityError, match=r"iris@1 is in .* already, but: model\.onnx has .*; remove .*iris/1"):
        pull(web.url, "iris@1,churn@1")
    assert (into / "iris" / "1" / "model.onnx").read_bytes() == b"flipped"


def test_the_digest_of_the_manifest(pull: Pull, web: FileServer, store: Path, into: Path) -> None:
    good, bad = manifest_digest(entry_of(store, "iris", "1")), "0" * 64
    with pytest.raises(IntegrityError, match=rf"model\.json of iris@1 has sha256 {good}, but --sha256 says {bad}"):
        pull(web.url, "iris@1", sha256=bad)
    assert there(into) == []
    pull(web.url, "iris@1,churn", sha256=good.upper())
    with pytest.raises(IntegrityError, match="--sha256 says 0000"):  # what is here already is held to it as well
        pull(web.url, "iris@1", sha256=bad)


@pytest.mark.parametrize("ranges", [True, False])
def test_cut_connections(pull: Pull, web: FileServer, into: Path, ranges: bool) -> None:
    path = "/iris/1/model.onnx"
    web.ranges = ranges
    web.cuts = {path: [100_000, 60_000, 0, 1], "/iris/1/model.json": [10]}
    pull(web.url, "iris@1")
    assert there(into) == ["iris@1"]
    starts = [asked.range for asked in web.asked if asked.path == path]
    if ranges:
        assert starts == ["", "bytes=100000-", "bytes=160000-", "bytes=160000-", "bytes=160001-"]
    else:  # each answer begins at 0 again, and must not be put behind the part that is here
        assert starts[0] == ""
        assert len(starts) == 5


def test_a_later_run_goes_on_where_the_cut_was(pull: Pull, web: FileServer, into: Path) -> None:
    path = "/iris/1/model.onnx"
    web.cuts = {path: [250_000] + [0] * 50}
    with pytest.raises(StoreError, match=r"cut after 250000 of 300000 bytes \(5 tries\); pull again"):
        pull(web.url, "iris@1")
    assert list_versions(into, "iris") == []
    web.cuts, before = {}, len(web.asked)
    pull(web.url, "iris@1")
    assert there(into) == ["iris@1"]
    assert [asked.range for asked in web.asked[before:] if asked.path == path] == ["bytes=250000-"]


@pytest.mark.parametrize("size", [200_000, 300_000, 400_000])
def test_a_bad_part_from_an_earlier_run_is_fetched_again(pull: Pull, web: FileServer, into: Path, size: int) -> None:
    (into / ".pull").mkdir(parents=True)
    (into / ".pull" / hashlib.sha256(ARTIFACT).hexdigest()).write_bytes(b"x" * size)
    pull(web.url, "iris@1")
    assert there(into) == ["iris@1"]


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504, 408])
def test_what_may_pass_is_tried_again(pull: Pull, web: FileServer, into: Path, status: int) -> None:
    web.statuses = {"/iris/1/model.json": [status] * 3, "/iris/1/model.onnx": [status]}
    pull(web.url, "iris@1")
    assert there(into) == ["iris@1"]


def test_the_server_says_how_long_to_wait(web: FileServer, into: Path) -> None:
    slept: list[float] = []
    web.statuses, web.retry_after = {"/iris/1/model.json": [503]}, "7"
    access = Access(persistence=Persistence(0.001, slept.append))
    pull_models(web.url, into, [Wanted("iris", "1")], access, PullReport())
    assert slept == [7.0]


def test_what_stays_broken_is_told(pull: Pull, web: FileServer, into: Path) -> None:
    web.statuses = {"/iris/1/model.json": [503] * 99}
    with pytest.raises(StoreError, match=r"returned 503 \(5 tries\)"):
        pull(web.url, "iris@1")
    assert sum(path == "/iris/1/model.json" for path in web.paths()) == 5
    with pytest.raises(StoreError, match="cannot be reached"):
        pull("http://127.0.0.1:1", "iris@1")


def test_what_is_not_there_is_not_tried_again(pull: Pull, web: FileServer, into: Path) -> None:
    with pytest.raises(StoreError, match=r"/iris/7/model\.json returned 404: it is not there"):
        pull(web.url, "iris@7")
    with pytest.raises(StoreError, match=r"roses/ returned 404"):
        pull(web.url, "roses")
    with pytest.raises(StoreError, match=r"no model 'recipes' in .*; there is"):
        pull(web.url, "recipes")
    assert web.paths().count("/iris/7/model.json") == 1
    assert there(into) == []


def test_another_artifact_than_the_manifest_says(pull: Pull, web: FileServer, store: Path, into: Path) -> None:
    path = store / "iris" / "1" / "model.onnx"
    path.write_bytes(b"y" + ARTIFACT[1:])
    with pytest.raises(
        IntegrityError, match=rf"has sha256 \w+ \(300000 bytes\).*{hashlib.sha256(ARTIFACT).hexdigest()}"
    ):
        pull(web.url, "churn,iris@1")
    path.write_bytes(ARTIFACT * 1000)
    with pytest.raises(IntegrityError, match=r"has 300000000 bytes at .*, but model.json says 300000"):
        pull(web.url, "iris@1")
    assert there(into) == ["churn@1"]  # the first was whole before the second failed


def test_a_manifest_of_another_model(pull: Pull, web: FileServer, store: Path) -> None:
    (store / "roses").mkdir()
    (store / "iris" / "1").rename(store / "roses" / "1")
    with pytest.raises(ManifestError, match="says iris@1 where roses@1 should be"):
        pull(web.url, "roses")


def test_a_huge_manifest_is_not_read(pull: Pull, web: FileServer, store: Path) -> None:
    (store / "iris" / "1" / MANIFEST).write_bytes(b" " * (5 << 20))
    with pytest.raises(StoreError, match=r"has more than 4194304 bytes"):
        pull(web.url, "iris@1")


def test_credentials(pull: Pull, web: FileServer, into: Path) -> None:
    web.authorization = "Bearer tell-nobody"
    with pytest.raises(StoreError, match=r"returned 401: set STORE_TOKEN") as refused:
        pull(web.url, "iris@1", authorization="Bearer wrong-guess")
    assert "wrong-guess" not in str(refused.value)
    told = pull(web.url, "iris@1", authorization="Bearer tell-nobody")
    assert there(into) == ["iris@1"]
    assert "tell-nobody" not in " ".join(told) + repr(Access("Bearer tell-nobody"))
    with pytest.raises(StoreError, match="no credentials in the URI") as refused:
        pull(web.url.replace("//", "//user:pass@"), "iris@1,churn")
    assert "pass@" not in str(refused.value)


def test_a_redirect_takes_the_range_along_but_the_key_to_no_other_host(
    pull: Pull, web: FileServer, store: Path, into: Path
) -> None:
    with serve_files(store) as other:
        path = "/iris/1/model.onnx"
        web.moved = {path: other.url + path, "/iris/1/model.json": "/iris/1/moved.json"}
        (store / "iris" / "1" / "moved.json").write_bytes((store / "iris" / "1" / MANIFEST).read_bytes())
        other.cuts = {path: [1000]}
        pull(web.url, "iris@1", authorization="Bearer key")
        assert [(asked.range, asked.authorization) for asked in other.asked] == [("", ""), ("bytes=1000-", "")]
    assert {asked.authorization for asked in web.asked} == {"Bearer key"}
    assert there(into) == ["iris@1"]


@pytest.mark.parametrize("place", ["file:///etc/passwd", "ftp://127.0.0.1/x"])
def test_a_redirect_out_of_the_web_is_not_followed(pull: Pull, web: FileServer, place: str) -> None:
    web.moved = {"/iris/1/model.json": place}
    with pytest.raises(BerthError, match=r"not followed|returned 302"):
        pull(web.url, "iris@1")


@pytest.mark.parametrize(
    ("uri", "words"),
    [
        ("ftp://registry/models", "ftp:// is not supported; use one of file://, http://, https://, oci://, s3://"),
        ("/nowhere", "is not a directory"),
        ("/nowhere.tar.gz", "is not a file"),
    ],
)
def test_a_place_that_is_not_read(pull: Pull, uri: str, words: str) -> None:
    with pytest.raises(StoreError, match=words):
        pull(uri, "iris@1")


def test_links_in_a_directory_are_not_followed(pull: Pull, store: Path, into: Path) -> None:
    folder = store / "iris" / "1"
    (folder / "more").rename(store / "elsewhere")
    (folder / "more").symlink_to(store / "elsewhere")
    with pytest.raises(StoreError, match="goes through a symbolic link"):
        pull(store, "iris@1")
    assert there(into) == []


def _limited(store: Path, into: Path, limit: int) -> subprocess.CompletedProcess[str]:
    """`berth pull` in a process that may not write files longer than `limit`: what a full disk does to it."""
    code = f"import resource as r, berth.cli.main as c; r.setrlimit(r.RLIMIT_FSIZE, ({limit}, {limit})); c.main()"
    command = [sys.executable, "-c", code, "pull", str(store), f"--into={into}", "--models=churn,iris@1"]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_a_full_disk_leaves_nothing_half(store: Path, into: Path) -> None:
    done = _limited(store, into, 100_000)
    assert done.returncode == 1
    assert "no room left" in done.stderr
    assert "scratchSize" in done.stderr
    assert "Traceback" not in done.stderr
    assert there(into) == ["churn@1"]
    assert [path.name for path in into.iterdir()] == ["churn"]


def test_a_model_larger_than_the_disk_is_refused_before_a_byte_of_it_comes(
    pull: Pull, web: FileServer, store: Path, into: Path
) -> None:
    path = store / "iris" / "1" / MANIFEST
    document = json.loads(path.read_text())
    document["files"]["model.onnx"]["bytes"] = 1 << 60
    path.write_text(json.dumps(document))
    with pytest.raises(StoreError, match=rf"iris@1 needs {(1 << 60) + 1} bytes in .*, but \d+ are free"):
        pull(web.url, "iris@1")
    assert "/iris/1/model.onnx" not in web.paths()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_directory_that_may_not_be_written(pull: Pull, store: Path, into: Path) -> None:
    into.mkdir(mode=0o555)
    with pytest.raises(StoreError, match="cannot be written"):
        pull(store, "iris@1")


def test_two_at_once_share_the_work(store: Path, into: Path) -> None:
    def run() -> None:
        access = Access(persistence=Persistence(0.001))
        try:
            pull_models(web.url, into, parse_wanted("iris@1,churn"), access, PullReport(told.append))
        except BerthError as error:
            failed.append(error)

    told: list[str] = []
    failed: list[BerthError] = []
    with serve_files(store) as web:
        threads = [threading.Thread(target=run) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        fetched = [path for path in web.paths() if path == "/iris/1/model.onnx"]
    assert failed == []
    assert there(into) == ["churn@1", "iris@1"]
    assert len(fetched) == 1
    assert sum("already in" in line for line in told) == 6


def test_a_killed_pull_is_taken_up_again(store: Path, into: Path, pull: Pull) -> None:
    with serve_files(store) as web:
        web.statuses, web.retry_after = {"/iris/1/model.onnx": [503]}, "30"
        command = [sys.executable, "-m", "berth", "pull", web.url, f"--into={into}", "--models=iris@1"]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        deadline = time.monotonic() + 20
        while "/iris/1/model.onnx" not in web.paths() and time.monotonic() < deadline:
            time.sleep(0.01)
        process.kill()
        process.wait()
        assert list_versions(into, "iris") == []
        pull(web.url, "iris@1")
    assert there(into) == ["iris@1"]


@pytest.mark.parametrize(
    ("models", "sha256", "words"),
    [
        ("../etc", "", "cannot be a model's name"),
        ("iris@../../x", "", "cannot be a version"),
        ("iris@1/2", "", "cannot be a version"),
        ("latest", "", "cannot be a model's name"),
        ("", "0" * 64, "a digest needs a model"),
    ],
)
def test_words_that_are_no_models(models: str, sha256: str, words: str) -> None:
    with pytest.raises(StoreError, match=words):
        parse_wanted(models, sha256)


def test_the_digest_belongs_to_the_first() -> None:
    first, second = parse_wanted(" iris@3 , churn,", "f" * 64)
    assert (first, second) == (Wanted("iris", "3", "f" * 64), Wanted("churn"))


def test_the_command(store: Path, into: Path) -> None:
    runner = CliRunner()
    result = runner.invoke(berth, ["pull", f"file://{store}", f"--into={into}", "--models=iris@2"])
    assert result.exit_code == 0, result.output
    digest = manifest_digest(entry_of(into, "iris", "2"))
    assert result.output.splitlines()[-1] == f"iris@2: in {into}, model.json has sha256 {digest}"
    again = runner.invoke(berth, ["pull", f"file://{store}", f"--into={into}", "--models=iris@2", f"--sha256={digest}"])
    assert (again.exit_code, "already in" in again.output) == (0, True)
    wrong = runner.invoke(berth, ["pull", str(store), f"--into={into}", "--sha256=abc"])
    assert (wrong.exit_code, "64 hex digits" in wrong.stderr) == (2, True)


@pytest.mark.parametrize(
    ("environ", "wanted"),
    [
        ({"STORE_TOKEN": " tok\n"}, "Bearer tok"),
        ({"STORE_USERNAME": "ann", "STORE_PASSWORD": "pw:1"}, "Basic YW5uOnB3OjE="),
        ({}, ""),
    ],
)
def test_credentials_come_from_the_environment(
    web: FileServer, into: Path, environ: dict[str, str], wanted: str
) -> None:
    result = CliRunner(env=environ).invoke(berth, ["pull", web.url, f"--into={into}", "--models=churn@1"])
    assert result.exit_code == 0, result.output
    assert {asked.authorization for asked in web.asked} == {wanted}
    assert not any(value in result.output for value in environ.values())


@pytest.mark.parametrize(
    "environ", [{"STORE_TOKEN": "a", "STORE_USERNAME": "b"}, {"STORE_TOKEN": "two\r\nlines"}, {"STORE_TOKEN": "ü"}]
)
def test_credentials_that_cannot_be_sent(into: Path, environ: dict[str, str]) -> None:
    result = CliRunner(env=environ).invoke(berth, ["pull", "http://127.0.0.1:1", f"--into={into}"])
    assert result.exit_code != 0
    assert "STORE_TOKEN" in str(result.exception)
    assert "lines" not in str(result.exception)


def test_a_bucket(store: Path, into: Path) -> None:
    fsspec = pytest.importorskip("fsspec", reason="buckets need fsspec (berth[s3])")
    files = fsspec.filesystem("memory", skip_instance_cache=True)
    files.put(f"{store}/", "/bucket/store/", recursive=True)
    bucket = BucketSource(files, "bucket/store", "s3://bucket/store")
    assert sorted(bucket.list_names()) == ["churn", "iris", "recipes"]
    assert sorted(bucket.list_versions("iris")) == ["1", "10", "2"]
    persistence = Persistence(first_pause=0.001)
    assert b"iris" in read_small(bucket, "iris/1/model.json", 1 << 20, persistence)
    with bucket.open("iris/1/model.onnx", 299_990) as stream:
        assert (stream.start, stream.total, b"".join(stream.chunks)) == (299_990, 300_000, ARTIFACT[-10:])
    with pytest.raises(StoreError, match="s3://bucket/store/iris/9/x is not there"), bucket.open("iris/9/x"):
        pass
