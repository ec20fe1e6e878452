"""Categorical features of XGBoost and LightGBM models: which ones they are, and the codes that stand for their values.

Both libraries are trained on pandas' codes of categories. LightGBM writes the categories at the end of its text,
XGBoost (3.1 and newer) into its document. What a client sends is looked up there, as the libraries do for a frame; an
unknown value is a missing one.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, TypeAlias
from weakref import WeakKeyDictionary

import numpy as np

from berth.tensors.arrays import Array, Tensors, TensorSpec

# The values of one feature in the order of their codes; None for a feature of numbers.
Values: TypeAlias = tuple[Any, ...] | None

_LIGHTGBM_VALUES = re.compile(r"^pandas_categorical:(.*)$", re.MULTILINE)
_LIGHTGBM_PLACES = re.compile(r"^\[categorical_feature: ?([\d,]*)\]$", re.MULTILINE)


def _is_text(values: Sequence[Any]) -> bool:
    return any(isinstance(value, str) for value in values)


def _key(value: Any) -> Any:
    """A value as it is looked up: a number among texts is the text that JSON has for it."""
    if isinstance(value, str):
        return value
    number = float(value)
    return str(int(number)) if number.is_integer() else str(number)


@dataclass(frozen=True)
class KnownCategories:
    """The categories of each feature of a model, in the order of its features, whose names are known."""

    names: tuple[str, ...]
    values: tuple[Values, ...]

    def specs(self) -> tuple[TensorSpec, ...]:
        """A column for each feature; numbers that are categories may be missing, so they are FP64 like the others."""
        kinds = ["BYTES" if values and _is_text(values) else "FP64" for values in self.values]
        return tuple(TensorSpec(name, kind, (-1,)) for name, kind in zip(self.names, kinds, strict=True))

    def encode(self, tensors: Tensors) -> Array:
        """The matrix of numbers and codes, [rows, features] FP64, in which NaN is missing or unknown."""
        pairs = zip(self.names, self.values, strict=True)
        return np.column_stack([encode_values(tensors[name], values) for name, values in pairs])


def encode_values(column: Array, values: Values) -> Array:
    """One column as numbers: itself, or the codes of its values."""
    if values is None:
        return column.astype(np.float64, copy=False)
    text = _is_text(values)
    codes = {(_key(value) if text else value): float(code) for code, value in enumerate(values)}

    def code_of(value: Any) -> float:
        if value is None or value != value:
            return np.nan
        return codes.get(_key(value) if text else value, np.nan)

    return np.array([code_of(value) for value in column.tolist()], np.float64)


def lightgbm_categories(names: Sequence[str], text: str) -> KnownCategories | None:
    """The categories at the end of LightGBM's text, by the places that its parameters name; None without any.

    Raises ValueError where it is not clear which feature they belong to.
    """
    found = _LIGHTGBM_VALUES.findall(text)
    lists = (json.loads(found[-1]) if found else None) or []
    if not lists:
        return None
    listed = _LIGHTGBM_PLACES.search(text)
    places = [int(place) for place in listed[1].split(",") if place] if listed else []
    if len(places) != len(lists) or not all(isinstance(values, list) for values in lists):
        raise ValueError(f"{len(lists)} lists of categories for {len(places)} categorical features")
    values: list[Values] = [None] * len(names)
    for place, known in zip(sorted(places), lists, strict=True):
        values[place] = tuple(known)
    return KnownCategories(tuple(names), tuple(values))


def _decode_texts(offsets: Any, data: Any) -> tuple[str, ...]:
    """UTF-8 texts one after the other, as Arrow keeps them; XGBoost writes signed bytes."""
    raw = np.asarray(data, np.int64).astype(np.uint8).tobytes()
    ends = np.asarray(offsets, np.int64).tolist()
    return tuple(raw[low:high].decode() for low, high in pairwise(ends))


def _decode_category(encoded: Mapping[str, Any]) -> Values:
    """One feature's categories; an empty list of texts stands for a feature of numbers."""
    if "offsets" in encoded:
        return _decode_texts(encoded["offsets"], encoded["values"]) or None
    return tuple(np.asarray(encoded["values"]).tolist()) or None


def xgboost_categories(names: Sequence[str] | None, learner: Mapping[str, Any]) -> KnownCategories | None:
    """The categories in XGBoost's document; None without any: then clients send the codes themselves."""
    booster = learner["gradient_booster"]
    model = booster["gbtree"]["model"] if "gbtree" in booster else booster["model"]
    encoded = model.get("cats", {}).get("enc", ())
    if not names or len(encoded) != len(names):
        return None
    values = tuple(_decode_category(one) for one in encoded)
    return KnownCategories(tuple(names), values) if any(values) else None


_fitted: WeakKeyDictionary[Any, tuple[Values, ...] | None] = WeakKeyDictionary()


def _read_fitted(estimator: Any, library: str) -> KnownCategories | None:
    if library == "lightgbm":
        booster = estimator._Booster
        if booster is None or not booster.pandas_categorical:
            return None
        return lightgbm_categories(booster.feature_name(), booster.model_to_string())
    booster = estimator.get_booster()
    if "c" not in (booster.feature_types or ()):
        return None
    return xgboost_categories(booster.feature_names, json.loads(bytes(booster.save_raw("json")))["learner"])


def fitted_categories(estimator: Any) -> tuple[Values, ...] | None:
    """The categories of a fitted estimator of one of these libraries; None for any other, or where it has none."""
    library = type(estimator).__module__.partition(".")[0]
    if library not in ("lightgbm", "xgboost") or not hasattr(estimator, "predict"):
        return None
    if estimator not in _fitted:
        try:
            found = _read_fitted(estimator, library)
        except (AttributeError, LookupError, ValueError):  # not fitted, or not clear: it is tried with a row
            found = None
        _fitted[estimator] = found.values if found is not None else None
    return _fitted[estimator]
