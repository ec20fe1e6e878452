"""The one comparison of outputs: what counts as equal, and how far apart the rest is."""

from __future__ import annotations

import math

import numpy as np
import pytest

from berth.tensors.arrays import Array
from berth.tensors.differences import largest_difference

NAN, INF = math.nan, math.inf


@pytest.mark.parametrize(
    ("wanted", "found", "difference"),
    [
        ([1.0, 2.0], [1.0, 2.0], 0.0),
        ([1.0, 2.0], [1.5, 1.75], 0.5),
        ([1000.0], [1001.0], 1.0),
        ([NAN, INF, -INF], [NAN, INF, -INF], 0.0),
        ([NAN], [1.0], INF),
        ([1.0], [NAN], INF),
        ([INF], [-INF], INF),
        ([INF], [1.0], INF),
        ([1e308], [-1e308], INF),
        ([[1.0, 2.0]], [1.0, 2.0], INF),
        ([], [], 0.0),
        ([1, 2], [1, 2], 0.0),
        ([1, 2], [1, 3], INF),
        ([1, 2], [1.0, 2.0], 0.0),
        (["a", "b"], ["a", "b"], 0.0),
        (["a", "b"], ["a", "c"], INF),
        ([True], [False], INF),
    ],
)
def test_largest_difference(wanted: list[object], found: list[object], difference: float) -> None:
    assert largest_difference(np.array(wanted), np.array(found)) == difference


def test_large_values_are_compared_in_proportion() -> None:
    wanted, found = np.array([1000.0, 0.5, NAN]), np.array([1001.0, 0.5, NAN])
    assert largest_difference(wanted, found, relative=True) == pytest.approx(0.001)


def test_single_precision_is_compared_in_double() -> None:
    values: Array = np.array([16777216.0], np.float32)
    assert largest_difference(values, np.array([16777217.0])) == 1.0
