"""What the workers of one server write down of loading, in the run directory; all of it files, as they share no memory.

trials/KEY.json      how the trial of a version ended: the digest of its model.json, and why it must not be loaded
trials/lock          held by the process that tries versions
trials/loading-PID   the version that worker is loading; found after its death, it is why the worker died
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from berth.whole_files import write_whole

_CRASHED = "a worker crashed while it loaded this model; it is not tried again until model.json changes or a restart"


@dataclass(frozen=True, slots=True)
class TrialResult:
    """How a trial ended; no reason: the version may be loaded."""

    digest: str
    reason: str = ""


def digest_manifest(path: Path) -> str:
    """The digest of a model.json, which has the digests of all other files; empty where it cannot be read."""
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError:
        return ""


def folder_of(run_dir: Path) -> Path:
    """Where the notes of a server are."""
    return run_dir / "trials"


def write_verdict(folder: Path, key: str, verdict: TrialResult) -> None:
    """Report to all workers, now and later, how the trial of `key` ended."""
    write_whole(folder / f"{key}.json", json.dumps({"digest": verdict.digest, "reason": verdict.reason}))


def read_verdict(folder: Path, key: str, digest: str) -> TrialResult | None:
    """How the trial of this very version ended; None where it was not tried."""
    try:
        document = json.loads((folder / f"{key}.json").read_text("utf-8"))
        verdict = TrialResult(str(document["digest"]), str(document["reason"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return verdict if verdict.digest == digest else None


@contextmanager
def loading(folder: Path, key: str, digest: str) -> Iterator[None]:
    """Leave a note while a version is loaded, for the case that this process does not live to remove it."""
    note = folder / f"loading-{os.getpid()}"
    with suppress(OSError):  # a full disk: better no note than no model
        write_whole(note, json.dumps({"key": key, "digest": digest}))
    try:
        yield
    finally:
        note.unlink(missing_ok=True)


def forget_loading(run_dir: Path, pid: int) -> None:
    """A worker ends because it should: what it was loading is not the reason."""
    (folder_of(run_dir) / f"loading-{pid}").unlink(missing_ok=True)


def condemn_loading(run_dir: Path, pid: int) -> str | None:
    """Of a worker that died: the version it was loading, which is not tried again; None if it was loading none."""
    folder = folder_of(run_dir)
    note = folder / f"loading-{pid}"
    try:
        document = json.loads(note.read_text("utf-8"))
        key, digest = str(document["key"]), str(document["digest"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
    write_verdict(folder, key, TrialResult(digest, _CRASHED))
    note.unlink(missing_ok=True)
    return key


def take_lock(folder: Path) -> int | None:
    """The lock of those that try versions, as a descriptor; None while another process holds it."""
    descriptor = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    with suppress(OSError):
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return descriptor
    os.close(descriptor)
    return None
