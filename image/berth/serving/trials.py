"""The trials of a server's models: each version once, whatever the number of workers.

The worker that gets the lock forks a process before it has threads. That process forks a child for each version, one
after another, and writes down how it ended; it ends with the last. Every worker waits for a version's verdict before
it loads it, so a version is tried while the one before it is loaded. If the process dies, versions without a verdict
are loaded without one: a worker that dies of it leaves a note, and its replacement knows (serving/notes.py).
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from berth.errors import BerthError, LoadError
from berth.loaders.formats import LoadOptions
from berth.models.manifest import MANIFEST
from berth.models.store import Entry, read_manifest
from berth.serving.confinement import become_child
from berth.serving.notes import TrialResult, digest_manifest, folder_of, loading, read_verdict, take_lock, write_verdict
from berth.serving.trial import import_everything, try_version

_POLL_SECONDS = 0.005
# A signal that code sends to its own process is the main thread's, which may die of it a moment later.
_SIGNAL_SECONDS = 0.05
_OWN_CODE = ("python", "mlflow")


def _digest(entry: Entry) -> str:
    return digest_manifest(entry.folder / MANIFEST)


class Trials:
    """This worker's view of the trials; `begin` before it has threads, `allow` around each load."""

    def __init__(
        self, run_dir: Path, workers: int, entries: Sequence[Entry], options: LoadOptions, version_policy: str
    ) -> None:
        self._folder = folder_of(run_dir)
        self._workers = workers
        self._entries = tuple(entries)
        self._options = options
        self._version_policy = version_policy
        self._pid = 0
        self._begun = False

    def begin(self) -> None:
        """Start the trials, unless all have been held or another worker has started them. Returns at once."""
        self._begun = True
        self._folder.mkdir(parents=True, exist_ok=True)
        waiting = [entry for entry in self._entries if self._read(entry) is None]
        if not waiting or (lock := take_lock(self._folder)) is None:
            return
        if self._workers > 1:  # the others serve meanwhile; forked with its libraries, the child need not import them
            for entry in waiting:
                self._import(entry)
        parent = os.getpid()
        self._pid = os.fork()
        if self._pid == 0:
            try:
                become_child(parent, lock)
                self._hold(waiting)
            finally:
                os._exit(0)
        os.close(lock)

    def _hold(self, entries: Sequence[Entry]) -> None:
        """Try each of the versions, and write down how it ended."""
        for entry in entries:
            digest, reason = _digest(entry), ""
            try:
                self._import(entry)
                try_version(entry, self._options, self._version_policy)
            except BerthError as error:
                reason = error.message.removeprefix(f"{entry.key} ") or "it failed"
            except Exception as error:  # such as a folder that went away
                reason = f"{type(error).__name__}: {error}"
            write_verdict(self._folder, entry.key, TrialResult(digest, reason))

    def _import(self, entry: Entry) -> str:
        """Import what a version needs; its format, or nothing where model.json is not in order."""
        with suppress(BerthError, OSError):
            manifest = read_manifest(entry)
            import_everything(entry.folder, manifest, self._options)
            return manifest.format
        return ""

    def _read(self, entry: Entry) -> TrialResult | None:
        return read_verdict(self._folder, entry.key, _digest(entry))

    def _wait(self, entry: Entry) -> TrialResult | None:
        """The verdict, once there is one; None where none is left to give it."""
        while (verdict := self._read(entry)) is None:
            if (lock := take_lock(self._folder)) is not None:
                os.close(lock)
                return self._read(entry)
            time.sleep(_POLL_SECONDS)
        return verdict

    @contextmanager
    def allow(self, entry: Entry) -> Iterator[None]:
        """Around a load: wait until the version has passed its trial, if trials have begun. Raises LoadError."""
        if not self._begun:
            yield
            return
        runs_code = self._import(entry) in _OWN_CODE
        verdict = self._wait(entry)
        if verdict is not None and verdict.reason:
            raise LoadError(verdict.reason)
        with loading(self._folder, entry.key, _digest(entry)):
            yield
            if runs_code:
                time.sleep(_SIGNAL_SECONDS)

    def end(self) -> None:
        """After the last load: the process that held the trials is gone, or about to."""
        if self._pid:
            with suppress(ChildProcessError):
                os.waitpid(self._pid, 0)
            self._pid = 0
