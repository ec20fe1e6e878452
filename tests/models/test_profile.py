"""Profiles: the bins that a sample makes, what falls into them later, and their form in model.json."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from berth.errors import ManifestError
from berth.models.profile import (
    CATEGORICAL,
    NUMERIC,
    TEXT,
    ColumnProfile,
    Profile,
    decode_profile,
    encode_profile,
    make_column,
    make_profile,
)
from berth.tensors.arrays import TensorSpec

NUMBERS = arrays(np.float64, st.integers(21, 300), elements=st.floats(allow_infinity=False, width=32))


def made(name: str, values: Any, **more: Any) -> ColumnProfile:
    column = make_column(name, np.array(values, object if isinstance(values[0], str | None) else None), **more)
    assert column is not None
    return column


@pytest.mark.parametrize("dtype", ["f8", "f4", "i8", "u1", "?"])
def test_numbers_fall_into_the_categories_that_they_are(dtype: str) -> None:
    column = ColumnProfile("x", CATEGORICAL, 9, (0.2,) * 5, (), (0.0, 1.0, 7.5))
    values = np.array([0, 1, 2, 7.5, 100, -0.0]).astype(dtype)
    places = {value: at for at, value in enumerate(column.categories)}
    assert column.find_bins(values).tolist() == [places.get(value, 3) for value in map(float, values.tolist())]
    assert column.find_bins(np.array([np.nan, np.inf, -np.inf])).tolist() == [4, 3, 3]


def test_many_numbers_are_binned_by_deciles() -> None:
    column = made("age", np.arange(1000.0))
    assert column.kind == NUMERIC
    assert len(column.edges) == 11
    assert column.shares == (0.0, *[0.1] * 10, 0.0, 0.0)
    assert column.labels[0] == "below 0"
    assert column.labels[-2:] == ("above 999", "missing")
    assert column.find_bins(np.array([-1.0, 0.0, 999.0, 1000.0, np.nan, np.inf])).tolist() == [0, 1, 10, 11, 12, 11]


def test_few_numbers_are_categories() -> None:
    column = made("rooms", np.repeat([1.0, 2.0, 3.0, 4.0], [50, 30, 16, 4]))
    assert column.kind == CATEGORICAL
    assert column.categories == (1.0, 2.0, 3.0)  # seen four times: it could be one person's
    assert column.shares == (0.5, 0.3, 0.16, 0.04, 0.0)


def test_text_is_binned_by_value_or_by_length() -> None:
    assert made("city", ["Kiel", "Rom"] * 40).categories == ("Kiel", "Rom")
    column = made("comment", [f"a comment of some length, number {at * 7}" + "!" * at for at in range(60)])
    assert column.kind == TEXT
    assert column.find_bins(np.array(["", None, "x" * 1000], object)).tolist() == [0, len(column.shares) - 1,
                                                                                   len(column.shares) - 2]  # fmt: skip


def test_booleans_and_missing_values() -> None:
    column = made("member", [True, False, False, False] * 10)
    assert column.categories == (0.0, 1.0)
    gaps = made("age", [*np.arange(90.0), *[np.nan] * 10])
    assert gaps.missing_share == pytest.approx(0.1)
    assert made("city", ["Rom", None] * 10).missing_share == pytest.approx(0.5)


def test_a_column_without_values_has_no_profile() -> None:
    assert make_column("x", np.full(10, np.nan), category=False) is not None  # no value is a category without any
    assert make_column("x", np.array([np.inf] * 5 + [-np.inf] * 5 + [np.nan] * 20)) is not None


@given(NUMBERS)
def test_every_value_of_the_sample_falls_inside(values: np.ndarray[Any, Any]) -> None:
    column = make_column("x", values)
    if column is not None and column.kind == NUMERIC:
        bins = column.find_bins(values)
        assert (bins[~np.isnan(values)] > 0).all()
        assert (bins[~np.isnan(values)] < len(column.edges)).all()
        assert sum(column.shares) == pytest.approx(1, abs=1e-3)


@given(NUMBERS)
def test_a_profile_survives_model_json(values: np.ndarray[Any, Any]) -> None:
    specs = [TensorSpec("x", "FP64", (-1,))]
    profile = make_profile(specs, {"x": values}, None, False)
    document = json.loads(json.dumps(encode_profile(profile)))
    again = decode_profile({"profile": document})
    assert again is not None
    for one, other in zip(profile.columns, again.columns, strict=True):
        assert one.find_bins(values).tolist() == other.find_bins(values).tolist()


def test_what_is_unusual() -> None:
    column = made("age", np.arange(1000.0))
    values = np.array([500.0, 1500.0, 5000.0, -5000.0, np.nan])
    found = column.find_unusual(values, column.find_bins(values))
    assert {kind: mask.tolist() for kind, mask in found.items()} == {
        "missing": [False, False, False, False, True],
        "below": [False, False, False, True, False],
        "above": [False, False, True, False, False],
    }
    city = made("city", ["Kiel", "Rom"] * 40)
    rows = np.array(["Kiel", "Oslo"], object)
    assert city.find_unusual(rows, city.find_bins(rows))["unknown"].tolist() == [False, True]
    open_city = made("city", [*["Kiel", "Rom"] * 40, "Bonn"])  # others were seen: a new one is no surprise
    assert open_city.find_unusual(rows, open_city.find_bins(rows)) == {}


def test_thirty_columns_fit_into_16_kib() -> None:
    rng = np.random.default_rng(0)
    texts = np.array([f"a category with a long name, number {at}" for at in range(60)], object)
    columns = {f"column {at}": texts[rng.integers(0, 60, 5000)] for at in range(30)}
    specs = [TensorSpec(name, "BYTES", (-1,)) for name in columns]
    profile = make_profile(specs, columns, rng.normal(size=5000), False)
    # Long texts are binned by length, so shorten them to be categories.
    short = {name: np.array([value[-20:] for value in values], object) for name, values in columns.items()}
    for each in (profile, make_profile(specs, short, None, False)):
        assert len(json.dumps(encode_profile(each))) <= 16384
        assert len(each.columns) == 30


def test_predictions_have_a_profile() -> None:
    specs = [TensorSpec("features", "FP64", (-1, 2), ("a", "b"))]
    rows = {"features": np.random.default_rng(0).normal(size=(500, 2))}
    profile = make_profile(specs, rows, np.arange(500) % 3, True)
    assert [column.name for column in profile.features] == ["a", "b", "prediction"]
    assert profile.prediction is not None
    assert profile.prediction.categories == (0.0, 1.0, 2.0)


def test_older_and_damaged_profiles() -> None:
    assert decode_profile({}) is None
    assert decode_profile({"profile": "a user's own key"}) is None
    with pytest.raises(ManifestError, match=r"metadata\.profile is damaged"):
        decode_profile({"profile": {"schema": 1, "columns": [{"name": "x"}]}})
    whole = encode_profile(Profile((made("x", np.arange(100.0)),)))
    whole["columns"][0]["shares"].pop()
    with pytest.raises(ManifestError, match="12 shares for 13 bins"):
        decode_profile({"profile": whole})
