"""A version's profile: how each column of its sample, and its predictions on it, are distributed.

It lies in model.json under `metadata.profile`, where images that know nothing of profiles leave it alone. Each column
has bins and the share of the sample in each; what is counted later falls into the same bins.

    numeric      below, the sample's deciles (equal edges merged), above, missing
    categorical  the most frequent values, other, missing
    text         by length: the deciles of the lengths, as numeric
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, TypeAlias

import numpy as np

from berth.errors import ManifestError, shown
from berth.tensors.arrays import Array, Tensors, TensorSpec

PROFILE, PREDICTION = "profile", "prediction"
NUMERIC, CATEGORICAL, TEXT = "numeric", "categorical", "text"
SCHEMA_VERSION = 1
# A number with so few distinct values is a category.
_FEW_VALUES = 20
# Text is text, and no category, with more distinct values than the first and a mean length above the second.
_MANY_TEXTS, _LONG_TEXT = 50, 20
# A value that was seen less often could identify a person.
_RARE = 5
_CATEGORIES = (50, 25, 12, 6)
# Of the profile as JSON: 16 KiB for 30 columns, and so much for each further one.
_BYTES, _COLUMN_BYTES = 16384, 546
_EXTREMES = (0.001, 0.999)
# What may be unusual about a value.
UNUSUAL = ("missing", "below", "above", "unknown")
Value: TypeAlias = str | float


@dataclass(frozen=True)
class ColumnProfile:
    """One column's bins and their shares of the sample.

    `edges` are the inner bins' bounds (numeric, and text by length), `categories` the values with a bin of their own.
    `shares` are of the bins in order, `missing` last; `low` and `high` the 0.1 and 99.9 percentiles.
    """

    name: str
    kind: str
    rows: int
    shares: tuple[float, ...]
    edges: tuple[float, ...] = ()
    categories: tuple[Value, ...] = ()
    low: float | None = None
    high: float | None = None

    @property
    def missing_share(self) -> float:
        """The share of the sample without a value."""
        return self.shares[-1]

    @property
    def labels(self) -> tuple[str, ...]:
        """What each bin holds, for people; the order of `shares`."""
        if self.kind == CATEGORICAL:
            return (
                *(f"{value:g}" if isinstance(value, float) else value for value in self.categories),
                "other",
                "missing",
            )
        inner = [f"{low:.4g} to {high:.4g}" for low, high in zip(self.edges, self.edges[1:], strict=False)]
        return (f"below {self.edges[0]:.4g}", *inner, f"above {self.edges[-1]:.4g}", "missing")

    @cached_property
    def _places(self) -> Mapping[Any, int]:
        return {value: at for at, value in enumerate(self.categories)}

    @cached_property
    def known_numbers(self) -> Array | None:
        """The categories where all are numbers that ascend, as `_make_categorical` puts them."""
        if not self.categories or not all(isinstance(value, float) for value in self.categories):
            return None
        known = np.array(self.categories, np.float64)
        return known if (known[1:] > known[:-1]).all() else None

    def find_bins(self, values: Array) -> Array:
        """The bin of each value: numbers [n], or strings and None [n]; int64 [n]."""
        if self.kind == CATEGORICAL:
            other, places = len(self.categories), self._places
            if (known := self.known_numbers) is not None and values.dtype.kind in "fiub":
                numbers = values.astype(np.float64, copy=False)
                at = np.minimum(np.searchsorted(known, numbers), other - 1)
                return np.where(known[at] == numbers, at, np.where(np.isnan(numbers), other + 1, other))
            found = [places.get(value, other) if value == value and value is not None else other + 1
                     for value in _plain(values)]  # fmt: skip
            return np.array(found, np.int64)
        numbers = _lengths(values) if self.kind == TEXT else np.asarray(values, np.float64)
        edges = np.array(self.edges)
        bins = np.searchsorted(edges, numbers, side="right")
        bins[numbers == edges[-1]] = len(edges) - 1  # the last inner bin holds its upper bound
        bins[np.isnan(numbers)] = len(edges) + 1
        return bins

    def find_unusual(self, values: Array, bins: Array) -> dict[str, Array]:
        """Which values ([n] of bool, by kind) the sample gives no reason to expect; kinds without any are left out."""
        found: dict[str, Array] = {}
        if not self.missing_share:
            found["missing"] = bins == len(self.shares) - 1
        if self.kind == CATEGORICAL and not self.shares[-2]:
            found["unknown"] = bins == len(self.shares) - 2
        if self.kind == NUMERIC and self.low is not None and self.high is not None:
            width, numbers = self.high - self.low, np.asarray(values, np.float64)
            found["below"] = numbers < self.low - width
            found["above"] = numbers > self.high + width
        return {kind: mask for kind, mask in found.items() if mask.any()}


@dataclass(frozen=True)
class Profile:
    """The columns of a model's input in order, and its predictions; none where a model gives no `prediction`."""

    columns: tuple[ColumnProfile, ...]
    prediction: ColumnProfile | None = None

    @property
    def features(self) -> tuple[ColumnProfile, ...]:
        """Every column, the prediction last."""
        return self.columns if self.prediction is None else (*self.columns, self.prediction)


