"""Neighbour trees, their metrics, and the estimators that search them: all arithmetic on indices from the file."""

from __future__ import annotations

from typing import Any

import numpy as np

from berth.loaders.unpickle.native_refusals import (
    brief,
    check_all,
    check_count,
    check_inside,
    native_class,
    refuse,
)

_KD_BOUNDS, _BALL_BOUNDS = 2, 1
# Where these stand in what __getstate__ of a tree gives.
_NODES, _METRIC, _WEIGHTS = 6, 11, 12


def check_kd_tree(tree: Any) -> None:
    """A KDTree. Raises UnsafeArtifact, as all checks here do."""
    _check_tree(tree, _KD_BOUNDS)


def check_ball_tree(tree: Any) -> None:
    """A BallTree."""
    _check_tree(tree, _BALL_BOUNDS)


def _check_tree(tree: Any, bounds: int) -> None:
    """The nodes are a heap of 2^n - 1; each holds the points of its two children, and no two leaves share one."""
    state = tree.__getstate__()
    data, order, nodes, limits = (np.asarray(part) for part in state[:4])
    points, width = data.shape
    count = len(nodes)
    if order.shape != (points,):
        refuse(tree, f"idx_array has {len(order)} entries for {points} points")
    check_inside(tree, "idx_array", order, 0, points - 1)
    check_count(tree, "n_nodes", state[_NODES], count)
    if limits.shape != (bounds, count, width):
        refuse(tree, f"node_bounds has the shape {limits.shape} where the rest implies {(bounds, count, width)}")
    weights = state[_WEIGHTS]
    if weights is not None and np.asarray(weights).shape != (points,):
        refuse(tree, f"sample_weight is {brief(weights)} for {points} points")
    _check_ranges(tree, nodes, points)
    _check_metric_of(tree, state[_METRIC], data)


def _check_ranges(tree: Any, nodes: Any, points: int) -> None:
    start, end = nodes["idx_start"], nodes["idx_end"]
    if not len(nodes) or start[0] != 0 or end[0] != points:
        refuse(tree, f"node_data[0] does not hold all of its {points} points")
    check_all(tree, "node_data.idx_end", (start >= 0) & (start <= end) & (end <= points), end, "not after idx_start")
    inner = np.flatnonzero(nodes["is_leaf"] == 0)
    left = 2 * inner + 1
    if inner.size and left[-1] + 1 >= len(nodes):
        refuse(tree, f"node_data[{inner[-1]}].is_leaf is 0, and it has no children among {len(nodes)} nodes")
    whole = (start[left] == start[inner]) & (end[left] == start[left + 1]) & (end[left + 1] == end[inner])
    check_all(tree, "node_data.idx_end of children", whole, end[left], "not the points of their parent")


def _check_metric_of(tree: Any, metric: Any, data: Any) -> None:
    if metric is None:
        refuse(tree, "dist_metric is None")
    try:
        metric._validate_data(data)
    except ValueError as error:
        refuse(tree, f"dist_metric does not fit its data: {error}")
    check_metric(metric)


def check_metric(metric: Any) -> None:
    """A distance metric with a matrix: it must be square, and a vector must have as many entries."""
    vector, matrix = (np.asarray(part) for part in metric.__getstate__()[1:3])
    if vector.ndim != 1 or matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1]:
        refuse(metric, f"matrix has the shape {matrix.shape}")


def check_neighbors(estimator: Any) -> None:
    """An estimator that searches what it was fitted with: the rows, the tree over them, and their labels."""
    state = vars(estimator)
    rows, tree = state.get("_fit_X"), state.get("_tree")
    if rows is None:
        return
    shape: tuple[int, ...] = getattr(rows, "shape", ())
    if len(shape) != 2:
        refuse(estimator, f"_fit_X is {brief(rows)}, not a table")
    check_count(estimator, "n_samples_fit_", state.get("n_samples_fit_"), shape[0])
    check_count(estimator, "n_features_in_", state.get("n_features_in_"), shape[1])
    if tree is not None and np.asarray(tree.data).shape != shape:
        refuse(estimator, f"_tree has other rows than _fit_X, which is {shape}")
    if "_y" in state and "classes_" in state:
        _check_labels(estimator, state, shape[0])


def _check_labels(estimator: Any, state: dict[str, Any], rows: int) -> None:
    labels, classes = state["_y"], state["classes_"]
    if isinstance(labels, np.ndarray) and labels.dtype.kind in "iu" and labels.ndim in (1, 2):
        if len(labels) != rows:
            refuse(estimator, f"_y has {len(labels)} labels for {rows} rows")
        kinds = classes if isinstance(classes, list) else [classes]
        columns = labels.reshape(rows, -1)
        if columns.shape[1] != len(kinds):
            refuse(estimator, f"_y has {columns.shape[1]} columns where classes_ has {len(kinds)}")
        for column, values in zip(columns.T, kinds, strict=True):
            check_inside(estimator, "_y", column, 0, len(values) - 1)
    elif not isinstance(labels, native_class("scipy.sparse._base", "_spbase")):
        refuse(estimator, f"_y is {brief(labels)}, not a list of labels")
