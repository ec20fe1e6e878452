"""Statistics that hold however often somebody looks: intervals, and the test of the split.

The intervals are asymptotic confidence sequences (I. Waudby-Smith, D. Arbour, R. Sinha, E. H. Kennedy and A. Ramdas,
"Time-uniform central limit theory and asymptotic confidence sequences", Annals of Statistics 52, 2024): with
probability 95 % the true value stays inside at all times at once. They are wider than intervals for a single look,
which are wrong in a fifth of all A/A tests that are read 50 times.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from berth.experiments.arm_counts import CELLS
from berth.experiments.bandits import Rewards
from berth.telemetry.chi_squared import chi_squared_tail

# Where the intervals are narrowest, in rewards.
TIGHTEST = 10_000
# Too few for a normal approximation.
LEAST_REWARDS = 100
ALARM = 0.001
# Beyond so many units, 65,536 cells count no more: about 32 of them are still free.
MOST_UNITS = 500_000
FULL_CELLS = round(CELLS * (1 - math.exp(-MOST_UNITS / CELLS)))


def _scale(alpha: float) -> float:
    """The rho squared that makes intervals narrowest at TIGHTEST."""
    return (-2 * math.log(alpha) + math.log(-2 * math.log(alpha) + 1)) / TIGHTEST


def half_width(count: float, variance: float, alpha: float = 0.05) -> float:
    """Half of the interval of a mean of so many values of this variance; infinite for none."""
    if count <= 0:
        return math.inf
    rho = _scale(alpha)
    grown = count * rho + 1
    return math.sqrt(variance * 2 * grown / (count * count * rho) * math.log(math.sqrt(grown) / alpha))


def cautious_variance(rewards: Rewards) -> float:
    """The variance of rewards within 0 and 1, with one more of either: equal ones say little of those to come."""
    more = Rewards(rewards.count + 2, rewards.sum + 1, rewards.squares + 1)
    return more.variance


def compare_means(control: Rewards, arm: Rewards, alpha: float = 0.05) -> tuple[float, float, float]:
    """The difference arm - control of the mean rewards, and the interval's ends; infinite below 100 rewards each."""
    difference = arm.mean - control.mean
    if min(control.count, arm.count) < LEAST_REWARDS:
        return difference, -math.inf, math.inf
    count = control.count + arm.count
    variance = count * (cautious_variance(control) / control.count + cautious_variance(arm) / arm.count)
    width = half_width(count, variance, alpha)
    return difference, difference - width, difference + width


def estimate_units(occupied: Sequence[int]) -> list[tuple[float, float]]:
    """Different units and the variance of that estimate, from how many of an arm's cells are occupied.

    The variance is that of the cells alone (linear counting). From MOST_UNITS on the estimate stays there.
    """
    found = []
    for cells in occupied:
        empty = max(CELLS - cells, 1)
        load = math.log(CELLS / empty)
        found.append((min(CELLS * load, MOST_UNITS), CELLS * (math.exp(load) - load - 1)))
    return found


def measure_split(units: Sequence[float], shares: Sequence[float], variances: Sequence[float] | None = None) -> float:
    """The p-value of a sample-ratio mismatch: how likely chance alone gives units that are as far from the shares.

    A chi-squared test; what is only estimated, with these `variances`, counts less.
    """
    total = sum(units)
    pairs = [(have, share) for have, share in zip(units, shares, strict=True) if share > 0]
    if total <= 0 or len(pairs) < 2:
        return 1.0
    noise = 1 + sum(variances or ()) / total
    squares = sum((have - total * share) ** 2 / (total * share) for have, share in pairs)
    return chi_squared_tail(squares / noise, len(pairs) - 1)
