"""One model file that DVC tracks: dvc:REPO[@REV]:PATH, through DVC's own Python API.

REPO is a directory or the URL of a git repository; DVC finds the file's remote in its configuration there.
https://dvc.org/doc/api-reference/dvcfilesystem
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from berth.errors import BerthError, IntegrityError, StoreError
from berth.models.manifest import digest_file
from berth.pulling.https import show_url
from berth.pulling.origin import Fetched, check_file_names
from berth.pulling.transfer import Persistence, find_room

_MOST_SHOWN = 300


@dataclass(frozen=True, slots=True)
class DvcAddress:
    """REPO, REV (empty: what is checked out, or the default branch) and PATH."""

    repository: str
    revision: str
    path: str


def _shown(rest: str) -> str:
    """The URI without a password."""
    return f"dvc:{show_url(rest) if '://' in rest else rest}"


def parse_dvc_address(rest: str) -> DvcAddress:
    """REPO[@REV]:PATH; a revision has neither a slash nor a colon. Raises StoreError."""
    place, colon, path = rest.rpartition(":")
    repository, at, revision = place.rpartition("@")
    if not at or not repository or "/" in revision or ":" in revision:
        repository, revision = place, ""
    is_cut = "://" in rest and "/" not in place.partition("://")[2]  # inside of USER:PASSWORD or HOST:PORT
    if not colon or not repository or not path or is_cut:
        raise StoreError(
            f"{_shown(rest)[:200]}: want dvc:REPO[@REV]:PATH, as dvc:https://github.com/acme/churn@v3:model.pkl"
        )
    return DvcAddress(repository, revision, path)


@contextmanager
def _understood(shown: str) -> Iterator[None]:
    """DVC's errors, whose causes say more than they do themselves, as ours."""
    try:
        yield
    except (BerthError, MemoryError):
        raise
    except Exception as error:  # dvc, dulwich and the remote's library have trees of their own
        cause = error.__cause__ or error
        words = " ".join(f"{type(error).__name__}: {error}: {cause if cause is not error else ''}".split())
        raise StoreError(f"{shown}: {words.removesuffix(':')[:_MOST_SHOWN]}") from error


def _md5(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


def _download(files: Any, address: DvcAddress, to: Path, shown: str) -> str:
    """The file; its digest in DVC, empty for one that git has itself. Raises StoreError, IntegrityError."""
    info = files.info(address.path)
    if info["type"] != "file":
        raise StoreError(f"{shown} is a folder; name a file in it")
    if (size := int(info.get("size") or 0)) > (room := find_room(to.parent, 0)):
        raise StoreError(f"{shown} has {size} bytes, but {room} are free in {str(to.parent)!r}")
    files.get_file(address.path, str(to))
    md5 = str((info.get("dvc_info") or {}).get("md5") or "")
    if md5 and (found := _md5(to)) != md5:
        raise IntegrityError(f"{shown} has the md5 {found}, but DVC tracks {md5}")
    return md5


def fetch_dvc(rest: str, environ: Mapping[str, str], into: Path, persistence: Persistence) -> Fetched:
    """The file at dvc:`rest` below the folder `into`. Raises StoreError, IntegrityError."""
    del environ, persistence  # DVC's own configuration has credentials and tries
    address = parse_dvc_address(rest)
    try:
        from dvc.api import DVCFileSystem
    except ImportError as error:
        raise StoreError("dvc: needs the library dvc: pip install 'berth[dvc]'") from error
    name, shown = PurePosixPath(address.path).name, _shown(rest)
    check_file_names([name], shown)
    with _understood(shown):
        files = DVCFileSystem(address.repository, rev=address.revision or None)
        md5 = _download(files, address, into / name, shown)
        commit = str(files.repo.scm.resolve_rev(address.revision or "HEAD"))
        files.close()
    found = digest_file(into / name)
    facts = {"uri": shown, "commit": commit, **({"md5": md5} if md5 else {})}
    return Fetched(into / name, {**facts, "sha256": found.sha256, "bytes": found.bytes})
