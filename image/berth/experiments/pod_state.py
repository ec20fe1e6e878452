"""What the workers of a pod share: their counts, what peers counted, and the weights that follow from both.

PID….counts    one worker's counts, written by it alone
heard.json     what peers and the state directory know, written by the leader every 5 seconds
mark.json      the counts at the minute of the clock, joined with those of the peers; written by the leader
weights.json   the bandits' weights, computed by the leader from the mark
leader         whoever holds its lock leads; the kernel gives it back when that worker dies
"""

from __future__ import annotations

import fcntl
import json
import os
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from berth.experiments.arm_counts import VALUES
from berth.experiments.bandits import Rewards, choose_weights
from berth.experiments.count_state import (
    CountState,
    decode_state,
    encode_state,
    merge_states,
    read_folder,
    sum_arms,
)
from berth.experiments.experiment_file import FIXED, Experiment
from berth.experiments.marks import Mark, PeerCounts, decode_mark, encode_mark, find_minute, join_marks
from berth.whole_files import write_whole

# With the second between two ticks, a peer knows what is not older than five.
SYNC_SECONDS = 4.0
_HEARD, _MARK, _WEIGHTS, _LEADER = "heard.json", "mark.json", "weights.json", "leader"
_AT = {name: at for at, name in enumerate(VALUES)}


def read_state(path: Path) -> CountState:
    """A state in a file; none where there is no such file, or another one."""
    with suppress(OSError, ValueError):
        return decode_state(json.loads(path.read_text("utf-8")))
    return CountState()


def read_mark(path: Path) -> Mark:
    """A mark in a file; none where there is no such file, or another one."""
    with suppress(OSError, ValueError):
        return decode_mark(json.loads(path.read_text("utf-8")))
    return Mark()


def sum_rewards(
    experiment: Experiment, state: CountState, now: float, *, faded: bool = True
) -> tuple[list[Rewards], list[float]]:
    """Each arm's rewards, faded ones where the experiment has a half-life, and the number that came in."""
    totals = sum_arms(state, now)
    prefix = "faded_" if experiment.half_life_days and faded else ""
    rewards, counted = [], []
    for arm in experiment.arms:
        keys = [key for key in totals if (key.experiment, key.arm) == (experiment.name, arm.key)]
        if prefix:
            keys = [key for key in keys if key.half_life_days == experiment.half_life_days]
        parts = [sum(totals[key][_AT[f"{prefix}{name}"]] for key in keys) for name in ("rewards", "sum", "squares")]
        rewards.append(Rewards(*parts))
        counted.append(sum(totals[key][_AT["rewards"]] for key in keys))
    return rewards, counted


def compute_weights(experiments: Sequence[Experiment], state: CountState, now: float) -> dict[str, list[float]]:
    """The weights of the bandits among the experiments."""
    return {
        each.name: choose_weights(each, *sum_rewards(each, state, now))
        for each in experiments
        if each.arms and each.policy != FIXED
    }


class PodState:
    """This pod's view of all counts; every worker has one, and one of them leads."""

    def __init__(
        self,
        folder: Path,
        host: str,
        fetch: Callable[[], Sequence[PeerCounts]] = tuple,
        directory: Path | None = None,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._folder = folder
        self._host = host
        self._fetch = fetch
        self._directory = directory
        self._now = now
        self._leader: int | None = None
        self._synced = -SYNC_SECONDS
        self._computed: object = None
        self._seen: dict[str, tuple[tuple[int, int], Any]] = {}

    def _cached(self, name: str, read: Callable[[Path], Any]) -> Any:
        """What a file holds, read again when it is another one."""
        path = self._folder / name
        try:
            seen = path.stat()
            found = seen.st_mtime_ns, seen.st_ino  # two files of one moment are two
        except OSError:
            found = 0, 0
        if name not in self._seen or self._seen[name][0] != found:
            self._seen[name] = found, read(path)
        return self._seen[name][1]

    def own(self) -> CountState:
        """What the workers of this pod have counted."""
        return read_folder(self._folder)

    def merged(self) -> CountState:
        """What this pod knows now."""
        heard: CountState = self._cached(_HEARD, read_state)
        return merge_states(heard, self.own())

    def mark(self) -> Mark:
        """What this pod and the peers that it heard of knew when the minute began."""
        found: Mark = self._cached(_MARK, read_mark)
        return found

    def weights(self) -> Mapping[str, Sequence[float]]:
        """The bandits' weights as the leader last computed them."""

        def read(path: Path) -> Any:
            with suppress(OSError, ValueError):
                return json.loads(path.read_text("utf-8"))
            return {}

        found: Mapping[str, Sequence[float]] = self._cached(_WEIGHTS, read)
        return found

    def _leads(self) -> bool:
        if self._leader is None:
            descriptor = os.open(self._folder / _LEADER, os.O_RDWR | os.O_CREAT, 0o644)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                os.close(descriptor)
                return False
            self._leader = descriptor
        return True

    def tick(self, experiments: Sequence[Experiment]) -> None:
        """What the leader does about once a second. Raises OSError when the disk is full."""
        if not self._leads():
            return
        if time.monotonic() - self._synced >= SYNC_SECONDS:
            self._synced = time.monotonic()
            self._sync()
        if self.mark().minute != (minute := find_minute(self._now())):
            self._write_mark(Mark(minute, CountState(self.merged().sources)))
        mark = self.mark()
        if (due := (mark, tuple(experiments))) != self._computed:
            self._computed = due
            weights = compute_weights(experiments, mark.state, mark.seconds)
            write_whole(self._folder / _WEIGHTS, json.dumps(weights))

    def _write_mark(self, mark: Mark) -> None:
        write_whole(self._folder / _MARK, json.dumps(encode_mark(mark)))

    def _sync(self) -> None:
        heard: CountState = self._cached(_HEARD, read_state)
        for path in sorted(self._directory.glob("*.json")) if self._directory else ():
            heard = merge_states(heard, read_state(path))
        peers = self._fetch()
        for peer in peers:
            heard = merge_states(heard, peer.state)
        write_whole(self._folder / _HEARD, json.dumps(encode_state(heard)))
        if (joined := join_marks(self.mark(), [peer.mark for peer in peers])) != self.mark():
            self._write_mark(joined)
        if self._directory is not None:
            self._directory.mkdir(parents=True, exist_ok=True)
            kept = encode_state(merge_states(heard, self.own()))
            write_whole(self._directory / f"{self._host}.json", json.dumps(kept))
