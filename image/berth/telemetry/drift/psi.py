"""The population stability index, and the value above which it is no chance.

With half a count added to each bin, psi over B bins of two samples of n and m rows from one distribution is about
(1/n + 1/m) times a chi-squared variable with B - 1 degrees of freedom (B. Yurdakul and J. Naranjo, "Statistical
properties of the population stability index", Journal of Risk Model Validation 14, 2020). So the threshold grows where
rows are few, and with the number of columns that are tested at once.
"""

from __future__ import annotations

import numpy as np

from berth.telemetry.chi_squared import chi_squared_quantile
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


def find_threshold(bins: int, rows: int, sample_rows: int, columns: int) -> float:
    """Above it a column has drifted: `rows` in the window, `columns` tested at once."""
    quantile = chi_squared_quantile(1 - _LEVEL / max(columns, 1), max(bins - 1, 1))
    return max(LEAST_PSI, quantile * (1 / max(rows, 1) + 1 / max(sample_rows, 1)))
