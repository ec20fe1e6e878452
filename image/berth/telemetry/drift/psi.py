"""The population stability index, and the value above which it is no chance.

With half a count added to each bin, psi over B bins of two samples of n and m rows from one distribution is about
(1/n + 1/m) times a chi-squared variable with B - 1 degrees of freedom (B. Yurdakul and J. Naranjo, "Statistical
properties of the population stability index", Journal of Risk Model Validation 14, 2020). So the threshold grows where
rows are few, and with the number of columns that are tested at once.
"""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np

from berth.tensors.arrays import Array

# Fewer rows say nothing.
LEAST_ROWS = 100
# A smaller shift is of no consequence, however certain it is.
LEAST_PSI = 0.1
_LEVEL = 0.01


def measure_psi(counts: Array, shares: Array, sample_rows: int) -> float:
    """The index of `counts` ([B]) against a sample of so many rows whose `shares` ([B]) are known."""
    rows, bins = int(counts.sum()), len(counts)
    observed = (counts + 0.5) / (rows + 0.5 * bins)
    expected = (shares * sample_rows + 0.5) / (sample_rows + 0.5 * bins)
    return float(((observed - expected) * np.log(observed / expected)).sum())


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


def find_threshold(bins: int, rows: int, sample_rows: int, columns: int) -> float:
    """Above it a column has drifted: `rows` in the window, `columns` tested at once."""
    quantile = chi_squared_quantile(1 - _LEVEL / max(columns, 1), max(bins - 1, 1))
    return max(LEAST_PSI, quantile * (1 / max(rows, 1) + 1 / max(sample_rows, 1)))