def _plain(values: Array) -> list[Any]:
    """The values as a profile's categories are: numbers as float, the rest as strings; None stays."""
    if values.dtype.kind in "fiub":
        return list(map(float, values.tolist()))
    return [value if value is None or isinstance(value, str) else str(value) for value in values.tolist()]


def _lengths(values: Array) -> Array:
    return np.array([np.nan if value is None else len(value) for value in _plain(values)], np.float64)


def _make_numeric(name: str, kind: str, numbers: Array) -> ColumnProfile | None:
    present = numbers[np.isfinite(numbers)]
    if not len(present):
        return None
    # Rounded to be short, but for the ends: no value of the sample lies outside.
    inner = [float(f"{edge:.6g}") for edge in np.quantile(present, np.linspace(0.1, 0.9, 9))]
    least, most = float(present.min()), float(present.max())
    edges = (least, *(edge for edge in dict.fromkeys(inner) if least < edge < most), most)
    low, high = (float(value) for value in np.quantile(present, _EXTREMES))
    return ColumnProfile(name, kind, len(numbers), (), edges, (), low, high) if least < most else None


def _make_categorical(name: str, values: Array, most: int) -> ColumnProfile:
    plain = _plain(values)
    counts = Counter(value for value in plain if value is not None and value == value)
    frequent = [value for value, count in counts.most_common(most) if count >= _RARE]
    kept = sorted(frequent) if all(isinstance(value, float) for value in frequent) else frequent
    return ColumnProfile(name, CATEGORICAL, len(plain), (), (), tuple(kept))


def _is_category(values: Array) -> bool:
    present = [value for value in _plain(values) if value is not None and value == value]
    if values.dtype.kind in "fiub":
        return len(set(present)) <= _FEW_VALUES
    mean = sum(map(len, present)) / max(len(present), 1)
    return not (len(set(present)) > _MANY_TEXTS and mean > _LONG_TEXT)


def make_column(
    name: str, values: Array, most_categories: int = _CATEGORIES[0], category: bool = False
) -> ColumnProfile | None:
    """The profile of one column ([n]); None for one that has no values. `category`: it is one, however many values."""
    column: ColumnProfile | None
    if category or _is_category(values):
        column = _make_categorical(name, values, most_categories)
    elif values.dtype.kind in "fiu":
        column = _make_numeric(name, NUMERIC, np.asarray(values, np.float64))
    else:
        column = _make_numeric(name, TEXT, _lengths(values))
    if column is None:
        return None
    bins = len(column.categories) + 2 if column.kind == CATEGORICAL else len(column.edges) + 2
    counts = np.bincount(column.find_bins(values), minlength=bins)
    shares = tuple(float(f"{share:.5g}") for share in counts / max(len(values), 1))
    return replace(column, shares=shares)


