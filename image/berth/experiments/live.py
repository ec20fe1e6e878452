"""The experiments of one worker: what the file says now, and which arm a request goes to.

A thread of the worker's own reads the file again when it changes, and the weights that the pod's leader computes. A
request reads one mapping, which is replaced as a whole and never changed, so that it takes no lock for it.
"""

from __future__ import annotations

import logging
import socket
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from berth.experiments.arm_counts import SHADOW, ArmKey, ArmPlace, CountFile, open_counts
from berth.experiments.arm_signatures import Manifests, check_arms, read_manifests
from berth.experiments.assignment import BUCKETS, find_arm, make_hash, shares_of, split_buckets
from berth.experiments.count_state import CountState, sum_arms
from berth.experiments.experiment_file import FIELD, FIXED, HEADER, SETTING, Arm, Experiment, Shadow, parse_experiments
from berth.experiments.marks import Mark, PeerCounts
from berth.experiments.peer_tokens import make_token
from berth.experiments.peers import fetch_states
from berth.experiments.pod_state import PodState
from berth.experiments.verdicts import describe_experiment
from berth.models.store import Entry
from berth.telemetry.logs import log
from berth.telemetry.reloaded_file import ReloadedFile

_PAUSE_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class ArmShare:
    """An arm with the probability that it has now, where it is counted, and what its responses and log lines say."""

    experiment: str
    arm: Arm
    probability: float
    place: ArmPlace | None = None
    headers: tuple[tuple[str, str], tuple[str, str]] = field(init=False)
    receipt: str = field(init=False)

    def __post_init__(self) -> None:
        headers = (("X-Berth-Experiment", self.experiment), ("X-Berth-Arm", self.arm.key))
        object.__setattr__(self, "headers", headers)
        object.__setattr__(self, "receipt", f"{self.experiment}/{self.arm.key}")


class Decision(NamedTuple):
    """What one request got: its arm's share, and whether its unit, of this hash, will get it again.

    A tuple, since one is made for each request that has a unit; those without share one for each arm (hash 0).
    """

    share: ArmShare
    sticky: bool
    unit: int

    @property
    def arm(self) -> Arm:
        """The arm alone."""
        return self.share.arm

    def count_response(self, seconds: float, status: int) -> None:
        """The request is about to get its response."""
        if (place := self.share.place) is not None:
            place.count_request(self.unit, self.sticky, seconds, status >= 500)


class Running:
    """An experiment with the shares that its arms have now, and where they are counted."""

    def __init__(self, experiment: Experiment, weights: Sequence[float], counts: CountFile | None = None) -> None:
        self.experiment = experiment
        # The header that the unit is, as WSGI names it, or that it is a column.
        self.header = experiment.unit.variable if experiment.unit.kind == HEADER else None
        self.is_by_column = experiment.unit.kind == FIELD
        self.ends = split_buckets(weights)
        self._hash = make_hash(experiment.seed)
        self.shares = [
            ArmShare(experiment.name, arm, share, None if counts is None else counts.find(self.key(arm)))
            for arm, share in zip(experiment.arms, shares_of(self.ends), strict=True)
        ]
        # Whose each bucket is, looked up once for all requests.
        decisions = [Decision(share, sticky=False, unit=0) for share in self.shares]
        self._owners = [decisions[find_arm(self.ends, bucket)] for bucket in range(BUCKETS)]

    def key(self, arm: Arm) -> ArmKey:
        """What the arm's requests and rewards are counted under; the split only where it is the file's."""
        split = ",".join(map(str, self.ends)) if self.experiment.policy == FIXED else ""
        return ArmKey(self.experiment.name, arm.key, self.experiment.half_life_days, split)

    def decide(self, unit: str | None, request_id: str) -> Decision:
        """The arm of a unit; of the request itself where it has none."""
        found = self._hash(request_id if unit is None else unit)
        decision = self._owners[found % BUCKETS]
        return decision if unit is None else Decision(decision.share, True, found)


@dataclass(frozen=True, slots=True)
class Shadowing:
    """A version that predicts a share of a public name's requests again, and where that is counted."""

    shadow: Shadow
    place: ArmPlace | None


