"""What figures from a limited number of labels are worth: each with the interval that its true value lies in.

A share has Wilson's interval, which stays within 0 and 1 and holds for few labels and for shares near 1 (E. B. Wilson,
"Probable inference", Journal of the American Statistical Association 22, 1927). Means have the normal one.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass

# Standard deviations of the 95 % interval, which is shown, and of the 99 % one, which a verdict wants.
Z95, Z99 = 1.959964, 2.575829


@dataclass(frozen=True)
class Estimate:
    """A figure, and the bounds of its interval; they are NaN where there is too little data."""

    value: float
    low: float
    high: float

    def describe(self) -> dict[str, float | None]:
        """The figure and its bounds, as JSON."""
        return {name: number if math.isfinite(number) else None for name, number in asdict(self).items()}


def estimate_share(right: float, rows: float, z: float = Z95) -> Estimate:
    """The share of `right` among `rows` (above 0)."""
    share, square = right / rows, z * z
    middle = share + square / (2 * rows)
    half = z * math.sqrt(share * (1 - share) / rows + square / (4 * rows * rows))
    return Estimate(share, (middle - half) / (1 + square / rows), (middle + half) / (1 + square / rows))


def estimate_mean(count: float, total: float, squares: float, z: float = Z95) -> Estimate:
    """The mean of `count` (above 0) numbers, whose sum and sum of squares are known."""
    mean = total / count
    if count < 2:
        return Estimate(mean, math.nan, math.nan)
    variance = max(squares - total * mean, 0.0) / (count - 1)
    half = z * math.sqrt(variance / count)
    return Estimate(mean, mean - half, mean + half)


def estimate_root(count: float, squares: float, fourths: float, z: float = Z95) -> Estimate:
    """The root of the mean square of `count` (above 0) numbers, whose sums of squares and fourth powers are known."""
    found = estimate_mean(count, squares, fourths, z)
    return Estimate(*(math.sqrt(max(number, 0.0)) for number in (found.value, found.low, found.high)))