def split_columns(specs: Sequence[TensorSpec], tensors: Tensors) -> list[tuple[str, Array]]:
    """A model's input as named columns ([n] each); tensors of more than two dimensions have none."""
    columns: list[tuple[str, Array]] = []
    for spec in specs:
        array = tensors.get(spec.name)
        if array is None:  # an optional column
            continue
        if array.ndim == 1:
            columns.append((spec.name, array))
        elif array.ndim == 2:
            names = spec.columns or tuple(map(str, range(array.shape[1])))
            columns += [(name, array[:, at]) for at, name in enumerate(names)]
    return columns


def make_profile(specs: Sequence[TensorSpec], tensors: Tensors, prediction: Array | None, classes: bool) -> Profile:
    """The profile of a sample's rows and of the model's predictions ([n]) on them; `classes`: those are labels."""
    columns = split_columns(specs, tensors)
    answered = prediction if prediction is not None and prediction.ndim == 1 else None
    limit = _BYTES + max(0, len(columns) - 30) * _COLUMN_BYTES
    profile = Profile(())
    for most in _CATEGORIES:
        found = tuple(column for name, values in columns if (column := make_column(name, values, most)))
        last = None if answered is None else make_column(PREDICTION, answered, most, classes)
        profile = Profile(found, last)
        if len(json.dumps(encode_profile(profile))) <= limit:
            break
    return profile


def _encode_column(column: ColumnProfile) -> dict[str, Any]:
    document: dict[str, Any] = {"name": column.name, "kind": column.kind, "rows": column.rows}
    document |= {"categories": list(column.categories)} if column.kind == CATEGORICAL else {"edges": list(column.edges)}
    document["shares"] = list(column.shares)
    if column.low is not None and column.high is not None:
        document |= {"low": float(f"{column.low:.6g}"), "high": float(f"{column.high:.6g}")}
    return document


def encode_profile(profile: Profile) -> dict[str, Any]:
    """A profile as it lies in model.json."""
    document: dict[str, Any] = {"schema": SCHEMA_VERSION, "columns": [_encode_column(each) for each in profile.columns]}
    if profile.prediction is not None:
        document[PREDICTION] = _encode_column(profile.prediction)
    return document


def _decode_column(document: Mapping[str, Any]) -> ColumnProfile:
    column = ColumnProfile(
        str(document["name"]), str(document["kind"]), int(document["rows"]), tuple(map(float, document["shares"])),
        tuple(map(float, document.get("edges", ()))),
        tuple(value if isinstance(value, str) else float(value) for value in document.get("categories", ())),
        document.get("low"), document.get("high"),
    )  # fmt: skip
    inner = len(column.categories) if column.kind == CATEGORICAL else len(column.edges)
    if column.kind not in (NUMERIC, CATEGORICAL, TEXT) or len(column.shares) != inner + 2:
        raise ValueError(f"the column {shown(column.name)} has {len(column.shares)} shares for {inner + 2} bins")
    if column.kind != CATEGORICAL and (inner < 2 or list(column.edges) != sorted(column.edges)):
        raise ValueError(f"the edges of the column {shown(column.name)} do not ascend")
    return column


def decode_profile(metadata: Mapping[str, Any]) -> Profile | None:
    """The profile in a version's metadata; None where it has none. Raises ManifestError."""
    document = metadata.get(PROFILE)
    if not isinstance(document, dict) or document.get("schema") != SCHEMA_VERSION:
        return None
    try:
        last = document.get(PREDICTION)
        return Profile(tuple(map(_decode_column, document["columns"])), None if last is None else _decode_column(last))
    except (KeyError, TypeError, ValueError) as error:
        raise ManifestError(f"model.json: metadata.profile is damaged: {error}; add the model again") from error
