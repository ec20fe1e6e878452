"""The chi-squared distribution, by which drift and the split of an experiment are judged."""

from __future__ import annotations

import math
from functools import lru_cache


def chi_squared_tail(x: float, degrees: int) -> float:
    """The probability that a chi-squared variable is above x; exact for whole degrees of freedom."""
    half = x / 2
    term = math.exp(-half)
    if degrees % 2 == 0:
        total = 0.0
        for i in range(degrees // 2):
            total += term
            term *= half / (i + 1)
        return total
    total = math.erfc(math.sqrt(half))
    term *= 2 * math.sqrt(half / math.pi)
    for i in range(1, (degrees + 1) // 2):
        total += term
        term *= half / (i + 0.5)
    return total


@lru_cache(maxsize=1024)
def chi_squared_quantile(probability: float, degrees: int) -> float:
    """The value that a chi-squared variable stays below with this probability."""
    low, high = 0.0, 10.0 * degrees + 100.0
    while high - low > 1e-9 * high:
        middle = (low + high) / 2
        low, high = (middle, high) if chi_squared_tail(middle, degrees) > 1 - probability else (low, middle)
    return (low + high) / 2
