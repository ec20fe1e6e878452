"""`berth pull` with keys: what none of them signed is not even fetched."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from cryptography.hazmat.primitives.asymmetric import ec
from test_pulling import put

from berth.cli.main import berth
from berth.errors import IntegrityError
from berth.models.manifest import SIGNATURE
from berth.models.signing import read_public_keys
from berth.models.store import Entry, read_signature, verify_version, write_signature
from file_server import serve_files
from models.test_signing import sign, write_key


@pytest.fixture
def key(tmp_path: Path) -> Path:
    """The team's key."""
    return write_key(tmp_path / "team.pem", ec.generate_private_key(ec.SECP256R1()))


@pytest.fixture
def entry(tmp_path: Path) -> Entry:
    """iris@1 in a store."""
    return put(tmp_path / "store", "iris", "1")


@pytest.fixture
def into(tmp_path: Path) -> Path:
    """Where the model should come."""
    return tmp_path / "into"


def pull(uri: str, into: Path, key: Path | None, models: str = "iris@1") -> Result:
    """`berth pull`, with the key from the environment as in a pod."""
    environ = {"BERTH_SIGNATURE_KEYS_FILE": str(key.with_suffix(".pub"))} if key else {}
    words = ["pull", uri, f"--into={into}", f"--models={models}"]
    return CliRunner().invoke(berth, words, env=environ, standalone_mode=False)


def check(into: Path, key: Path) -> None:
    """That what came is signed with the key."""
    verify_version(Entry("iris", "1", into / "iris" / "1"), read_public_keys([str(key.with_suffix(".pub"))]))


def refused(result: Result, reason: str) -> None:
    """That the pull failed for this reason."""
    assert isinstance(result.exception, IntegrityError), result.exception
    assert reason in str(result.exception)


def test_an_unsigned_version_is_not_fetched(entry: Entry, into: Path, key: Path) -> None:
    with serve_files(entry.folder.parents[1]) as web:
        refused(pull(web.url, into, key), "iris@1 is not signed: it has no model.sig")
        assert web.paths() == ["/iris/1/model.json", "/iris/1/model.sig"]
    assert list(into.iterdir()) == []


def test_a_version_that_somebody_else_signed_is_not_fetched(
    entry: Entry, into: Path, key: Path, tmp_path: Path
) -> None:
    sign(entry, write_key(tmp_path / "other.pem", ec.generate_private_key(ec.SECP256R1())))
    with serve_files(entry.folder.parents[1]) as web:
        refused(pull(web.url, into, key), "none of the 1 known keys")
        assert len(web.asked) == 2


def test_a_signed_version_comes_with_its_signature(entry: Entry, into: Path, key: Path) -> None:
    sign(entry, key)
    for number, uri in enumerate(["{url}", "{folder}", "file://{folder}"]):
        with serve_files(entry.folder.parents[1]) as web:
            place = into / str(number)
            result = pull(uri.format(url=web.url, folder=entry.folder.parents[1]), place, key)
            assert result.exception is None, result.exception
            check(place, key)


def test_without_keys_a_signature_comes_along(entry: Entry, into: Path, key: Path) -> None:
    sign(entry, key)
    with serve_files(entry.folder.parents[1]) as web:
        assert pull(web.url, into, None).exception is None
    check(into, key)


@pytest.mark.parametrize("status", [403, 404, 410])
def test_without_keys_no_signature_is_needed(entry: Entry, into: Path, status: int) -> None:
    with serve_files(entry.folder.parents[1]) as web:
        web.statuses["/iris/1/model.sig"] = [status]
        assert pull(web.url, into, None).exception is None
    assert not (into / "iris" / "1" / SIGNATURE).exists()


def test_a_page_for_people_is_no_signature(entry: Entry, into: Path) -> None:
    write_signature(entry, b"<html>no such page</html>")
    assert pull(str(entry.folder.parents[1]), into, None).exception is None
    assert not (into / "iris" / "1" / SIGNATURE).exists()


def test_a_signature_that_came_later_or_anew(entry: Entry, into: Path, key: Path, tmp_path: Path) -> None:
    store = str(entry.folder.parents[1])
    assert pull(store, into, None).exception is None
    refused(pull(store, into, key), "is not signed")
    sign(entry, key)
    assert pull(store, into, key).exception is None
    check(into, key)
    other = write_key(tmp_path / "next.pem", ec.generate_private_key(ec.SECP384R1()))
    refused(pull(store, into, other), "none of the 1 known keys")
    check(into, key)
    sign(entry, other)
    assert pull(store, into, other, "iris").exception is None
    check(into, other)
    with serve_files(entry.folder.parents[1]) as web:
        assert pull(web.url, into, other).exception is None
        assert web.asked == []


def test_archives(entry: Entry, into: Path, key: Path, tmp_path: Path) -> None:
    import shutil

    refused_archive = shutil.make_archive(str(tmp_path / "unsigned"), "gztar", entry.folder.parents[1])
    refused(pull(refused_archive, into, key), "is not signed")
    sign(entry, key)
    archive = shutil.make_archive(str(tmp_path / "signed"), "gztar", entry.folder.parents[1])
    assert pull(archive, into, key).exception is None
    check(into, key)
    assert read_signature(entry) is not None
