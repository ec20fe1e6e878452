"""Counts of bins are those of the values' bins, whatever the values are."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from berth.models.bin_counts import make_counter
from berth.models.profile import CATEGORICAL, ColumnProfile, make_column

FLOATS = st.floats(width=32)
SAMPLES = arrays(np.float64, st.integers(21, 200), elements=st.floats(allow_infinity=False, width=32))
GRADES = ColumnProfile("grade", CATEGORICAL, 90, (0.3, 0.3, 0.4, 0.0, 0.0), (), (-1.0, 0.0, 7.5))
CITIES = ColumnProfile("city", CATEGORICAL, 90, (0.5, 0.5, 0.0, 0.0), (), ("Kiel", "Rom"))


def check(column: ColumnProfile, values: np.ndarray[Any, Any]) -> None:
    bins, unusual = make_counter(column)(values)
    places = column.find_bins(values)
    assert bins == np.bincount(places, minlength=len(column.shares)).tolist()
    assert unusual == {kind: int(mask.sum()) for kind, mask in column.find_unusual(values, places).items()}


@given(SAMPLES, arrays(np.float64, st.integers(0, 50), elements=FLOATS))
def test_numbers_of_any_sample(sample: np.ndarray[Any, Any], values: np.ndarray[Any, Any]) -> None:
    column = make_column("x", sample)
    if column is not None:
        bounds = np.array([*column.edges, column.low, column.high] if column.edges else column.categories, np.float64)
        check(column, np.concatenate([values, sample, bounds, np.nextafter(bounds, np.inf), [0.0, -0.0, np.nan]]))


@pytest.mark.parametrize("dtype", ["f8", "f4", "i8", "u1", "?"])
def test_numbers_of_every_datatype(dtype: str) -> None:
    values = np.array([-1, 0, 1, 7.5, 100, 250])
    with np.errstate(invalid="ignore"):
        check(GRADES, values.astype(dtype))
    column = make_column("age", np.arange(100.0))
    assert column is not None
    check(column, values.astype(dtype))


@given(arrays(object, st.integers(0, 30), elements=st.sampled_from(["Kiel", "Rom", "Oslo", "", None, 7.5, -1.0])))
def test_texts(values: np.ndarray[Any, Any]) -> None:
    check(CITIES, values)
    check(GRADES, values)
