"""Encoders, vectorizers and splines: what they put into matrices whose widths the file gives as well."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import zip_longest
from typing import Any

import numpy as np

from berth.loaders.unpickle.native_refusals import brief, check_count, check_inside, check_whole, refuse

_MAX_HASHES = 2**31 - 1


def check_one_hot(encoder: Any) -> None:
    """OneHotEncoder: every category's column lies inside the matrix. Raises UnsafeArtifact, as all checks here do."""
    state = vars(encoder)
    if "categories_" not in state or "_n_features_outs" not in state:
        return
    categories = state["categories_"]
    check_categories(encoder)
    grouped = state.get("_default_to_infrequent_mappings", ()) if state.get("_infrequent_enabled") else ()
    dropped = state.get("_drop_idx_after_grouping")
    columns = state["_n_features_outs"]
    if not isinstance(columns, list) or len(columns) != len(categories):
        refuse(encoder, f"_n_features_outs is {brief(columns)} for {len(categories)} features")
    rows = zip_longest(categories, columns, grouped, () if dropped is None else dropped)
    for index, (values, width, mapping, drop) in enumerate(rows):
        count = _group(encoder, index, values, mapping)
        if drop is not None:
            check_whole(encoder, f"_drop_idx_after_grouping[{index}]", drop, 0, count - 1)
        check_count(encoder, f"_n_features_outs[{index}]", width, count - (drop is not None))


def check_categories(encoder: Any) -> None:
    """The categories of an encoder: a list of arrays, in order where they are numbers, as a binary search needs."""
    categories = vars(encoder).get("categories_", [])
    if not isinstance(categories, list):
        refuse(encoder, f"categories_ is {brief(categories)}, not a list")
    for index, values in enumerate(categories):
        if not isinstance(values, np.ndarray) or values.ndim != 1:
            refuse(encoder, f"categories_[{index}] is {brief(values)}, not a list of values")
        if values.dtype.kind in "iuf" and (values[1:] <= values[:-1]).any():
            refuse(encoder, f"categories_[{index}] is not in order")


def _group(encoder: Any, index: int, values: Any, mapping: Any) -> int:
    """How many different numbers a feature's categories become."""
    if values is None:
        refuse(encoder, "categories_ has fewer entries than its other lists")
    if mapping is None:
        return len(values)
    name = f"_default_to_infrequent_mappings[{index}]"
    if not isinstance(mapping, np.ndarray) or mapping.shape != (len(values),) or mapping.dtype.kind not in "iu":
        refuse(encoder, f"{name} is {brief(mapping)} for {len(values)} categories")
    check_inside(encoder, name, mapping, 0, len(values) - 1)
    return int(mapping.max()) + 1


def check_vocabulary(vectorizer: Any) -> None:
    """CountVectorizer, TfidfVectorizer and DictVectorizer: the terms' columns are 0 to their number."""
    vocabulary = vars(vectorizer).get("vocabulary_")
    if vocabulary is None:
        return
    if type(vocabulary) is not dict or not all(isinstance(at, int | np.integer) for at in vocabulary.values()):
        refuse(vectorizer, f"vocabulary_ is {brief(vocabulary)}, not a dict of whole numbers")
    try:
        columns = np.fromiter(vocabulary.values(), np.int64, len(vocabulary))
    except OverflowError:
        refuse(vectorizer, f"vocabulary_ names a column outside 0 to {len(vocabulary) - 1}")
    check_inside(vectorizer, "vocabulary_", columns, 0, len(vocabulary) - 1)


def check_hasher(hasher: Any) -> None:
    """FeatureHasher and HashingVectorizer: hashes are divided by n_features."""
    if "n_features" in vars(hasher):
        check_whole(hasher, "n_features", vars(hasher)["n_features"], 1, _MAX_HASHES)


def check_spline(spline: Any) -> None:
    """BSpline: knots in order, and a coefficient for each of its basis functions."""
    state = vars(spline)
    knots, values, degree = (_first(state, names) for names in (("_t", "t"), ("_c", "c"), ("k",)))
    if knots is None or values is None or degree is None:
        return
    check_whole(spline, "k", degree, 0, 1000)
    if type(state.get("axis", 0)) is not int:
        refuse(spline, f"axis is {brief(state['axis'])}, not a whole number")
    if not isinstance(knots, np.ndarray) or knots.ndim != 1 or knots.dtype != np.float64:
        refuse(spline, f"t is {brief(knots)}, not a row of numbers")
    count = len(knots) - int(degree) - 1
    if count < int(degree) + 1 or not np.isfinite(knots).all() or (np.diff(knots) < 0).any():
        refuse(spline, f"t is {brief(knots)}, not rising knots for the degree {degree}")
    if not isinstance(values, np.ndarray) or values.ndim < 1 or values.dtype.kind not in "fc" or len(values) < count:
        refuse(spline, f"c is {brief(values)} where {count} coefficients belong")


def _first(state: dict[str, Any], names: Sequence[str]) -> Any:
    return next((state[name] for name in names if name in state), None)
