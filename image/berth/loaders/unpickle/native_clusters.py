"""Clusterers that compare rows with centers in compiled code, with the widths that the file gives."""

from __future__ import annotations

from typing import Any

import numpy as np

from berth.loaders.unpickle.native_refusals import (
    brief,
    check_count,
    check_dimensions,
    check_kind,
    check_whole,
    refuse,
)

# More threads than any machine has: the OpenMP library ends the process that requests too many.
# Set to 1 where the model is served (loaders/fitted.py).
_MAX_THREADS = 2**16


def check_k_means(clusterer: Any) -> None:
    """KMeans, MiniBatchKMeans and BisectingKMeans. Raises UnsafeArtifact."""
    state = vars(clusterer)
    if "cluster_centers_" not in state or "_n_threads" not in state:
        return  # without _n_threads, as before version 0.23, a prediction raises AttributeError
    centers = state["cluster_centers_"]
    check_dimensions(clusterer, "cluster_centers_", centers, 2, "f")
    check_count(clusterer, "n_features_in_", state.get("n_features_in_"), centers.shape[1])
    if not len(centers):
        refuse(clusterer, "cluster_centers_ is empty")
    check_whole(clusterer, "_n_threads", state["_n_threads"], 1, _MAX_THREADS)
    if state.get("_bisecting_tree") is not None:
        _check_halves(clusterer, state["_bisecting_tree"], centers)


def _check_halves(clusterer: Any, root: Any, centers: Any) -> None:
    """The tree of BisectingKMeans: every center as wide as a row, and no node twice."""
    waiting, seen = [root], set()
    while waiting:
        node = waiting.pop()
        check_kind(clusterer, "_bisecting_tree", node, type(root))
        if id(node) in seen:
            refuse(clusterer, "_bisecting_tree has a node with two parents")
        seen.add(id(node))
        inner = vars(node)
        center = inner.get("center")
        if not isinstance(center, np.ndarray) or center.shape != centers.shape[1:] or center.dtype != centers.dtype:
            refuse(clusterer, f"_bisecting_tree has the center {brief(center)} for rows of {centers.shape[1]} numbers")
        if inner.get("left") is not None or inner.get("right") is not None:
            waiting += [inner.get("left"), inner.get("right")]


def check_birch(clusterer: Any) -> None:
    """Birch: one squared norm for each center."""
    state = vars(clusterer)
    if "_subcluster_norms" not in state:
        return
    centers, norms = state.get("subcluster_centers_"), state["_subcluster_norms"]
    check_dimensions(clusterer, "subcluster_centers_", centers, 2, "f")
    if not isinstance(norms, np.ndarray) or norms.shape != centers.shape[:1]:
        refuse(clusterer, f"_subcluster_norms is {brief(norms)} for {len(centers)} centers")
