"""The store: how versions sort, that one appears whole or not at all, and which are chosen."""

from __future__ import annotations

import os
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from berth.errors import IntegrityError, ManifestError, StoreError
from berth.models.manifest import MANIFEST, Manifest, digest_file, encode_manifest
from berth.models.store import (
    Entry,
    check_word,
    find_version,
    list_names,
    list_versions,
    read_manifest,
    select_models,
    verify_version,
    version_key,
    write_version,
)


def fill(part: Path) -> None:
    """A version with one file."""
    (part / "model.onnx").write_bytes(b"abc")
    manifest = Manifest("iris", "1", "onnx", "2026-01-02T03:04:05Z", {"model.onnx": digest_file(part / "model.onnx")})
    (part / MANIFEST).write_bytes(encode_manifest(manifest))


def fill_empty(part: Path) -> None:
    """A version that says nothing of itself."""
    (part / MANIFEST).write_text("{}")


def put(store: Path, name: str, *versions: str) -> None:
    """Versions of a model that say nothing of themselves."""
    for version in versions:
        write_version(store, name, version, fill_empty)


@pytest.mark.parametrize(
    "ascending",
    [
        ["1", "2", "9", "10", "11"],
        ["1.0.0-alpha", "1.0.0-alpha.1", "1.0.0-alpha.beta", "1.0.0-beta", "1.0.0-beta.2", "1.0.0-beta.11",
         "1.0.0-rc.1", "1.0.0"],
        ["0.9", "1", "1.0.1", "1.2", "1.10", "2", "2.0.1", "10.0.0"],
        ["abc", "nightly", "0", "1-rc1", "1"],
        ["v1", "v2", "v10"],
        ["2024-01", "2024-02", "2024-10", "2024"],
        ["20240101", "20240110", "20250101"],
    ],
)  # fmt: skip
def test_versions_sort_as_people_mean_them(ascending: list[str]) -> None:
    assert all(version_key(low) < version_key(high) for low, high in pairwise(ascending))


@given(st.lists(st.text("01.-+abv", min_size=1, max_size=8), min_size=2, max_size=6))
def test_any_words_have_an_order(versions: list[str]) -> None:
    ordered = sorted(versions, key=version_key)
    versions.reverse()
    assert sorted(versions, key=version_key) == ordered


@pytest.mark.parametrize("word", ["latest", "..", ".", "a/b", "", ".hidden", "-x", "a b", "a\n", "ü", "a" * 129, "a@1"])
def test_a_word_that_cannot_be_a_name(tmp_path: Path, word: str) -> None:
    with pytest.raises(StoreError, match="cannot be a version"):
        check_word("version", word)
    for name, version in ((word, "1"), ("iris", word)):
        with pytest.raises(StoreError):
            write_version(tmp_path, name, version, fill)
    assert list(tmp_path.iterdir()) == []


def test_a_version_appears_whole(tmp_path: Path) -> None:
    seen: list[list[Entry]] = []

    def slowly(part: Path) -> None:
        fill(part)
        seen.append(list_versions(tmp_path, "iris"))

    entry = write_version(tmp_path, "iris", "1", slowly)
    assert seen == [[]]
    assert verify_version(entry).name == "iris"
    assert [path.name for path in entry.folder.parent.iterdir()] == ["1"]
    assert entry.folder.stat().st_mode & 0o777 == 0o755


def test_a_failure_leaves_nothing(tmp_path: Path) -> None:
    def fail(part: Path) -> None:
        fill(part)
        raise RuntimeError("broken")

    with pytest.raises(RuntimeError, match="broken"):
        write_version(tmp_path, "iris", "1", fail)
    assert list((tmp_path / "iris").iterdir()) == []
    assert list_names(tmp_path) == []


def test_a_version_never_changes(tmp_path: Path) -> None:
    entry = write_version(tmp_path, "iris", "1", fill)
    with pytest.raises(StoreError, match="iris@1 is already in the store and versions never change"):
        write_version(tmp_path, "iris", "1", lambda part: None)
    verify_version(entry)


_KILLED = """
import os, signal, sys
from pathlib import Path
from berth.models.store import write_version
def fill(part):
    (part / "model.onnx").write_bytes(b"abc")
    (part / "model.json").write_bytes(b"{}")
    os.kill(os.getpid(), signal.SIGKILL)
write_version(Path(sys.argv[1]), "iris", "1", fill)
"""


def test_a_writer_that_is_killed_leaves_nothing_visible(tmp_path: Path) -> None:
    assert subprocess.run([sys.executable, "-c", _KILLED, str(tmp_path)], check=False).returncode == -9
    assert list_names(tmp_path) == []
    with pytest.raises(StoreError, match="no model 'iris'"):
        find_version(tmp_path, "iris")
    write_version(tmp_path, "iris", "1", fill)
    assert [entry.version for entry in list_versions(tmp_path, "iris")] == ["1"]


