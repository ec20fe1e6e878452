"""Models from a store elsewhere into a directory here, whole and verified or not at all.

    into/NAME/VERSION     appears by one rename, when every byte of it is what model.json says
    into/.pull            what is under way: parts named by the digest that they must get, so that a later run goes on

Nothing below `.pull` is ever read by a server, and it is gone after a run that succeeds. A full disk or a wrong
digest takes it away as well; only a cut keeps what has come. One pull at a time works in a directory.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from berth.errors import BerthError, IntegrityError, ManifestError, StoreError
from berth.models.manifest import MANIFEST, SIGNATURE, Manifest, check_digest, parse_manifest
from berth.models.store import (
    LATEST,
    MANIFEST_BYTES,
    WORD,
    Entry,
    check_word,
    verify_version,
    version_key,
    write_version,
)
from berth.pulling.addresses import Access, open_source
from berth.pulling.signatures import fetch_signature, is_trusted, renew_signature
from berth.pulling.transfer import (
    MORE_ROOM,
    ModelSource,
    disk_error,
    fetch_file,
    find_room,
    read_small,
    writing,
)
from berth.telemetry.logs import one_line

_WORK = ".pull"
_MOST_SHOWN = 800


@dataclass(frozen=True)
class PullReport:
    """Who hears of it: `line` about what is done, `moved(what, done, total)` while bytes come (total 0: unknown)."""

    line: Callable[[str], None] = lambda text: None
    moved: Callable[[str, int, int], None] = lambda what, done, total: None


@dataclass(frozen=True, slots=True)
class Wanted:
    """One model of --models; `version` may be `latest`, `sha256` is that of its model.json."""

    name: str
    version: str = LATEST
    sha256: str = ""


def parse_wanted(models: str, sha256: str = "") -> list[Wanted]:
    """The models as BERTH_MODELS lists them; the digest belongs to the first. Raises StoreError."""
    found: list[Wanted] = []
    for word in filter(None, (word.strip() for word in models.split(","))):
        name, _, version = word.partition("@")
        check_word("model's name", name)
        if version not in ("", LATEST):
            check_word("version", version)
        one = Wanted(name, version or LATEST, "" if found else sha256)
        if all((one.name, one.version) != (other.name, other.version) for other in found):
            found.append(one)
    if sha256 and not found:
        raise StoreError("a digest needs a model that it belongs to: name it in --models")
    return found


def _check_manifest_digest(entry: Entry, text: bytes, sha256: str) -> None:
    found = hashlib.sha256(text).hexdigest()
    if sha256 and found != sha256.lower():
        raise IntegrityError(f"{MANIFEST} of {entry.key} has sha256 {found}, but --sha256 says {sha256.lower()}")


def _is_there(into: Path, wanted: Wanted, report: PullReport) -> bool:
    """Whether a version is here already, whole and the one that is wanted. Raises IntegrityError when it is not."""
    entry = Entry(wanted.name, wanted.version, into / wanted.name / wanted.version)
    if not entry.folder.exists():
        return False
    try:
        verify_version(entry)
        _check_manifest_digest(entry, (entry.folder / MANIFEST).read_bytes(), wanted.sha256)
    except (BerthError, OSError) as error:
        reason = error.message if isinstance(error, BerthError) else str(error)
        raise IntegrityError(
            f"{entry.key} is in {str(into)!r} already, but: {reason}; remove {str(entry.folder)!r}, then pull again"
        ) from error
    report.line(f"{entry.key}: already in {into}, every file as its {MANIFEST} says")
    return True


def _list_versions(source: ModelSource, name: str, access: Access) -> list[str]:
    found = access.persistence.run(source.shown, lambda: source.list_versions(name))
    return [version for version in found if WORD.fullmatch(version)]


def _list_names(source: ModelSource, access: Access) -> list[str]:
    found = access.persistence.run(source.shown, source.list_names)
    return [name for name in found if WORD.fullmatch(name) and _list_versions(source, name, access)]


def _highest(source: ModelSource, name: str, access: Access) -> str:
    versions = _list_versions(source, name, access)
    if not versions:
        raise StoreError(
            f"no model {name!r} in {source.shown}; there is {', '.join(_list_names(source, access)) or 'none'}"
        )
    return max(versions, key=version_key)


def _read_manifest(source: ModelSource, entry: Entry, sha256: str, access: Access) -> tuple[bytes, Manifest]:
    text = read_small(source, f"{entry.name}/{entry.version}/{MANIFEST}", MANIFEST_BYTES, access.persistence)
    _check_manifest_digest(entry, text, sha256)
    manifest = parse_manifest(text)
    _check_names(manifest)
    if (manifest.name, manifest.version) != (entry.name, entry.version):
        raise ManifestError(
            f"{MANIFEST} of {source.shown} says {manifest.name}@{manifest.version} where {entry.key} should be"
        )
    return text, manifest


def _check_names(manifest: Manifest) -> None:
    """That the files can lie side by side under names that can be shown. Raises ManifestError."""
    for name in manifest.files:
        if not name.isprintable():
            raise ManifestError(f"{MANIFEST} names a file {name[:80]!r}, with a character that cannot be printed")
        if above := next((str(one) for one in PurePosixPath(name).parents if str(one) in manifest.files), ""):
            raise ManifestError(f"{MANIFEST} names {above[:80]!r} as a file and as a folder")


def _check_room(work: Path, manifest: Manifest, key: str, max_bytes: int) -> None:
    digests = {digest.sha256: digest.bytes for digest in manifest.files.values()}
    here = sum((work / sha256).stat().st_size for sha256 in digests if (work / sha256).exists())
    free, needed = find_room(work.parent, max_bytes), sum(digests.values()) - here
    if needed > free:
        raise StoreError(f"{key} needs {needed} bytes in {str(work.parent)!r}, but {free} are free: {MORE_ROOM}")


class _Pull:
    """One run: a source, the directory, and who is informed."""

    def __init__(self, source: ModelSource, into: Path, access: Access, report: PullReport) -> None:
        self._source, self._into, self._access, self._report = source, into, access, report
        self._work = into / _WORK

    def names(self) -> list[Wanted]:
        """Every model of the source, for when none is named."""
        found = [Wanted(name) for name in _list_names(self._source, self._access)]
        if not found:
            raise StoreError(f"{self._source.shown} holds no model")
        return found

    def _fetch(self, entry: Entry, manifest: Manifest) -> None:
        """Every file in the work folder, under the name of its digest."""
        total, done = sum(digest.bytes for digest in manifest.files.values()), 0
        for name, digest in sorted(manifest.files.items()):
            path, part = f"{entry.name}/{entry.version}/{name}", self._work / digest.sha256
            if (ready := self._source.movable(path)) is not None:
                check_digest(ready, f"{path} from {self._source.shown}", digest)
                ready.replace(part)
            begun = done
            fetch_file(
                self._source,
                path,
                part,
                digest,
                self._access.persistence,
                lambda size, begun=begun: self._report.moved(entry.key, begun + size, total),  # type: ignore[misc]
            )
            done += digest.bytes
            self._report.moved(entry.key, done, total)

    def _place(self, entry: Entry, text: bytes, manifest: Manifest, signature: bytes | None) -> None:
        """The version in the store, by one rename."""

        def fill(part: Path) -> None:
            placed: dict[str, Path] = {}
            for name, digest in manifest.files.items():
                to = part / name
                to.parent.mkdir(parents=True, exist_ok=True)
                if (twin := placed.setdefault(digest.sha256, to)) is to:
                    (self._work / digest.sha256).replace(to)
                else:
                    shutil.copyfile(twin, to)
            (part / MANIFEST).write_bytes(text)
            if signature is not None:
                (part / SIGNATURE).write_bytes(signature)

        try:
            write_version(self._into, entry.name, entry.version, fill)
        except BaseException:  # Ctrl-C too: no part is left behind
            with contextlib.suppress(OSError):  # only if it is empty: made for a version that did not come
                entry.folder.parent.rmdir()
            raise

    def pull(self, wanted: Wanted) -> Entry:
        """One model here, fetched unless it is here already."""
        version = _highest(self._source, wanted.name, self._access) if wanted.version == LATEST else wanted.version
        entry = Entry(wanted.name, version, self._into / wanted.name / version)
        if _is_there(self._into, Wanted(wanted.name, version, wanted.sha256), self._report):
            if not is_trusted(entry, self._access):
                renew_signature(self._source, entry, self._access)
            return entry
        text, manifest = _read_manifest(self._source, entry, wanted.sha256, self._access)
        signature = fetch_signature(self._source, entry, text, manifest, self._access)
        total = sum(digest.bytes for digest in manifest.files.values())
        self._report.line(f"{entry.key}: {len(manifest.files)} files, {total} bytes from {self._source.shown}")
        _check_room(self._work, manifest, entry.key, self._access.max_bytes)
        self._fetch(entry, manifest)
        self._place(entry, text, manifest, signature)
        self._report.line(f"{entry.key}: in {self._into}, {MANIFEST} has sha256 {hashlib.sha256(text).hexdigest()}")
        return entry


@contextmanager
def _alone(work: Path, report: PullReport) -> Iterator[None]:
    """The work folder, for one process at a time; the lock is a file that goes away with the folder."""
    while True:
        with writing(work):
            work.mkdir(parents=True, exist_ok=True)
        try:
            lock = os.open(work / "lock", os.O_CREAT | os.O_RDWR, 0o600)
        except FileNotFoundError:
            continue  # its owner has just finished
        except OSError as error:
            raise disk_error(error, work.parent) from error
        with contextlib.suppress(OSError):  # no locks on this disk: digests still keep what is wrong out
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                report.line(f"another pull works in {work.parent}; waiting for it")
                fcntl.flock(lock, fcntl.LOCK_EX)
        with contextlib.suppress(FileNotFoundError):
            if os.path.samestat(os.stat(work / "lock"), os.fstat(lock)):
                break
        os.close(lock)
    try:
        yield
    finally:
        os.close(lock)


def pull_models(uri: str, into: Path, wanted: Sequence[Wanted], access: Access, report: PullReport) -> list[Entry]:
    """The wanted models of the store at `uri`, all of it where none is named, in `into`.

    Raises StoreError, IntegrityError, ManifestError, UnsafeArtifact.
    """
    entries = [Entry(one.name, one.version, into / one.name / one.version) for one in wanted]
    if entries and all(entry.folder.exists() for entry in entries):  # `latest` is no folder's name
        for one in wanted:
            _is_there(into, one, report)
        if all(is_trusted(entry, access) for entry in entries):
            return entries
    work = into / _WORK
    with _alone(work, report):
        try:
            source = open_source(uri, work, access, lambda done: report.moved("the archive", done, 0))
            run = _Pull(source, into, access, report)
            entries = [run.pull(one) for one in wanted or run.names()]
        except Exception as error:  # whatever it is, nothing half-fetched stays behind
            if not isinstance(error.__cause__, ConnectionError):
                shutil.rmtree(work, ignore_errors=True)
            if isinstance(error, BerthError):  # some of it may be a stranger's words: one line, not a page of them
                raise type(error)(one_line(error.message[:_MOST_SHOWN])) from error
            raise
        shutil.rmtree(work, ignore_errors=True)
    return entries
