"""The weights that a bandit gives its arms: a function of the counts, so that every pod computes the same.

Thompson sampling gives each arm the probability that it is the best one (W. R. Thompson, "On the likelihood that one
unknown probability exceeds another", Biometrika 25, 1933), here by 10,000 draws from the posteriors: Beta for rewards
between 0 and 1, Normal for others.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from berth.experiments.experiment_file import EPSILON, FIXED, Experiment
from berth.tensors.arrays import Array

DRAWS = 10_000


@dataclass(frozen=True, slots=True)
class Rewards:
    """What an arm's predictions were worth: their number, their sum and the sum of their squares."""

    count: float = 0.0
    sum: float = 0.0
    squares: float = 0.0

    @property
    def mean(self) -> float:
        """0 where there are none."""
        return self.sum / self.count if self.count else 0.0

    @property
    def variance(self) -> float:
        """Of the rewards, with n - 1."""
        if self.count <= 1:
            return 0.0
        return max(self.squares - self.count * self.mean**2, 0.0) / (self.count - 1)


def _seed(experiment: Experiment, rewards: Sequence[Rewards]) -> int:
    digest = hashlib.blake2b(experiment.seed.encode(), digest_size=8)
    for each in rewards:
        digest.update(struct.pack(">3d", each.count, each.sum, each.squares))
    return int.from_bytes(digest.digest())


def _is_share(each: Rewards) -> bool:
    """Whether all rewards lie between 0 and 1: then no square is above its reward."""
    return 0 <= each.sum <= each.count and each.squares <= each.sum * (1 + 1e-9) + 1e-9


def draw_means(rewards: Sequence[Rewards], rng: np.random.Generator) -> Array:
    """10,000 draws of each arm's mean reward ([draws, arms])."""
    columns = []
    for each in rewards:
        if all(map(_is_share, rewards)):
            columns.append(rng.beta(1 + each.sum, 1 + each.count - each.sum, DRAWS))
        else:
            spread = (each.variance / max(each.count, 1)) ** 0.5
            columns.append(rng.normal(each.mean, spread, DRAWS))
    return np.stack(columns, axis=1)


def _thompson(experiment: Experiment, rewards: Sequence[Rewards]) -> list[float]:
    best = draw_means(rewards, np.random.default_rng(_seed(experiment, rewards))).argmax(axis=1)
    shares = np.bincount(best, minlength=len(rewards)) / DRAWS
    left = 1 - experiment.floor * len(rewards)
    return [experiment.floor + left * share for share in shares.tolist()]


def _epsilon(experiment: Experiment, rewards: Sequence[Rewards]) -> list[float]:
    each = experiment.epsilon / len(rewards)
    best = max(range(len(rewards)), key=lambda at: rewards[at].mean)
    return [each + (1 - experiment.epsilon) * (at == best) for at in range(len(rewards))]


def choose_weights(experiment: Experiment, rewards: Sequence[Rewards], counted: Sequence[float]) -> list[float]:
    """The arms' weights: those of the file, or equal ones until every arm has its minimum of `counted` rewards."""
    if experiment.policy == FIXED:
        return [arm.weight for arm in experiment.arms]
    if min(counted) < experiment.minimum_rewards:
        return [1 / len(rewards)] * len(rewards)
    return _epsilon(experiment, rewards) if experiment.policy == EPSILON else _thompson(experiment, rewards)
