"""What the counts say of an experiment: a figure for everything, and one sentence."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from berth.experiments.arm_counts import SHADOW, VALUES, ArmKey
from berth.experiments.assignment import shares_of, split_buckets
from berth.experiments.bandits import Rewards, choose_weights
from berth.experiments.count_state import CountState, count_cells, join_cells, sum_arms
from berth.experiments.experiment_file import FIXED, Arm, Experiment
from berth.experiments.pod_state import sum_rewards
from berth.experiments.sequences import (
    ALARM,
    FULL_CELLS,
    cautious_variance,
    compare_means,
    estimate_units,
    half_width,
    measure_split,
)
from berth.telemetry.metrics.buckets import SECONDS

GOOD, STOP, UNDECIDED = "good", "stop", "undecided"
# Of the mean reward; a difference below it does not matter.
MARGIN = 0.01
Totals = Mapping[ArmKey, Sequence[float]]
_BOUNDS = (*SECONDS, math.inf)


@dataclass(frozen=True, slots=True)
class Ruling:
    """What to do: good (decided), stop, or undecided; and why, in a sentence."""

    word: str
    sentence: str


@dataclass(frozen=True, slots=True)
class Comparison:
    """An arm beside the first one: the difference of the mean rewards, and its interval."""

    arm: str
    difference: float
    low: float
    high: float


def judge(comparisons: Sequence[Comparison], mismatch: float, margin: float = MARGIN) -> Ruling:
    """The sentence. A split that is broken stops an experiment whatever the rewards say."""
    if mismatch < ALARM:
        return Ruling(
            STOP, f"the split is not what the file says (p = {mismatch:.1e}): stop, no figure of this can be trusted"
        )
    better = [each for each in comparisons if each.low > 0]
    worse = [each for each in comparisons if each.high < 0]
    if better:
        best = max(better, key=lambda each: each.difference)
        sentence = f"{best.arm} is better by {best.difference:.4g} (between {best.low:.4g} and {best.high:.4g})"
        return Ruling(GOOD, sentence + "".join(f"; {each.arm} is worse" for each in worse))
    if worse:
        worst = min(worse, key=lambda each: each.difference)
        sentence = f"{worst.arm} is worse by {-worst.difference:.4g} (between {-worst.high:.4g} and {-worst.low:.4g})"
        return Ruling(STOP, f"{sentence}: stop")
    if comparisons and all(-margin < each.low and each.high < margin for each in comparisons):
        return Ruling(GOOD, f"no difference that matters: every interval lies within ±{margin:g}")
    return Ruling(UNDECIDED, "keep going: nothing is decided yet")


def _quantile(buckets: Sequence[float], share: float) -> float | None:
    """The upper end of the bucket in which the quantile lies; None without any, or beyond the last."""
    total, so_far = sum(buckets), 0.0
    for bound, count in zip(_BOUNDS, buckets, strict=True):
        so_far += count
        if total and so_far >= share * total:
            return None if bound == math.inf else bound
    return None


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _sum_keys(totals: Totals, keys: Sequence[ArmKey]) -> dict[str, Any]:
    columns = [sum(column) for column in zip(*(totals[key] for key in keys), strict=True)] if keys else []
    named = dict(zip(VALUES, columns, strict=False)) or dict.fromkeys(VALUES, 0.0)
    return {**named, "buckets": columns[len(VALUES) :] or [0.0] * len(_BOUNDS)}


def _count_units(state: CountState, totals: Totals, keys: Sequence[ArmKey]) -> tuple[float, float]:
    """Different units and the variance of that estimate; a request without a unit is one of its own."""
    requests, sticky = (sum(totals[key][at] for key in keys) for at in (0, 1))
    cells = b""
    for key in keys:  # a unit stays one when the weights change
        cells = join_cells(cells, state.cells.get(key.encode(), b""))
    found, spread = estimate_units([count_cells(cells)])[0]
    return requests - sticky + min(found, sticky), spread


def _keys_of(totals: Totals, experiment: Experiment, arm: Arm) -> list[ArmKey]:
    return [key for key in totals if (key.experiment, key.arm) == (experiment.name, arm.key)]


def _measure_mismatch(experiment: Experiment, state: CountState, totals: Totals) -> float | None:
    """The p-value of the split as it is now; 1 where the shares are a bandit's, None with too many units to count."""
    if experiment.policy != FIXED:
        return 1.0
    ends = split_buckets([arm.weight for arm in experiment.arms])
    split = ",".join(map(str, ends))
    found = [
        _count_units(state, totals, [key for key in _keys_of(totals, experiment, arm) if key.split == split])
        for arm in experiment.arms
    ]
    if any(spread >= estimate_units([FULL_CELLS])[0][1] for _, spread in found):
        return None
    return measure_split([units for units, _ in found], shares_of(ends), [spread for _, spread in found])


