"""Categories in XGBoost's document, checked before the library reads them.

XGBoost makes a bit set as long as the largest category of a node, and reads categories, and the names that codes stand
for, at the places that the document gives.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np

from berth.loaders.document_checks import numbers_of, require, require_inside

_MAX_CATEGORY = 1 << 24
# Of the bit sets of one tree.
_MAX_BITS = 1 << 31


def check_category_splits(tree: Any, count: int) -> None:
    """The nodes of a tree that split by category: each once, in order, with categories of its own."""
    by_category = numbers_of(tree, "split_type", count) if len(tree.get("split_type", ())) else np.zeros(count, int)
    require_inside("split_type", by_category, 0, 1)
    nodes = numbers_of({"categories_nodes": (), **tree}, "categories_nodes")
    require_inside("categories_nodes", nodes, 0, count - 1)
    require(all(low < high for low, high in pairwise(nodes.tolist())), "categories_nodes do not rise")
    require(np.array_equal(np.flatnonzero(by_category), nodes), "categories for other nodes than those of split_type")
    if not len(nodes):
        return
    categories = numbers_of(tree, "categories")
    require_inside("categories", categories, 0, _MAX_CATEGORY - 1)
    starts, sizes = (numbers_of(tree, key, len(nodes)) for key in ("categories_segments", "categories_sizes"))
    require_inside("categories_sizes", sizes, 1, len(categories))
    require_inside("categories_segments", starts, 0, len(categories) - 1)
    require_inside("categories_segments", starts + sizes, 0, len(categories))
    bits = sum(int(categories[at : at + size].max()) for at, size in zip(starts.tolist(), sizes.tolist(), strict=True))
    require(bits <= _MAX_BITS, f"categories take {bits} bits")


def _check_one(encoded: Any) -> int:
    """How many categories one feature has."""
    values = numbers_of(encoded, "values")
    if "offsets" not in encoded:
        require(values.dtype.kind in "iuf", "categories that are neither numbers nor texts")
        return len(values)
    offsets = numbers_of(encoded, "offsets")
    require_inside("values", values, -128, 255)
    if not len(offsets):
        require(not len(values), "texts without offsets")
        return 0
    rises = offsets[0] == 0 and offsets[-1] == len(values) and (np.diff(offsets) >= 0).all()
    require(rises, f"offsets of texts do not rise from 0 to {len(values)}")
    return len(offsets) - 1


def check_encoded(categories: Any, features: int) -> None:
    """The names of categories, one list a feature, and the orders in which they are looked up."""
    encoded = categories.get("enc", ())
    if not len(encoded):
        require(not len(categories.get("sorted_idx", ())), "an order of categories that are not there")
        return
    require(len(encoded) == features, f"enc has {len(encoded)} entries for {features} features")
    ends = np.cumsum([0, *map(_check_one, encoded)])
    require(np.array_equal(numbers_of(categories, "feature_segments"), ends), "feature_segments do not fit enc")
    order = numbers_of(categories, "sorted_idx", int(ends[-1]))
    for low, high in pairwise(ends.tolist()):
        require(np.array_equal(np.sort(order[low:high]), np.arange(high - low)), "sorted_idx is no order of categories")
