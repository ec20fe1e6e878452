"""API keys: the file's form, its rotation without a restart, and who may use which model."""

from __future__ import annotations

import hashlib
import logging
import os
from pathlib import Path

import pytest

from berth.errors import Forbidden, SettingsError, Unauthenticated
from berth.web.auth import ApiKey, KeyRing, check_allowed, encode_key, parse_keys


def line(name: str, key: str, models: str = "") -> str:
    """One line of a keys file."""
    return f"{name}:{hashlib.sha256(key.encode()).hexdigest()}{models}\n"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A keys file: alice and bob, who may use iris alone."""
    path = tmp_path / "keys"
    path.write_text("# people\n\n" + line("alice", "one") + line("bob", "two", ":iris,churn") + "  # the end\n")
    return path


def refused(ring: KeyRing, key: str) -> bool:
    """Whether nobody knows the key."""
    try:
        ring.authenticate(None, key)
    except Unauthenticated:
        return True
    return False


def test_the_files_form(file: Path) -> None:
    alice, bob = parse_keys(file.read_text())
    assert alice == ApiKey("alice", encode_key("one"))
    assert bob.models == frozenset({"iris", "churn"})
    assert parse_keys(line("a", "x").upper())[0].sha256 == encode_key("x")


@pytest.mark.parametrize(
    "bad", ["alice", "alice:secret", f"a b:{'0' * 64}", f"a:{'0' * 63}", f"a:{'0' * 64}:", f"a:{'0' * 64}:x y"]
)
def test_a_bad_line_is_told_by_its_number_alone(bad: str) -> None:
    with pytest.raises(SettingsError, match="line 2: want name:sha256-of-key") as caught:
        parse_keys("# one\n" + bad)
    assert "secret" not in caught.value.message


def test_a_key_in_either_header(file: Path) -> None:
    ring = KeyRing(file)
    assert ring.authenticate("Bearer one", None).name == "alice"
    assert ring.authenticate("bearer  two ", None).name == "bob"
    assert ring.authenticate(None, "two").name == "bob"
    assert ring.authenticate("Basic YTpi", "one").name == "alice"


@pytest.mark.parametrize(
    ("authorization", "api_key", "message"),
    [
        (None, None, "needs a key"),
        ("", "", "needs a key"),
        ("Bearer ", None, "needs a key"),
        ("Basic one", None, "needs a key"),
        ("Bearer three", None, "not known"),
        ("Bearer three", "one", "not known"),
        (None, "alice", "not known"),
        (None, encode_key("one"), "not known"),
        (None, "\udcff\x00", "not known"),
    ],
)
def test_no_key_or_an_unknown_one(file: Path, authorization: str | None, api_key: str | None, message: str) -> None:
    with pytest.raises(Unauthenticated, match=message) as caught:
        KeyRing(file).authenticate(authorization, api_key)
    assert caught.value.headers == {"WWW-Authenticate": "Bearer"}
    assert "three" not in caught.value.message


def test_every_key_is_compared_wherever_the_right_one_stands(tmp_path: Path) -> None:
    path = tmp_path / "keys"
    path.write_text("".join(line(f"user-{number}", str(number)) for number in range(50)))
    ring = KeyRing(path)
    assert [ring.authenticate(None, str(number)).name for number in (0, 25, 49)] == ["user-0", "user-25", "user-49"]


def test_rotation_by_writing_the_file_again(file: Path) -> None:
    ring = KeyRing(file)
    file.write_text(line("alice", "one") + line("alice", "new"))
    assert ring.authenticate(None, "new").name == "alice"
    assert ring.authenticate(None, "one").name == "alice"
    file.write_text(line("alice", "new"))
    assert refused(ring, "one")


def test_rotation_as_kubernetes_swaps_a_secrets_folder(tmp_path: Path) -> None:
    for number in (1, 2):
        folder = tmp_path / f"..2026_{number}"
        folder.mkdir()
        (folder / "keys").write_text(line("alice", str(number)))
        os.utime(folder / "keys", (1, 1))
    (tmp_path / "..data").symlink_to("..2026_1")
    (tmp_path / "keys").symlink_to("..data/keys")
    ring = KeyRing(tmp_path / "keys")
    assert ring.authenticate(None, "1").name == "alice"
    (tmp_path / "..data_tmp").symlink_to("..2026_2")
    (tmp_path / "..data_tmp").rename(tmp_path / "..data")
    assert ring.authenticate(None, "2").name == "alice"
    assert refused(ring, "1")


@pytest.mark.parametrize("edit", ["gibberish", "gone", "binary"])
def test_a_bad_edit_keeps_the_keys_and_is_told_once(file: Path, edit: str, caplog: pytest.LogCaptureFixture) -> None:
    ring = KeyRing(file)
    if edit == "gone":
        file.unlink()
    else:
        file.write_bytes(b"gibberish\n" if edit == "gibberish" else b"\xff\xfe\n")
    with caplog.at_level(logging.WARNING, "berth"):
        for _ in range(3):
            assert ring.authenticate(None, "one").name == "alice"
    assert len(caplog.records) == 1
    assert "the keys read before stay in force" in caplog.text
    file.write_text(line("carol", "three"))
    assert ring.authenticate(None, "three").name == "carol"
    assert refused(ring, "one")


@pytest.mark.parametrize("content", [b"gibberish", b"\xff\xfe"])
def test_a_bad_file_stops_the_start(file: Path, content: bytes) -> None:
    file.write_bytes(content)
    with pytest.raises(SettingsError, match="BERTH_API_KEYS_FILE: cannot read the keys"):
        KeyRing(file)
    with pytest.raises(SettingsError, match="BERTH_API_KEYS_FILE"):
        KeyRing(file.with_name("absent"))


def test_a_file_without_keys_lets_nobody_in(file: Path) -> None:
    file.write_text("# none\n")
    assert refused(KeyRing(file), "one")


def test_a_key_for_some_models(file: Path) -> None:
    ring = KeyRing(file)
    bob = ring.authenticate(None, "two")
    check_allowed(bob, "iris")
    with pytest.raises(Forbidden, match="the key 'bob' is not for the model 'prices'"):
        check_allowed(bob, "prices")
    check_allowed(ring.authenticate(None, "one"), "prices")
    check_allowed(None, "prices")
