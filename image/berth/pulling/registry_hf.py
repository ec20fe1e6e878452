"""One model file from the Hugging Face Hub: hf://ORG/REPO[@REVISION]/FILE, through the library huggingface_hub.

A branch or a tag is resolved to its commit first, and everything else is read at that commit. The file must have the
digest that the Hub lists: SHA-256 for files in LFS or Xet, git's own for small ones.
https://huggingface.co/docs/huggingface_hub/package_reference/hf_api
"""

from __future__ import annotations

import hashlib
import re
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from berth.errors import BerthError, IntegrityError, StoreError
from berth.models.manifest import digest_file
from berth.pulling.origin import Fetched, check_file_names
from berth.pulling.transfer import Cut, Persistence, find_room

_HUB = "https://huggingface.co"
_ADDRESS = re.compile(r"//(?P<repository>[\w.-]+/[\w.-]+)(?:@(?P<revision>[^@/]+))?/(?P<file>[^@]+)")
_COMMIT = re.compile(r"[0-9a-f]{40}")
_AGAIN = frozenset({408, 429, 500, 502, 503, 504})
_MOST_SHOWN = 300


@contextmanager
def _understood(shown: str) -> Iterator[None]:
    """The library's errors as ours: a refusal stays one, everything else may be a cut."""
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    try:
        yield
    except BerthError:
        raise
    except HfHubHTTPError as error:
        status = getattr(error.response, "status_code", 0)
        if status in _AGAIN:
            raise Cut(f"{shown}: the Hub returned {status}") from error
        advice = "; set HF_TOKEN in the environment" if status in (401, 403) else ""
        raise StoreError(f"{shown}: the Hub returned {status}: {_first_line(error)}{advice}") from error
    except HFValidationError as error:
        raise StoreError(f"{shown}: {_first_line(error)}") from error
    except Exception as error:  # the library's and its HTTP client's trees
        raise Cut(f"{shown} cannot be reached: {type(error).__name__}: {_first_line(error)}") from error


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines[0] if lines else type(error).__name__)[:_MOST_SHOWN]


def _git_digest(path: Path) -> str:
    """What git calls a file: SHA-1 over a header and the content."""
    begun = hashlib.sha1(f"blob {path.stat().st_size}\0".encode(), usedforsecurity=False)
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: begun).hexdigest()


def _check_content(path: Path, entry: Any, shown: str) -> str:
    """The file's sha256, once it is what the Hub lists. Raises IntegrityError."""
    found = digest_file(path)
    listed = entry.lfs.sha256 if entry.lfs is not None else entry.blob_id
    seen = found.sha256 if entry.lfs is not None else _git_digest(path)
    if found.bytes != entry.size or seen != listed:
        raise IntegrityError(
            f"{shown} has {found.bytes} bytes with the digest {seen}, but the Hub lists {entry.size} and {listed}"
        )
    return found.sha256


class _Hub:
    """A repository of the Hub at one commit."""

    def __init__(self, repository: str, environ: Mapping[str, str], persistence: Persistence) -> None:
        from huggingface_hub import HfApi, utils

        utils.disable_progress_bars()  # type: ignore[attr-defined]  # it is in its documentation
        self.url = environ.get("HF_ENDPOINT") or _HUB
        self._repository, self._persistence = repository, persistence
        self._api = HfApi(endpoint=self.url.rstrip("/"), token=environ.get("HF_TOKEN") or False, library_name="berth")

    def _call(self, shown: str, call: Callable[[], Any], progress: Callable[[], int] = lambda: 0) -> Any:
        """What the library returns, tried again after a cut. Raises StoreError."""

        def attempt() -> Any:
            with _understood(shown):
                return call()

        return self._persistence.run(shown, attempt, progress)

    def commit(self, revision: str, shown: str) -> str:
        """The commit that a branch, a tag or itself names now. Raises StoreError."""
        commit = str(self._call(shown, lambda: self._api.model_info(self._repository, revision=revision)).sha)
        if not _COMMIT.fullmatch(commit) or (_COMMIT.fullmatch(revision) and commit != revision):
            raise StoreError(f"{shown}: the Hub names the commit {commit[:60]!r}, which is none of {revision!r}")
        return commit

    def entry(self, file: str, commit: str, shown: str) -> Any:
        """What the Hub lists of a file. Raises StoreError."""
        listed = self._call(shown, lambda: self._api.get_paths_info(self._repository, [file], revision=commit))
        found = [entry for entry in listed if entry.path == file]
        if not found or not hasattr(found[0], "blob_id"):
            reason = "is a folder; name a file in it" if found else "is not there"
            raise StoreError(f"{shown}: {file!r} {reason}")
        return found[0]

    def download(self, file: str, commit: str, into: Path, shown: str) -> Path:
        """The file below `into`. Raises StoreError."""
        path = self._call(
            shown,
            lambda: self._api.hf_hub_download(self._repository, file, revision=commit, local_dir=into),
            lambda: sum(part.stat().st_size for part in into.rglob("*.incomplete")),
        )
        return Path(path)


def fetch_hub_file(rest: str, environ: Mapping[str, str], into: Path, persistence: Persistence) -> Fetched:
    """The file at hf:`rest` below the folder `into`. Raises StoreError, IntegrityError."""
    if (found := _ADDRESS.fullmatch(rest)) is None:
        raise StoreError(f"hf:{rest[:200]}: want hf://ORG/REPO[@COMMIT]/FILE, with a / of a branch's name as %2F")
    try:
        hub = _Hub(found["repository"], environ, persistence)
    except ImportError as error:
        raise StoreError("hf:// needs the library huggingface_hub: pip install 'berth[hf]'") from error
    shown, file, revision = f"hf:{rest}", found["file"], unquote(found["revision"] or "main")
    check_file_names([file], shown)
    commit = hub.commit(revision, shown)
    entry = hub.entry(file, commit, shown)
    if entry.size > (room := find_room(into, 0)):
        raise StoreError(f"{shown} has {entry.size} bytes, but {room} are free in {str(into)!r}")
    work = into / ".hub"
    path = hub.download(file, commit, work, shown)
    sha256 = _check_content(path, entry, shown)
    path.replace(to := into / Path(file).name)
    shutil.rmtree(work)
    host = urlsplit(hub.url)
    facts = {"uri": shown, "hub": f"{host.scheme}://{host.netloc.rpartition('@')[2]}", "revision": revision}
    return Fetched(to, {**facts, "commit": commit, "sha256": sha256, "bytes": entry.size})
