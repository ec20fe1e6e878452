"""Counts of workers and pods: added once, in whatever order they are heard of, and alive after their worker."""

from __future__ import annotations

import itertools
import json
from itertools import permutations
from pathlib import Path

import numpy as np
import pytest

from berth.experiments.arm_counts import CELLS, DAY_SECONDS, PLACES, VALUES, ArmKey, CountFile, decode_key
from berth.experiments.assignment import hash_unit
from berth.experiments.count_state import (
    CountState,
    count_cells,
    decode_state,
    encode_state,
    merge_states,
    read_folder,
    sum_arms,
)
from berth.experiments.experiment_file import Arm, Experiment
from berth.experiments.marks import PeerCounts, decode_mark, encode_mark
from berth.experiments.pod_state import SYNC_SECONDS, PodState, compute_weights, sum_rewards
from berth.experiments.sequences import MOST_UNITS, estimate_units

KEY = ArmKey("q4", "churn@3", 0.0, "5000,10000")
BANDIT = Experiment("q4", "churn", (Arm("churn", "3"), Arm("churn", "4")), policy="thompson", seed="s")


def count(folder: Path, source: str, requests: int, rewards: list[float], key: ArmKey = KEY, start: float = 0) -> None:
    place = CountFile(folder, source, start).find(key)
    assert place is not None
    for number in range(requests):
        place.count_request(hash_unit("", f"{source}-{number}"), True, 0.003, failed=number == 0)
    for reward in rewards:
        place.count_reward(reward, start)


def total(state: CountState, name: str, key: ArmKey = KEY, now: float = 0) -> float:
    return sum_arms(state, now)[key][VALUES.index(name)]


def test_workers_are_added_up(tmp_path: Path) -> None:
    count(tmp_path, "pod-1", 10, [1.0, 0.0])
    count(tmp_path, "pod-2", 20, [0.5])
    state = read_folder(tmp_path)
    figures = [total(state, name) for name in ("requests", "sticky", "failed", "rewards", "sum", "squares")]
    assert figures == [30, 30, 2, 3, 1.5, 1.25]
    assert count_cells(state.cells[KEY.encode()]) == 30


def test_merging_counts_nothing_twice(tmp_path: Path) -> None:
    states = []
    for pod in "abc":
        count(tmp_path / pod, f"{pod}-1", 5, [1.0])
        states.append(read_folder(tmp_path / pod))
    count(tmp_path / "a", "a-2", 1, [])
    states.append(read_folder(tmp_path / "a"))  # the same pod a moment later
    for order in permutations([*states, states[0]]):
        merged = CountState()
        for state in order:
            merged = merge_states(merged, state)
        assert (total(merged, "requests"), total(merged, "rewards")) == (16, 3)
        assert decode_state(json.loads(json.dumps(encode_state(merged)))) == merged


@pytest.mark.parametrize(
    "change",
    [
        {"values": []},
        {"sources": {"a": {}}},
        {"sources": {"a@1": {"key": [1]}}},
        {"sources": {"a@1": {KEY.encode(): [1]}}},
        {"sources": {"a@1": {KEY.encode(): ["x"] * 40}}},
        {"cells": {KEY.encode(): "no base64!"}},
        {"cells": {KEY.encode(): "AAAA"}},
        {"cells": []},
        {"sources": None},
    ],
)
def test_a_peers_nonsense_is_an_error(tmp_path: Path, change: dict[str, object]) -> None:
    count(tmp_path, "pod-1", 3, [1.0])
    document = encode_state(read_folder(tmp_path))
    assert decode_state(document).sources
    with pytest.raises(ValueError, match=r".+"):
        decode_state(document | change)


def test_keys_are_read_back(tmp_path: Path) -> None:
    for key in (KEY, ArmKey("a", "b@1"), ArmKey("ü", "b@1", 1.5, "")):
        assert decode_key(key.encode()) == key
        count(tmp_path, f"pod-{key.experiment}", 1, [], key)
    assert set(sum_arms(read_folder(tmp_path), 0)) == {KEY, ArmKey("a", "b@1"), ArmKey("ü", "b@1", 1.5, "")}


def test_a_full_file_counts_no_more_arms(tmp_path: Path) -> None:
    file = CountFile(tmp_path, "pod-1", 0)
    found = [file.find(ArmKey("q4", f"churn@{number}")) for number in range(PLACES + 1)]
    assert [place is None for place in found] == [False] * PLACES + [True]


