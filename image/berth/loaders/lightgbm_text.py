"""LightGBM's text format, checked before the library reads it.

LightGBM splits the file at the byte counts that the file itself gives and follows child, feature and category numbers
without looking. What does not hold together ends the process: it aborts inside its own threads, or reads elsewhere.
"""

from __future__ import annotations

import re
from itertools import pairwise
from pathlib import Path
from shlex import quote
from typing import Any

import numpy as np

from berth.errors import LoadError, UnsafeArtifact
from berth.loaders.document_checks import require, require_between, whole

_MAX_CLASSES = 100_000
_MAX_FEATURES = 10_000_000
_CATEGORICAL = 1
_END = b"end of trees"
_PER_CLASS = re.compile(r"^(?:multiclass|multiclassova)\b.*\bnum_class:(\d+)")

_Fields = dict[str, str]


def check_lightgbm(path: Path) -> None:
    """Raise LoadError for a damaged file, UnsafeArtifact for one whose numbers would lead the library astray."""
    data = path.read_bytes()
    if b"\r" in data:
        raise LoadError(
            f"{path.name} has Windows line ends (CRLF), which shift every byte count in it; "
            f"convert it with tr -d '\\r' <{quote(path.name)} >{quote(f'unix-{path.name}')} and add that, "
            "or copy it as a binary file"
        )
    try:
        _check_text(data)
    except (ValueError, LookupError, OverflowError, UnicodeDecodeError) as error:
        raise UnsafeArtifact(
            f"{path.name} is not a LightGBM model to be loaded: it is damaged, cut short or forged ({error}); "
            "save it again with save_model"
        ) from error


def _fields(text: str) -> _Fields:
    pairs = [line.partition("=") for line in text.split("\n") if "=" in line]
    fields = {key: value for key, _, value in pairs}
    require(len(fields) == len(pairs), "a key that is there twice")
    return fields


def _whole(fields: _Fields, key: str, low: int, high: int) -> int:
    require(key in fields, f"{key} is missing")
    return whole(fields, key, low, high)


def _numbers(fields: _Fields, key: str, count: int, dtype: type = np.int64) -> Any:
    require(key in fields or not count, f"{key} is missing")
    values: Any = np.array(fields.get(key, "").split(), dtype)
    require(len(values) == count, f"{key} has {len(values)} numbers where {count} belong")
    return values


def _check_text(data: bytes) -> None:
    head, separator, _ = data.partition(b"\n\nTree=0\n")
    require(separator or _END in data, "no trees")
    header = _fields((head if separator else data.partition(_END)[0]).decode())
    classes = _whole(header, "num_class", 1, _MAX_CLASSES)
    require(_whole(header, "num_tree_per_iteration", 1, _MAX_CLASSES) == classes, "trees for another num_class")
    features = _whole(header, "max_feature_idx", 0, _MAX_FEATURES) + 1
    for key in ("feature_names", "feature_infos"):
        found = len(header.get(key, "").split())
        require(found == features, f"{key} has {found} entries for {features} features")
    objective = _PER_CLASS.match(header.get("objective", ""))
    require(objective is None or int(objective[1]) == classes, "an objective for another num_class")
    require(objective is not None or not header.get("objective", "").startswith("multiclass"), "an objective")
    trees = _split_trees(data, len(head) + 2 if separator else data.index(_END), header)
    require(len(trees) % classes == 0, f"{len(trees)} trees for {classes} classes")
    for number, text in enumerate(trees):
        try:
            _check_tree(_fields(text), features)
        except ValueError as error:
            raise ValueError(f"tree {number}: {error}") from error


def _split_trees(data: bytes, start: int, header: _Fields) -> list[str]:
    """The trees' texts, cut as LightGBM cuts them: at the sizes in the header."""
    sizes = [int(size) for size in header.get("tree_sizes", "").split()]
    require(sizes or "tree_sizes" in header, "tree_sizes is missing")
    trees = []
    for number, size in enumerate(sizes):
        require(0 < size <= len(data) - start, f"tree_sizes is {size} for tree {number}")
        piece = data[start : start + size]
        require(piece.startswith(b"Tree=%d\n" % number), f"tree {number} does not begin where tree_sizes says")
        require(piece.count(b"Tree=") == 1, f"tree_sizes is {size} for tree {number}")
        trees.append(piece.decode())
        start += size
    require(data[start:].lstrip().startswith(_END), f"{len(trees)} trees are not followed by 'end of trees'")
    return trees


def _check_tree(fields: _Fields, features: int) -> None:
    leaves = _whole(fields, "num_leaves", 1, 1 << 24)
    categories = _whole(fields, "num_cat", 0, 1 << 24)
    splits = leaves - 1
    _numbers(fields, "leaf_value", leaves, np.float64)
    require_between("split_feature", _numbers(fields, "split_feature", splits), 0, features - 1)
    thresholds = _numbers(fields, "threshold", splits, np.float64)
    types = _numbers(fields, "decision_type", splits)
    require_between("decision_type", types, 0, 127)
    for key in ("split_gain", "internal_value"):
        _numbers(fields, key, splits, np.float64) if fields.get(key) else None
    _check_children(fields, splits, leaves)
    chosen = thresholds[types & _CATEGORICAL != 0]
    require(np.isfinite(chosen).all() and (not chosen.size or categories), "a split by category without categories")
    require_between("threshold", chosen, 0, categories - 1)
    if categories:
        bounds = _numbers(fields, "cat_boundaries", categories + 1)
        require(bounds[0] == 0 and all(low <= high for low, high in pairwise(bounds)), "cat_boundaries do not rise")
        _numbers(fields, "cat_threshold", int(bounds[-1]))
    if _whole({"is_linear": "0", **fields}, "is_linear", 0, 1):
        _check_linear(fields, leaves, features)


def _check_children(fields: _Fields, splits: int, leaves: int) -> None:
    """Every inner node and every leaf once; an inner node comes after its parent, so there is no cycle."""
    left, right = (_numbers(fields, key, splits) for key in ("left_child", "right_child"))
    for key, children in (("left_child", left), ("right_child", right)):
        require_between(key, children, -leaves, splits - 1)
        inner = children >= 0
        require((children[inner] > np.flatnonzero(inner)).all(), f"{key} leads back to an earlier node")
    both = np.concatenate((left, right))
    seen = np.bincount(both + leaves, minlength=1)
    require(seen.max() <= 1, "a node with two parents")


def _check_linear(fields: _Fields, leaves: int, features: int) -> None:
    _numbers(fields, "leaf_const", leaves, np.float64)
    counts = _numbers(fields, "num_features", leaves)
    require_between("num_features", counts, 0, features)
    total = int(counts.sum())
    require_between("leaf_features", _numbers(fields, "leaf_features", total), 0, features - 1)
    _numbers(fields, "leaf_coeff", total, np.float64)
