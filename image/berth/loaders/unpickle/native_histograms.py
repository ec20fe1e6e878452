"""Histogram gradient boosting: node tables that are followed without looking, and the bitsets of its categories."""

from __future__ import annotations

from typing import Any

import numpy as np

from berth.loaders.unpickle.native_refusals import (
    brief,
    check_all,
    check_count,
    check_inside,
    check_kind,
    native_class,
    refuse,
)

_ROOM = "sklearn.ensemble._hist_gradient_boosting"
_BITSET_WORDS = 8


def check_histogram_boosting(ensemble: Any) -> None:
    """A fitted HistGradientBoosting estimator with all its trees. Raises UnsafeArtifact."""
    state = vars(ensemble)
    if "_predictors" not in state:
        return
    if state.get("_in_fit"):
        refuse(ensemble, "_in_fit is set: it was saved while it was being fitted")
    width = state.get("n_features_in_")
    categorical = _categorical(ensemble, state.get("_bin_mapper"))
    check_count(ensemble, "n_features_in_", width, len(categorical))
    _check_preprocessor(ensemble, state.get("_preprocessor"), len(categorical))
    trees = _trees_of(ensemble, state)
    if trees:
        _check_nodes(ensemble, trees, categorical)


def _categorical(ensemble: Any, mapper: Any) -> Any:
    """For each feature whether it is one of categories."""
    check_kind(ensemble, "_bin_mapper", mapper, native_class(f"{_ROOM}.binning", "_BinMapper"))
    flags, thresholds = vars(mapper).get("is_categorical_"), vars(mapper).get("bin_thresholds_")
    if not isinstance(flags, np.ndarray) or flags.ndim != 1 or flags.dtype.kind not in "bu":
        refuse(mapper, f"is_categorical_ is {brief(flags)}, not a list of flags")
    check_inside(mapper, "is_categorical_", flags, 0, 1)
    if not isinstance(thresholds, list) or len(thresholds) != len(flags):
        refuse(mapper, f"bin_thresholds_ is {brief(thresholds)}, not one array for each of {len(flags)} features")
    for index, values in enumerate(thresholds):
        if not isinstance(values, np.ndarray) or values.ndim != 1 or values.dtype.kind not in "fiu":
            refuse(mapper, f"bin_thresholds_[{index}] is {brief(values)}, not a row of numbers")
    return flags.astype(bool)


def _check_preprocessor(ensemble: Any, preprocessor: Any, width: int) -> None:
    """The columns are put in another order before the trees see them; as many must come out as go in."""
    if preprocessor is None:
        return
    check_kind(
        ensemble,
        "_preprocessor",
        preprocessor,
        native_class("sklearn.compose._column_transformer", "ColumnTransformer"),
    )
    counted = 0
    for name, transformer, columns in preprocessor.transformers_:
        if isinstance(transformer, str) and transformer == "drop":
            continue
        known = {
            "encoder": native_class("sklearn.preprocessing._encoders", "OrdinalEncoder"),
            "numerical": native_class("sklearn.preprocessing._function_transformer", "FunctionTransformer"),
        }.get(name)
        if known is None or not isinstance(transformer, known):
            refuse(ensemble, f"_preprocessor has a step {brief(transformer)} that scikit-learn does not put there")
        if not isinstance(columns, np.ndarray) or columns.dtype != bool or columns.shape != (width,):
            refuse(ensemble, f"_preprocessor selects {brief(columns)}, not one flag for each of {width} features")
        counted += int(columns.sum())
    if counted != width:
        refuse(ensemble, f"_preprocessor gives {counted} columns where it has {width} features")


def _trees_of(ensemble: Any, state: dict[str, Any]) -> list[Any]:
    """The predictors of all iterations, as one list."""
    rounds, each = state["_predictors"], state.get("n_trees_per_iteration_")
    if not isinstance(rounds, list) or not all(isinstance(trees, list) for trees in rounds):
        refuse(ensemble, f"_predictors is {brief(rounds)}, not a list of lists")
    predictor, record = (
        native_class(f"{_ROOM}.predictor", "TreePredictor"),
        native_class(f"{_ROOM}.common", "PREDICTOR_RECORD_DTYPE"),
    )
    for index, trees in enumerate(rounds):
        check_count(ensemble, "n_trees_per_iteration_", each, len(trees))
        for tree in trees:
            check_kind(ensemble, f"_predictors[{index}]", tree, predictor)
            _check_arrays(tree, record)
    return [tree for trees in rounds for tree in trees]


def _check_arrays(tree: Any, record: Any) -> None:
    nodes = vars(tree).get("nodes")
    if not isinstance(nodes, np.ndarray) or nodes.ndim != 1 or nodes.size == 0 or nodes.dtype != record:
        refuse(tree, f"nodes is {brief(nodes)}, not a list of nodes")
    for name in ("raw_left_cat_bitsets", "binned_left_cat_bitsets"):
        bits = vars(tree).get(name)
        if not isinstance(bits, np.ndarray) or bits.ndim != 2 or bits.shape[1] != _BITSET_WORDS:
            refuse(tree, f"{name} is {brief(bits)}, not rows of {_BITSET_WORDS} words")


def _check_nodes(ensemble: Any, trees: list[Any], categorical: Any) -> None:
    """The nodes of all trees at once, as those of decision trees are."""
    counts = np.array([len(tree.nodes) for tree in trees])
    nodes = np.frombuffer(b"".join([tree.nodes.tobytes() for tree in trees]), trees[0].nodes.dtype)
    first = np.repeat(np.cumsum(counts) - counts, counts)
    count = np.repeat(counts, counts)
    own = np.arange(len(nodes)) - first
    split = nodes["is_leaf"] == 0
    for name in ("left", "right"):
        child = nodes[name].astype(np.int64)
        check_all(ensemble, f"nodes.{name}", ~split | ((child > own) & (child < count)), child, "no later node")
    children = np.concatenate([nodes[name][split] + first[split] for name in ("left", "right")])
    if children.size and np.bincount(children).max() > 1:
        refuse(ensemble, "nodes have a node with two parents")
    feature = nodes["feature_idx"]
    good = ~split | ((feature >= 0) & (feature < len(categorical)))
    check_all(ensemble, "nodes.feature_idx", good, feature, f"outside its {len(categorical)} features")
    chosen = split & (nodes["is_categorical"] != 0)
    rows = np.repeat(np.array([len(tree.raw_left_cat_bitsets) for tree in trees]), counts)
    bits = nodes["bitset_idx"]
    check_all(ensemble, "nodes.bitset_idx", ~chosen | (bits < rows), bits, "outside raw_left_cat_bitsets")
    known = ~chosen
    known[chosen] = categorical[feature[chosen]]
    check_all(ensemble, "nodes.is_categorical", known, feature, "a feature without categories")
