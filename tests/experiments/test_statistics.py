"""What is said of an experiment is true as often as it claims: simulated, with fixed seeds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from berth.experiments.arm_counts import CELLS, VALUES, WIDTH, ArmKey
from berth.experiments.bandits import Rewards, choose_weights
from berth.experiments.count_state import CountState, merge_states
from berth.experiments.experiment_file import Arm, Experiment
from berth.experiments.sequences import ALARM, compare_means, half_width, measure_split
from berth.experiments.verdicts import GOOD, STOP, UNDECIDED, describe_experiment
from berth.tensors.arrays import Array

ARMS = (Arm("churn", "3"), Arm("churn", "4"))
FIXED = Experiment("q4", "churn", ARMS, seed="s")
THOMPSON = Experiment("q4", "churn", ARMS, policy="thompson", seed="s")


def coin(count: int, heads: int) -> Rewards:
    return Rewards(count, heads, heads)


def state_of(*figures: tuple[int, int, int], split: str = "5000,10000") -> CountState:
    """Requests, rewards and their sum, of each arm."""
    arms = {}
    for arm, (requests, rewards, total) in zip(ARMS, figures, strict=True):
        values = [0.0] * WIDTH
        for name, value in (("requests", requests), ("rewards", rewards), ("sum", total), ("squares", total)):
            values[VALUES.index(name)] = value
        arms[ArmKey("q4", arm.key, 0.0, split).encode()] = tuple(values)
    return CountState({"pod-1@0": arms})


@pytest.mark.parametrize(
    ("figures", "word", "said"),
    [
        (((5000, 5000, 500), (5000, 5000, 900)), GOOD, "churn@4 is better by 0.08 (between"),
        (((5000, 5000, 900), (5000, 5000, 500)), STOP, "churn@4 is worse by 0.08 (between"),
        (((500, 500, 50), (500, 500, 55)), UNDECIDED, "keep going"),
        (((90, 90, 0), (90, 90, 90)), UNDECIDED, "keep going"),
        (((400_000, 400_000, 40_000), (400_000, 400_000, 40_100)), GOOD, "no difference that matters"),
        (((6000, 5000, 500), (5000, 5000, 900)), STOP, "the split is not what the file says"),
    ],
)
def test_the_sentence(figures: Sequence[tuple[int, int, int]], word: str, said: str) -> None:
    report = describe_experiment(FIXED, state_of(*figures), 0)
    assert report["verdict"] == word
    assert said in report["sentence"]


def test_the_split_is_compared_with_the_file_as_it_is_now() -> None:
    """What was counted under other weights is no mismatch."""
    before = state_of((9000, 0, 0), (1000, 0, 0), split="9000,10000")
    assert describe_experiment(FIXED, before, 0)["split_p"] == 1.0
    assert describe_experiment(THOMPSON, state_of((9000, 0, 0), (1000, 0, 0)), 0)["split_p"] == 1.0


def state_of_units(first: int, second: int, split: str = "9000,10000") -> CountState:
    """So many units of each arm, one request a unit."""
    sources, cells, rng = {}, {}, np.random.default_rng(0)
    for arm, units in zip(ARMS, (first, second), strict=True):
        key = ArmKey("q4", arm.key, 0.0, split).encode()
        values = [0.0] * WIDTH
        values[VALUES.index("requests")] = values[VALUES.index("sticky")] = units
        sources[key] = tuple(values)
        bits = np.zeros(CELLS, np.uint8)
        bits[rng.integers(0, CELLS, units)] = 1
        cells[key] = np.packbits(bits).tobytes()
    return CountState({"pod-1@0": sources}, cells)


def test_a_split_with_more_units_than_can_be_counted_is_not_judged() -> None:
    """An honest one would look broken: the larger arm's figure stays where the other one's still grows."""
    uneven = replace(FIXED, arms=(replace(ARMS[0], weight=90), replace(ARMS[1], weight=10)))
    honest = describe_experiment(uneven, state_of_units(360_000, 40_000), 0)
    assert honest["split_p"] > ALARM
    broken = describe_experiment(uneven, state_of_units(320_000, 80_000), 0)
    assert broken["split_p"] < ALARM
    many = describe_experiment(uneven, state_of_units(4_500_000, 500_000), 0)
    assert many["split_p"] is None
    assert "keep going" in many["sentence"]


def test_a_unit_is_one_under_every_split() -> None:
    before, after = (state_of_units(9000, 1000, split) for split in ("9000,10000", "8000,10000"))
    arms = describe_experiment(
        FIXED, merge_states(before, CountState({"pod-2@0": after.sources["pod-1@0"]}, after.cells)), 0
    )["arms"]
    assert [arm["units"] for arm in arms] == pytest.approx([9000, 1000], rel=0.02)
    assert [arm["requests"] for arm in arms] == [18_000, 2000]


def test_bandits_weights_are_those_of_the_counts() -> None:
    some, more = coin(500, 50), coin(500, 75)
    assert choose_weights(THOMPSON, [some, coin(99, 9)], [500, 99]) == [0.5, 0.5]
    weights = choose_weights(THOMPSON, [some, more], [500, 500])
    assert weights == choose_weights(THOMPSON, [some, more], [500, 500])
    assert sum(weights) == pytest.approx(1)
    # The second is the better one with a probability of 0.99.
    assert weights[0] == pytest.approx(0.01 + 0.98 * 0.009, abs=0.005)
    greedy = Experiment("q4", "churn", ARMS, policy="epsilon", epsilon=0.1, seed="s")
    assert choose_weights(greedy, [some, more], [500, 500]) == pytest.approx([0.05, 0.95])
    assert choose_weights(FIXED, [some, more], [500, 500]) == [1, 1]


def test_other_rewards_have_normal_posteriors() -> None:
    rng = np.random.default_rng(0)
    drawn = [rng.normal(mean, 5, 1000) for mean in (-3.0, 10.0)]
    rewards = [Rewards(len(each), each.sum(), (each**2).sum()) for each in drawn]
    assert choose_weights(THOMPSON, rewards, [1000, 1000]) == pytest.approx([0.01, 0.99])


def _looks(rng: np.random.Generator, units: int, looks: int, chances: Sequence[float]) -> bool:
    """Whether an experiment is ever called for one of its arms."""
    arms = [np.cumsum(rng.random(units) < chance) for chance in chances]
    for at in np.linspace(units / looks, units, looks).astype(int):
        control, arm = (coin(at, int(heads[at - 1])) for heads in arms)
        _, low, high = compare_means(control, arm)
        if low > 0 or high < 0:
            return True
    return False


@pytest.mark.slow
@pytest.mark.parametrize(("chance", "units"), [(0.1, 10_000), (0.5, 50_000), (0.02, 20_000)])
def test_a_a_experiments_are_seldom_decided(chance: float, units: int) -> None:
    rng = np.random.default_rng(1)
    wrong = sum(_looks(rng, units, 50, [chance, chance]) for _ in range(1000))
    assert wrong <= 50


@pytest.mark.slow
def test_a_difference_is_found() -> None:
    rng = np.random.default_rng(2)
    assert sum(_looks(rng, 20_000, 50, [0.10, 0.12]) for _ in range(200)) >= 180


@pytest.mark.slow
def test_a_broken_split_is_found_and_an_honest_one_is_not() -> None:
    rng = np.random.default_rng(3)
    broken = rng.binomial(20_000, 0.52, 1000)
    assert measure_split([10_400, 9_600], [0.5, 0.5]) < ALARM
    assert np.mean([measure_split([sent, 20_000 - sent], [0.5, 0.5]) < ALARM for sent in broken]) > 0.98
    honest = rng.binomial(20_000, 0.5, 10_000)
    alarms = sum(measure_split([sent, 20_000 - sent], [0.5, 0.5]) < ALARM for sent in honest)
    assert alarms / 10_000 <= 1 / 500


def test_the_interval_is_the_papers() -> None:
    """At t = 10,000 with alpha 0.05, about 1.5 times as wide as an interval for one look."""
    once = 1.96 / 100
    assert 1.3 * once < half_width(10_000, 1.0) < 1.8 * once
    assert half_width(0, 1.0) == float("inf")


PRICES = Experiment("price", "price", tuple(Arm("price", str(at)) for at in (1, 2, 3)), policy="thompson", seed="s")
CHANCES = np.array([0.10, 0.12, 0.15])
STEPS, DELAY, MINUTE = 2000, 720, 12  # a step is 5 seconds, an hour 720 of them


def _weigh(counts: Array) -> Array:
    """The weights that follow from what each server was told ([servers, arms, (rewards, sum)])."""
    rewards = [coin(int(count), int(heads)) for count, heads in counts.sum(axis=0).tolist()]
    weights = np.array(choose_weights(PRICES, rewards, [each.count for each in rewards]))
    normal: Array = weights / weights.sum()
    return normal


def _simulate(servers: int, rng: np.random.Generator) -> tuple[float, float]:
    """The regret of 20,000 rewards, an hour late, and the best arm's last share, over servers that exchange every step.

    At the minute each server computes from what it knows, which of the others is a step old; a step later from the
    marks of all. Ten requests a step go to any server, and each reward to any other.
    """
    counts, heard = np.zeros((servers, 3, 2)), np.zeros((servers, servers, 3, 2))
    weights, due, regret = [np.full(3, 1 / 3)] * servers, list[Array](), 0.0
    marks = heard
    for step in range(STEPS + DELAY):
        if step < STEPS:
            chosen = np.array([rng.choice(3, p=weights[at]) for at in rng.integers(servers, size=10)])
            regret += float((CHANCES.max() - CHANCES[chosen]).sum())
            due.append(chosen)
        for arm in due[step - DELAY] if step >= DELAY else ():
            counts[rng.integers(servers), arm] += (1, rng.random() < CHANCES[arm])
        if step % MINUTE == 0:
            marks = heard.copy()
            marks[range(servers), range(servers)] = counts
            weights = [_weigh(mark) for mark in marks]
        elif step % MINUTE == 1 and servers > 1:
            weights = [_weigh(marks.max(axis=0))] * servers
        heard[:] = counts
    return regret, float(weights[0][2])


@pytest.mark.slow
def test_three_servers_regret_little_more_than_one() -> None:
    rng = np.random.default_rng(4)
    runs = [(_simulate(1, rng), _simulate(3, rng)) for _ in range(8)]
    one, three = (float(np.mean([pair[at][0] for pair in runs])) for at in (0, 1))
    share = float(np.mean([pair[1][1] for pair in runs]))
    print(f"regret {three:.0f} of three servers, {one:.0f} of one ({three / one:.3f}); best arm's share {share:.3f}")
    assert three <= 1.25 * one
    assert share >= 0.8