def _describe_arm(values: Mapping[str, Any], units: float, rewards: Rewards, share: float, arm: Arm) -> dict[str, Any]:
    width = half_width(rewards.count, cautious_variance(rewards))
    known = rewards.count > 1 and math.isfinite(width)
    return {
        "arm": arm.key,
        "share": share,
        "requests": int(values["requests"]),
        "units": round(units),
        "failed": int(values["failed"]),
        "p99_seconds": _quantile(values["buckets"], 0.99),
        "rewards": rewards.count,
        "mean_reward": rewards.mean if rewards.count else None,
        "interval": [rewards.mean - width, rewards.mean + width] if known else None,
    }


def _describe_shadow(experiment: Experiment, totals: Totals) -> dict[str, Any] | None:
    if experiment.shadow is None:
        return None
    shadow = experiment.shadow
    keys = [key for key in _keys_of(totals, experiment, shadow.arm) if key.split == SHADOW]
    values = _sum_keys(totals, keys)
    agree, differ = values["agree"], values["differ"]
    return {
        "model": shadow.arm.key,
        "share": shadow.share,
        "agree": int(agree),
        "differ": int(differ),
        "failed": int(values["shadow_failed"]),
        "dropped": int(values["dropped"]),
        "agreement": agree / (agree + differ) if agree + differ else None,
        "p99_seconds": _quantile(values["buckets"], 0.99),
    }


def describe_experiment(
    experiment: Experiment, state: CountState, now: float, margin: float = MARGIN
) -> dict[str, Any]:
    """The report on an experiment: its arms, the split, the comparisons with the first arm, and the verdict."""
    totals = sum_arms(state, now)
    document: dict[str, Any] = {"name": experiment.name, "model": experiment.model, "policy": experiment.policy}
    document["shadow"] = _describe_shadow(experiment, totals)
    if not experiment.arms:
        return {**document, "arms": [], "split_p": None, "comparisons": [], "verdict": UNDECIDED,
                "sentence": "a shadow alone: no client gets its predictions"}  # fmt: skip
    rewards, counted = sum_rewards(experiment, state, now)
    every, _ = sum_rewards(replace(experiment, half_life_days=0.0), state, now)
    shares = shares_of(split_buckets(choose_weights(experiment, rewards, counted)))
    arms = []
    for arm, each, share in zip(experiment.arms, every, shares, strict=True):
        keys = _keys_of(totals, experiment, arm)
        units, _ = _count_units(state, totals, keys)
        arms.append(_describe_arm(_sum_keys(totals, keys), units, each, share, arm))
    alpha = 0.05 / max(len(every) - 1, 1)
    comparisons = [
        Comparison(arm.key, *compare_means(every[0], each, alpha))
        for arm, each in zip(experiment.arms[1:], every[1:], strict=True)
    ]
    mismatch = _measure_mismatch(experiment, state, totals)
    verdict = judge(comparisons, 1.0 if mismatch is None else mismatch, margin)
    compared = [
        {"arm": each.arm, "difference": each.difference, "interval": [_finite(each.low), _finite(each.high)]}
        for each in comparisons
    ]
    figures = {"arms": arms, "split_p": mismatch, "comparisons": compared}
    return {**document, **figures, "verdict": verdict.word, "sentence": verdict.sentence}
