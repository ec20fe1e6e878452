"""The model store: NAME/VERSION folders that are written once, whole, and never changed."""

from __future__ import annotations

import errno
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from berth.errors import IntegrityError, ManifestError, StoreError
from berth.models.manifest import MANIFEST, SIGNATURE, Manifest, check_files, parse_manifest
from berth.models.signing import SIGNATURE_BYTES, PublicKey, check_signature

WORD = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
LATEST = "latest"
_SEMVER = re.compile(r"v?(\d+(?:\.\d+)*)(?:-([0-9A-Za-z.-]+))?(?:\+[0-9A-Za-z.-]+)?")
MANIFEST_BYTES = 4 << 20


@dataclass(frozen=True, slots=True)
class Entry:
    """One version in a store."""

    name: str
    version: str
    folder: Path

    @property
    def key(self) -> str:
        """The entry as people write it."""
        return f"{self.name}@{self.version}"


def version_key(version: str) -> tuple[object, ...]:
    """Sorts natural numbers and semver as such (a pre-release before its release), other names before them."""
    if (found := _SEMVER.fullmatch(version)) is None:
        return (0, (), False, (), version)
    numbers = [int(part) for part in found[1].split(".")]
    while len(numbers) > 1 and numbers[-1] == 0:
        numbers.pop()
    steps = (found[2] or "").split(".")
    before = tuple((0, int(step), "") if step.isdigit() else (1, 0, step) for step in steps)
    return (1, tuple(numbers), found[2] is None, before, version)


def check_word(kind: str, word: str) -> None:
    """That a model's or version's name can be a folder and a part of a URL. Raises StoreError."""
    if WORD.fullmatch(word) is None or word == LATEST:
        raise StoreError(f"{word!r} cannot be a {kind}: use letters, digits, dot, dash, underscore (not {LATEST!r})")


def list_versions(store: Path, name: str) -> list[Entry]:
    """A model's versions, the lowest first; none for a word that cannot be a model's name."""
    folder = store / name
    present = WORD.fullmatch(name) is not None and folder.is_dir()
    found = [
        Entry(name, path.name, path)
        for path in (folder.iterdir() if present else ())
        if WORD.fullmatch(path.name) and (path / MANIFEST).is_file()
    ]
    return sorted(found, key=lambda entry: version_key(entry.version))


def next_version(store: Path, name: str) -> str:
    """The natural number after the highest version there is; 1 for a new model."""
    entries = list_versions(store, name)
    if not entries:
        return "1"
    numbers = version_key(entries[-1].version)[1]
    assert isinstance(numbers, tuple)  # noqa: S101 - for the type checker
    return str(numbers[0] + 1) if numbers else "1"


def list_names(store: Path) -> list[str]:
    """The models of a store. Raises StoreError when it is not a directory."""
    if not store.is_dir():
        raise StoreError(f"the model store {str(store)!r} is not a directory; make it with `berth add FILE`")
    return sorted(
        path.name for path in store.iterdir() if WORD.fullmatch(path.name) and list_versions(store, path.name)
    )


def find_version(store: Path, name: str, version: str = LATEST) -> Entry:
    """One version of a model. Raises StoreError telling what there is."""
    entries = list_versions(store, name)
    if not entries:
        raise StoreError(f"no model {name!r} in the store; there is {', '.join(list_names(store)) or 'none'}")
    if version == LATEST:
        return entries[-1]
    for entry in entries:
        if entry.version == version:
            return entry
    there = ", ".join(entry.version for entry in entries)
    raise StoreError(f"no version {version!r} of {name!r} in the store; there is {there}")


def find_by_key(store: Path, key: str) -> Entry:
    """One version as people write it, NAME or NAME@VERSION. Raises StoreError telling what there is."""
    name, _, version = key.partition("@")
    return find_version(store, name, version or LATEST)


def select_models(store: Path, models: str, default_version: str = "") -> list[Entry]:
    """The entries that BERTH_MODELS names, in its order; all names at latest when it is empty. Raises StoreError."""
    wanted = [word.strip() for word in models.split(",") if word.strip()] or list_names(store)
    entries: list[Entry] = []
    for at, word in enumerate(wanted):
        name, _, version = word.partition("@")
        version = version or (default_version if at == 0 else "") or LATEST
        entry = find_version(store, name, version)
        if entry not in entries:
            entries.append(entry)
    if not entries:
        raise StoreError(f"the model store {str(store)!r} holds no model; add one with `berth add FILE`")
    return entries


