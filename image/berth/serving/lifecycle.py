"""What the workers of one server agree on: who is ready, whether to drain, whether one is stuck.

Workers share no memory, so all of it is files in the run directory:

    workers/PID.json   one worker's models and their states, written whole by a rename
    all-ready          every worker has been ready once; a later worker is a replacement
    drain              turn traffic away (written by `berth drain`)
    stuck-PID          that worker has had a prediction inside for too long
    blocked-PID        that worker computes only predictions that have run past their time, and can begin no other
    worker-count       how many workers there are since the CPU limit changed; absent before
"""

from __future__ import annotations

import json
import logging
import os
import shutil
import threading
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from berth.telemetry.logs import log
from berth.whole_files import write_whole

LOADING, READY, FAILED = "loading", "ready", "failed"
# Marks a run directory that goes when the server does; it names the store, if one was made too.
MADE_HERE = "made-here"


@dataclass(frozen=True, slots=True)
class ModelState:
    """One model in one worker; `reason` says why it failed."""

    state: str
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Readiness:
    """Whether to send traffic, and if not, why not."""

    ready: bool
    reason: str = ""


def discard_run_dir(run_dir: Path) -> None:
    """Remove a run directory that was made for one server alone, and the store that was made for it."""
    if (mark := run_dir / MADE_HERE).exists():
        if store := mark.read_text("utf-8"):
            shutil.rmtree(store, ignore_errors=True)
        shutil.rmtree(run_dir, ignore_errors=True)


def write_drain(run_dir: Path) -> None:
    """Make every worker of the server of `run_dir` return 503 at /readyz."""
    (run_dir / "drain").touch()


def write_worker_count(run_dir: Path, count: int) -> None:
    """Report to all workers how many there are from now on."""
    write_whole(run_dir / "worker-count", str(count))


class Lifecycle:
    """This worker's models and their states, and the view over all workers."""

    def __init__(self, run_dir: Path, workers: int, models: list[str]) -> None:
        self._run_dir = run_dir
        self._workers = workers
        self._lock = threading.Lock()
        self._states = dict.fromkeys(models, ModelState(LOADING))
        # What holds of this worker, as the others can see it.
        self._marked: set[str] = set()
        self._folder = run_dir / "workers"
        self._folder.mkdir(parents=True, exist_ok=True)

    def set_state(self, model: str, state: str, reason: str = "") -> None:
        """Record one model's state and inform the other workers."""
        with self._lock:
            self._states[model] = ModelState(state, reason)
            document = {name: asdict(value) for name, value in self._states.items()}
            try:
                write_whole(self._folder / f"{os.getpid()}.json", json.dumps(document))
            except OSError as error:  # a full disk: it can still predict, if it was ready before
                log(
                    "the state of this worker could not be written for the others",
                    level=logging.ERROR,
                    error=str(error),
                )
        if self.readiness().ready:
            (self._run_dir / "all-ready").touch()

    @property
    def states(self) -> Mapping[str, ModelState]:
        """This worker's models."""
        return self._states

    @property
    def settled(self) -> bool:
        """Whether every model of this worker is ready or has failed."""
        with self._lock:  # so that what is settled here has been reported to the others
            return all(value.state != LOADING for value in self._states.values())

    @property
    def draining(self) -> bool:
        """Whether `berth drain` was called."""
        return (self._run_dir / "drain").exists()

    def all_states(self) -> list[dict[str, ModelState]]:
        """The states of every worker that has written some."""
        found = []
        for path in sorted(self._folder.glob("[0-9]*.json")):
            try:
                document = json.loads(path.read_text("utf-8"))
            except FileNotFoundError:
                continue  # its worker died between the listing and the reading
            found.append({name: ModelState(**value) for name, value in document.items()})
        return found

    def readiness(self) -> Readiness:
        """Whether every worker has every model; a replacement that still loads accepts no connections, so it waits."""
        if self.draining:
            return Readiness(False, "draining: this server accepts no new traffic")
        count = self._count_workers()
        if count <= len(self._marks("blocked")):
            return Readiness(False, "no worker can respond: each computes predictions that have run past their time")
        workers = self.all_states()
        for states in workers:
            for name, value in states.items():
                if value.state == FAILED:
                    return Readiness(False, f"{name} failed: {value.reason}")
        if (self._run_dir / "all-ready").exists():
            return Readiness(True)
        ready = sum(all(value.state == READY for value in states.values()) for states in workers)
        if ready < count:
            return Readiness(False, f"loading: {ready} of {count} workers have loaded their models")
        return Readiness(True)

    def mark_stuck(self, stuck: bool) -> None:
        """Report to all workers whether this one has a prediction that does not end."""
        self._mark("stuck", stuck)

    def mark_blocked(self, blocked: bool) -> bool:
        """Report to all workers whether this one can begin no prediction; whether another one can."""
        self._mark("blocked", blocked)
        return not blocked or len(self._marks("blocked")) < self._count_workers()

    def _count_workers(self) -> int:
        try:
            return int((self._run_dir / "worker-count").read_text("ascii"))
        except (OSError, ValueError):  # the usual case: the number is that of the start
            return self._workers

    def _mark(self, what: str, holds: bool) -> None:
        if (what in self._marked) == holds:
            return  # this is called every second
        mark = self._run_dir / f"{what}-{os.getpid()}"
        self._marked ^= {what}
        if holds:
            mark.touch()
        else:
            mark.unlink(missing_ok=True)

    def _marks(self, what: str) -> list[str]:
        """Process ids of the workers of which something holds."""
        return [path.name.removeprefix(f"{what}-") for path in self._run_dir.glob(f"{what}-*")]

    def stuck_workers(self) -> list[str]:
        """Process ids of the workers that are stuck."""
        return self._marks("stuck")