_RACING = """
import sys, time
from pathlib import Path
from berth.errors import StoreError
from berth.models.store import write_version
store, me = Path(sys.argv[1]), sys.argv[2]
won = 0
(store / f"here-{me}").touch()
while len(list(store.glob("here-*"))) < 4:
    time.sleep(0.001)
for version in range(40):
    try:
        write_version(store, "iris", str(version), lambda part: (part / "model.json").write_text(me))
        won += 1
    except StoreError as error:
        assert "already in the store" in error.message, error.message
print(won)
"""


def test_of_four_writers_one_wins(tmp_path: Path) -> None:
    command = [sys.executable, "-c", _RACING, str(tmp_path)]
    writers = [subprocess.Popen([*command, str(me)], stdout=subprocess.PIPE, text=True) for me in range(4)]
    won = [int(writer.communicate(timeout=60)[0]) for writer in writers]
    winners = [(entry.folder / MANIFEST).read_text() for entry in list_versions(tmp_path, "iris")]
    assert len(winners) == sum(won) == 40
    assert [winners.count(str(me)) for me in range(4)] == won
    assert len(list((tmp_path / "iris").iterdir())) == 40


def test_a_store_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match=r"iris@1 cannot be written to the store .*/file': .*Not a directory"):
        write_version(tmp_path / "file", "iris", "1", fill)
    if os.getuid():  # nothing is read-only to root
        (tmp_path / "shut").mkdir(mode=0o500)
        with pytest.raises(StoreError, match="Permission denied"):
            write_version(tmp_path / "shut", "iris", "1", fill)
    with pytest.raises(StoreError, match="is not a directory; make it with `berth add FILE`"):
        list_names(tmp_path / "absent")


def test_models_are_chosen_in_order(tmp_path: Path) -> None:
    put(tmp_path, "iris", "1", "2", "10")
    put(tmp_path, "churn", "1.0.0", "1.1.0-rc1")

    def chosen(models: str, default: str = "") -> list[str]:
        return [entry.key for entry in select_models(tmp_path, models, default)]

    assert chosen("") == ["churn@1.1.0-rc1", "iris@10"]
    assert chosen("iris, churn@1.0.0") == ["iris@10", "churn@1.0.0"]
    assert chosen("iris@2,iris@latest,iris@2") == ["iris@2", "iris@10"]
    assert chosen("iris,churn", "1") == ["iris@1", "churn@1.1.0-rc1"]
    assert chosen("iris@2", "1") == ["iris@2"]


@pytest.mark.parametrize(
    ("models", "message"),
    [
        ("roses", "no model 'roses' in the store; there is iris"),
        ("iris@3", "no version '3' of 'iris' in the store; there is 1, 2"),
        ("../other", "no model '../other'"),
        ("..", "no model '..'"),
        ("iris/1", "no model 'iris/1'"),
        ("@1", "no model ''"),
    ],
)
def test_what_is_not_there_is_told_with_what_is(tmp_path: Path, models: str, message: str) -> None:
    put(tmp_path / "store", "iris", "1", "2")
    put(tmp_path, "other", "1")
    with pytest.raises(StoreError, match=message):
        select_models(tmp_path / "store", models)


def test_an_absolute_path_is_no_name(tmp_path: Path) -> None:
    put(tmp_path, "other", "1")
    with pytest.raises(StoreError, match="no model"):
        find_version(tmp_path, str(tmp_path / "other"))


def test_an_empty_store_is_told(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="holds no model; add one with `berth add FILE`"):
        select_models(tmp_path, "")


def test_what_is_no_version_is_not_listed(tmp_path: Path) -> None:
    put(tmp_path, "iris", "1")
    (tmp_path / "iris" / "2").mkdir()
    (tmp_path / "iris" / ".3-x.part").mkdir()
    (tmp_path / "README.md").write_text("")
    (tmp_path / "empty").mkdir()
    assert list_names(tmp_path) == ["iris"]
    assert [entry.version for entry in list_versions(tmp_path, "iris")] == ["1"]


def test_a_manifest_must_be_its_folders(tmp_path: Path) -> None:
    write_version(tmp_path, "iris", "1", fill)
    (tmp_path / "iris" / "1").rename(tmp_path / "iris" / "2")
    with pytest.raises(ManifestError, match=r"model\.json says iris@1, but its folder is iris@2"):
        verify_version(find_version(tmp_path, "iris"))


def test_links_in_the_store_are_refused(tmp_path: Path) -> None:
    entry = write_version(tmp_path, "iris", "1", fill)
    (tmp_path / "iris" / "2").symlink_to(entry.folder)
    with pytest.raises(IntegrityError, match="iris@2 is a symbolic link"):
        verify_version(find_version(tmp_path, "iris", "2"))
    (entry.folder / MANIFEST).rename(tmp_path / "moved")
    (entry.folder / MANIFEST).symlink_to(tmp_path / "moved")
    with pytest.raises(IntegrityError, match=r"model\.json is a symbolic link"):
        read_manifest(entry)


def test_a_huge_manifest_is_not_read(tmp_path: Path) -> None:
    entry = write_version(tmp_path, "iris", "1", fill)
    with (entry.folder / MANIFEST).open("ab") as file:
        file.truncate(1 << 30)
    with pytest.raises(ManifestError, match="1073741824 bytes"):
        read_manifest(entry)