def read_manifest_text(entry: Entry) -> tuple[bytes, Manifest]:
    """model.json of an entry as it is on the disk, and what it says. Raises ManifestError, IntegrityError."""
    path = entry.folder / MANIFEST
    if path.is_symlink():
        raise IntegrityError(f"{MANIFEST} is a symbolic link; a version holds plain files only")
    if path.stat().st_size > MANIFEST_BYTES:
        raise ManifestError(f"{MANIFEST} has {path.stat().st_size} bytes; the maximum is {MANIFEST_BYTES}")
    text = path.read_bytes()
    manifest = parse_manifest(text)
    if (manifest.name, manifest.version) != (entry.name, entry.version):
        raise ManifestError(f"{MANIFEST} says {manifest.name}@{manifest.version}, but its folder is {entry.key}")
    return text, manifest


def read_manifest(entry: Entry) -> Manifest:
    """model.json of an entry. Raises ManifestError, IntegrityError."""
    return read_manifest_text(entry)[1]


def read_signature(entry: Entry) -> bytes | None:
    """model.sig of an entry, None without one. Raises IntegrityError."""
    path = entry.folder / SIGNATURE
    if not path.is_file() or path.is_symlink():
        return None
    if (size := path.stat().st_size) > SIGNATURE_BYTES:
        raise IntegrityError(f"{SIGNATURE} has {size} bytes; the maximum is {SIGNATURE_BYTES}")
    return path.read_bytes()


def verify_version(entry: Entry, keys: Sequence[PublicKey] = ()) -> Manifest:
    """An entry's manifest, once every file has the digest it records; with keys, once one of them signed it.

    Raises ManifestError, IntegrityError.
    """
    if entry.folder.is_symlink():
        raise IntegrityError(f"{entry.key} is a symbolic link; a version is a folder")
    text, manifest = read_manifest_text(entry)
    if keys:
        check_signature(read_signature(entry), manifest, text, keys)
    check_files(entry.folder, manifest)
    return manifest


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_signature(entry: Entry, bundle: bytes) -> None:
    """Put model.sig into a version's folder, in place of one that is there; whole or not at all. Raises StoreError."""
    path = entry.folder.parent / f".{entry.version}-{os.getpid()}.sig.part"
    try:
        path.write_bytes(bundle)
        path.chmod(0o644)
        _sync(path)
        path.replace(entry.folder / SIGNATURE)
        _sync(entry.folder)
    except OSError as error:
        path.unlink(missing_ok=True)
        raise StoreError(f"{SIGNATURE} of {entry.key} cannot be written: {error.strerror}") from error


@contextmanager
def _part_folder(entry: Entry) -> Iterator[Path]:
    """A folder beside the version's, hidden from every reader; gone when the block ends, unless it was renamed."""
    part = Path(tempfile.mkdtemp(prefix=f".{entry.version}-", suffix=".part", dir=entry.folder.parent))
    try:
        yield part
    finally:
        shutil.rmtree(part, ignore_errors=True)


def write_version(store: Path, name: str, version: str, fill: Callable[[Path], None]) -> Entry:
    """Make NAME/VERSION from what `fill` puts into a folder; all of it appears at once or nothing does.

    Raises StoreError when the version is already there (versions never change) or the disk refuses.
    """
    check_word("model's name", name)
    check_word("version", version)
    entry = Entry(name, version, store / name / version)
    taken = f"{entry.key} is already in the store and versions never change; add it under another --version"
    if entry.folder.exists():
        raise StoreError(taken)
    try:
        entry.folder.parent.mkdir(parents=True, exist_ok=True)
        with _part_folder(entry) as part:
            fill(part)
            for path in [*part.rglob("*"), part]:
                path.chmod(0o755 if path.is_dir() else 0o644)
                _sync(path)
            part.rename(entry.folder)
        _sync(entry.folder.parent)
    except OSError as error:
        if error.errno in (errno.EEXIST, errno.ENOTEMPTY):  # somebody else was quicker
            raise StoreError(taken) from error
        raise StoreError(f"{entry.key} cannot be written to the store {str(store)!r}: {error}") from error
    return entry