class LiveExperiments:
    """The experiments of a file that is read again when it changes.

    `manifests` are those of the versions that are served. Raises SettingsError when the first reading fails.
    """

    def __init__(
        self,
        path: Path,
        manifests: Manifests,
        pod: PodState,
        make_counts: Callable[[], CountFile],
        on_read: Callable[[bool], None] = lambda ok: None,
    ) -> None:
        self._manifests = manifests
        self._pod = pod
        self._make_counts = make_counts
        self._on_read = on_read
        self._file = ReloadedFile(SETTING, "experiments", path, self._parse)
        self._counts: CountFile | None = None
        self._built: object = None
        self._content: tuple[Experiment, ...] = ()
        self._weights: Mapping[str, Sequence[float]] = {}
        # By public name: attributes, since every request looks into them.
        self.running: Mapping[str, Running] = {}
        self.shadows: Mapping[str, Shadowing] = {}
        self._thread: threading.Thread | None = None
        self.refresh()

    def _parse(self, text: str) -> tuple[Experiment, ...]:
        experiments = parse_experiments(text)
        check_arms(experiments, self._manifests)
        return experiments

    def start(self) -> None:
        """Open this worker's counts and follow the file, after the fork."""
        if self._thread is not None:
            return
        try:
            self._counts = self._make_counts()
        except OSError as error:
            log("experiments are not counted: the disk refuses", level=logging.WARNING, error=str(error))
        self.refresh()
        self._thread = threading.Thread(target=self._follow, name="experiments", daemon=True)
        self._thread.start()

    def _follow(self) -> None:
        while True:
            try:
                self.refresh()
                if self._counts is not None:
                    self._pod.tick(self._content)
            except Exception as error:  # a full disk, a peer's nonsense: the next second tries again
                log("experiments could not be refreshed", level=logging.WARNING, error=repr(error))
            time.sleep(_PAUSE_SECONDS)

    def refresh(self) -> None:
        """Read the file again if it has changed, and the weights; a bad file changes nothing but `fault`."""
        content, weights = self._file.content, self._pod.weights()
        wanted = (content, id(weights), id(self._counts))
        if wanted != self._built:
            found = [Running(each, self._weights_of(each, weights), self._counts) for each in content if each.arms]
            self.running = {running.experiment.model: running for running in found}
            self.shadows = {
                each.model: Shadowing(each.shadow, self._shadow_place(each, each.shadow.arm))
                for each in content
                if each.shadow is not None
            }
            self._content, self._built = content, wanted
            self._weights = weights  # kept, so that no other has its id
        self._on_read(not self.fault)

    def _shadow_place(self, experiment: Experiment, arm: Arm) -> ArmPlace | None:
        return None if self._counts is None else self._counts.find(ArmKey(experiment.name, arm.key, 0.0, SHADOW))

    @staticmethod
    def _weights_of(experiment: Experiment, weights: Mapping[str, Sequence[float]]) -> Sequence[float]:
        found = weights.get(experiment.name, ())
        if experiment.policy == FIXED or len(found) != len(experiment.arms):
            return [arm.weight for arm in experiment.arms]
        return found

    @property
    def fault(self) -> str:
        """Why the file as it is now is not in force; empty where it is."""
        return self._file.fault

    @property
    def experiments(self) -> tuple[Experiment, ...]:
        """What the file says."""
        return self._content

    def find_reward(self, receipt_arm: str, key: str) -> tuple[Running, ArmPlace | None] | None:
        """The experiment that a receipt names (as `Decision.receipt` does) and where the arm is counted."""
        name = receipt_arm.partition("/")[0] if "/" in receipt_arm else ""
        for running in self.running.values():
            if running.experiment.name == name:
                for share in running.shares:
                    if share.arm.key == key:
                        return running, share.place
        return None

    def report(self) -> list[dict[str, Any]]:
        """What is known of each experiment, with the shares that requests get now."""
        state, now = self.state(), time.time()
        found = [describe_experiment(each, state, now) for each in self._content]
        shares = {running.experiment.name: running.shares for running in self.running.values()}
        for each in found:
            for arm, share in zip(each["arms"], shares.get(each["name"], ()), strict=False):
                arm["share"] = share.probability
        return found

    def count_requests(self) -> list[tuple[str, str, str, bool, float]]:
        """This pod's requests: experiment, the arm's model and version, whether they had a unit, and their number."""
        found: dict[tuple[str, str, str, bool], float] = {}
        for key, values in sum_arms(self._pod.own(), time.time()).items():
            if key.split == SHADOW:
                continue
            requests, sticky = values[:2]
            model, _, version = key.arm.partition("@")
            for has_unit, count in ((True, sticky), (False, requests - sticky)):
                named = (key.experiment, model, version, has_unit)
                found[named] = found.get(named, 0) + count
        return [(*named, count) for named, count in found.items() if count]

    def state(self) -> CountState:
        """What this pod's workers and its peers have counted."""
        return self._pod.merged()

    def mark(self) -> Mark:
        """The counts that the weights of this minute follow from."""
        return self._pod.mark()


@dataclass(frozen=True)
class CountPlaces:
    """Where counts are kept and found: this server's folder, its peers, a directory that outlives all pods.

    `secrets` gives what peers sign their tokens with.
    """

    folder: Path
    peers: Sequence[tuple[str, int]] = ()
    directory: str = ""
    secrets: Callable[[], Sequence[bytes]] = tuple


def open_experiments(
    path: str, entries: Sequence[Entry], on_read: Callable[[bool], None], places: CountPlaces
) -> LiveExperiments | None:
    """The experiments of a file over the served versions; None without a file. Raises SettingsError."""
    if not path:
        return None

    def fetch() -> list[PeerCounts]:
        return fetch_states(places.peers, lambda: make_token(places.secrets(), time.time()))

    host = socket.gethostname()
    pod = PodState(places.folder, host, fetch, Path(places.directory) if places.directory else None)
    return LiveExperiments(Path(path), read_manifests(entries), pod, lambda: open_counts(places.folder, host), on_read)
