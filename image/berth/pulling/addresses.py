"""From a URI to a source: one table of schemes, and archives of any of them."""

from __future__ import annotations

import hashlib
import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from berth.errors import StoreError
from berth.models.signing import PublicKey
from berth.pulling.archive import SUFFIXES, unpack
from berth.pulling.bucket import LIBRARIES, open_bucket
from berth.pulling.folder import FolderSource, find_versions, open_folder
from berth.pulling.https import WebSource
from berth.pulling.layers import fetch_layers
from berth.pulling.registry_oci import OciRegistry, parse_reference
from berth.pulling.transfer import ModelSource, Moved, Persistence, fetch_whole, find_room, writing

_SCHEME = re.compile(r"([a-z][a-z0-9+.-]*)://", re.IGNORECASE)


@dataclass(frozen=True)
class Access:
    """How to reach a source. `authorization` is an HTTP header's value and never shown."""

    authorization: str = field(default="", repr=False)
    persistence: Persistence = field(default_factory=Persistence)
    max_bytes: int = 0  # what the directory may hold; 0: whatever its disk does
    environ: Mapping[str, str] = field(default_factory=dict, repr=False)  # where container tools' credentials are
    signature_keys: tuple[PublicKey, ...] = ()  # one of which must have signed what is fetched; none: unsigned too


def split_scheme(uri: str) -> tuple[str, str]:
    """(scheme, rest); a plain path is `file`."""
    found = _SCHEME.match(uri)
    return (found[1].lower(), uri[found.end() :]) if found else ("file", uri)


def _archive_suffix(uri: str) -> str:
    scheme, rest = split_scheme(uri)
    try:
        path = urlsplit(uri).path if scheme in ("http", "https") else rest
    except ValueError as error:  # without the URI, which may hold a password
        raise StoreError(f"the {scheme} URI cannot be parsed: want {scheme}://HOST[:PORT]/PATH") from error
    return next((suffix for suffix in SUFFIXES if path.lower().endswith(suffix)), "")


def _open_remote(uri: str, access: Access) -> ModelSource:
    scheme, rest = split_scheme(uri)
    if scheme in ("http", "https"):
        return WebSource(uri, access.authorization, access.persistence)
    if scheme in LIBRARIES:
        return access.persistence.run(f"{scheme}://{rest}", lambda: open_bucket(scheme, rest))
    known = ", ".join(f"{name}://" for name in ("file", "http", "https", "oci", *LIBRARIES))
    raise StoreError(f"{scheme}:// is not supported; use one of {known}, or a directory")


@contextmanager
def _unpacking(work: Path) -> Iterator[Path]:
    """A fresh folder below `work`, which stays only if the block succeeds: what was unpacked may be large."""
    with writing(work / "unpacked"):
        folder = Path(tempfile.mkdtemp(prefix="unpacked-", dir=work))
    try:
        yield folder
    except BaseException:  # Ctrl-C too
        shutil.rmtree(folder, ignore_errors=True)
        raise


def _find_unpacked(folder: Path, shown: str, advice: str) -> FolderSource:
    if not (versions := find_versions(folder)):
        raise StoreError(f"{shown} holds no model.json; {advice}")
    return FolderSource(folder, shown, versions, movable=True)


def _open_archive(uri: str, suffix: str, work: Path, access: Access, moved: Moved) -> FolderSource:
    """What an archive holds, unpacked below `work`; a fetched archive is gone as soon as it is unpacked."""
    scheme, rest = split_scheme(uri)
    archive, shown = Path(rest), f"file://{rest}"
    if scheme != "file":
        source = _open_remote(uri, access)
        archive, shown = work / f"{hashlib.sha256(uri.encode()).hexdigest()}{suffix}", source.shown
        room = find_room(work.parent, access.max_bytes) + (archive.stat().st_size if archive.exists() else 0)
        fetch_whole(source, "", archive, room // 2, access.persistence, moved)
    elif not archive.is_file():
        raise StoreError(f"{shown} is not a file")
    try:
        with _unpacking(work) as folder:
            unpack(archive, folder, suffix, find_room(work.parent, access.max_bytes))
            return _find_unpacked(folder, shown, "pack a version's folder as `berth add` made it")
    finally:
        if scheme != "file":
            archive.unlink(missing_ok=True)


def _open_image(rest: str, work: Path, access: Access, moved: Moved) -> FolderSource:
    """The store in an OCI image, unpacked below `work`. Raises StoreError, IntegrityError, UnsafeArtifact."""
    registry = OciRegistry(parse_reference(rest), access.environ, access.persistence)
    with _unpacking(work) as folder:
        digest = fetch_layers(registry, folder, work, access.persistence, access.max_bytes, moved)
        return _find_unpacked(folder, f"{registry.shown}@{digest}", "`berth push` makes images of versions")


def open_source(uri: str, work: Path, access: Access, moved: Moved = lambda done: None) -> ModelSource:
    """The store at `uri`; what must lie on this disk for it is put below `work`. Raises StoreError."""
    scheme, rest = split_scheme(uri)
    if scheme == "oci":
        return _open_image(rest, work, access, moved)
    if suffix := _archive_suffix(uri):
        return _open_archive(uri, suffix, work, access, moved)
    return open_folder(Path(rest), f"file://{rest}") if scheme == "file" else _open_remote(uri, access)