def test_rewards_fade(tmp_path: Path) -> None:
    key = ArmKey("q4", "churn@3", 2.0)
    place = CountFile(tmp_path, "pod-1", 0).find(key)
    assert place is not None
    place.count_reward(1.0, 0)
    place.count_reward(1.0, 4 * DAY_SECONDS)
    now = 6 * DAY_SECONDS
    assert total(read_folder(tmp_path), "faded_sum", key, now) == pytest.approx(2**-3 + 2**-1)
    assert total(read_folder(tmp_path), "sum", key, now) == 2


def cells_of(units: int, rng: np.random.Generator) -> int:
    """How many cells so many units set."""
    return int(np.count_nonzero(np.bincount(rng.integers(0, CELLS, units), minlength=CELLS)))


@pytest.mark.parametrize(
    ("units", "error"), [(100, 0.01), (20_000, 0.01), (100_000, 0.01), (300_000, 0.04), (480_000, 0.08)]
)
def test_units_are_counted_as_exactly_as_documented(units: int, error: float) -> None:
    rng = np.random.default_rng(0)
    found = np.array([estimate_units([cells_of(units, rng)])[0] for _ in range(20)])
    assert np.all(np.abs(found[:, 0] - units) <= error * units)
    assert np.all(np.abs(found[:, 0] - units) < 5 * found[:, 1] ** 0.5 + 1)


def test_more_units_than_cells_can_tell_apart() -> None:
    rng = np.random.default_rng(0)
    for units in (520_000, 1_000_000, 5_000_000):
        estimate = estimate_units([cells_of(units, rng)])[0][0]
        assert 0.96 * MOST_UNITS <= estimate <= MOST_UNITS
    assert estimate_units([CELLS])[0][0] == MOST_UNITS


def test_one_worker_leads_and_all_read_the_weights(tmp_path: Path) -> None:
    for arm, rewards in (("churn@3", [0.0] * 200), ("churn@4", [1.0] * 200)):
        count(tmp_path, f"pod-{arm}", 0, rewards, ArmKey("q4", arm))
    leader, other = PodState(tmp_path, "pod"), PodState(tmp_path, "pod")
    for pod in (leader, other):
        pod.tick([BANDIT])
    assert leader.weights() == other.weights() == compute_weights([BANDIT], leader.merged(), 0)
    assert leader.weights()["q4"] == [0.01, 0.99]


def test_peers_and_the_directory_are_heard(tmp_path: Path) -> None:
    count(tmp_path / "there", "there-1", 0, [1.0] * 7, ArmKey("q4", "churn@3"))
    peer = read_folder(tmp_path / "there")
    (tmp_path / "here").mkdir()
    pod = PodState(tmp_path / "here", "here", lambda: [PeerCounts(peer)], tmp_path / "kept")
    pod.tick([BANDIT])
    assert sum_rewards(BANDIT, pod.merged(), 0)[1] == [7, 0]
    (tmp_path / "later").mkdir()
    again = PodState(tmp_path / "later", "later", tuple, tmp_path / "kept")  # all pods were replaced
    again.tick([BANDIT])
    assert sum_rewards(BANDIT, again.merged(), 0)[1] == [7, 0]


def test_pods_that_know_different_counts_agree_after_one_exchange(tmp_path: Path) -> None:
    """Each has rewards that the others do not know when the minute begins, and more come before they talk."""
    moment, numbers = [60.0 * 5], itertools.count()
    pods: list[PodState] = []
    for at, name in enumerate("abc"):

        def fetch(own: int = at) -> list[PeerCounts]:
            documents = [(pod.merged(), encode_mark(pod.mark())) for peer, pod in enumerate(pods) if peer != own]
            return [PeerCounts(state, decode_mark(mark)) for state, mark in documents]

        for version, rewards in (("3", [0.0] * 95 + [1.0] * 5), ("4", [0.0] * 90 + [1.0] * (5 + at))):
            count(tmp_path / name, f"{name}-{version}", 0, rewards, ArmKey("q4", f"churn@{version}"))
        pods.append(PodState(tmp_path / name, name, fetch, now=lambda: moment[0]))

    def tick() -> list[object]:
        for name, pod in zip("abc", pods, strict=True):
            count(tmp_path / name, f"{name}-{next(numbers)}", 0, [1.0], ArmKey("q4", "churn@4"))
            pod._synced = -SYNC_SECONDS  # five seconds are over
            pod.tick([BANDIT])
        return [pod.weights()["q4"] for pod in pods]

    first = tick()
    assert first[0] != first[1]  # the first one had heard of nobody
    agreed = tick()
    assert agreed[0] == agreed[1] == agreed[2]
    moment[0] += 60
    assert tick()[0] != agreed[0]
    later = tick()
    assert later[0] == later[1] == later[2]
