"""Fitted decision trees as plain arrays, and many of them as the attributes of one ONNX TreeEnsemble node."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from berth.tensors.arrays import Array

LEQ = 0
MEMBER = 6
# Beyond this, making the file would take gigabytes of memory.
MOST_NODES = 5_000_000


@dataclass(frozen=True)
class Tree:
    """One tree, node by node; `left` is where a value goes that is <= the split, or a member of the set.

    `values` counts at leaves alone: a row for each node, and a column for each of `targets`.
    """

    feature: Array
    split: Array
    left: Array
    right: Array
    missing_left: Array
    values: Array
    targets: tuple[int, ...]
    members: dict[int, tuple[int, ...]]  # of the nodes that test for membership

    @property
    def leaf(self) -> Array:
        """Which nodes are leaves."""
        found: Array = self.left < 0
        return found


def read_tree(tree: Any) -> Tree:
    """scikit-learn's own tree structure; one column of values for each class or target."""
    values = tree.value
    columns = np.asarray(values[:, 0, :] if values.shape[1] == 1 else values[:, :, 0], np.float64)
    return Tree(
        tree.feature.astype(np.int64),
        tree.threshold.astype(np.float64),
        tree.children_left.astype(np.int64),
        tree.children_right.astype(np.int64),
        np.asarray(tree.missing_go_to_left, bool),
        columns,
        tuple(range(columns.shape[1])),
        {},
    )


def with_features(tree: Tree, features: Sequence[int]) -> Tree:
    """A tree that saw some columns only, in terms of all of them."""
    return replace(tree, feature=np.where(tree.leaf, -1, np.asarray(features)[tree.feature]))


@dataclass(frozen=True)
class _Split:
    """Node numbers in ONNX, where inner nodes and leaves are counted apart."""

    inner: Array
    leaves: Array
    number: Array


def _count_apart(tree: Tree) -> _Split:
    leaf = tree.leaf
    number = np.where(leaf, np.cumsum(leaf), np.cumsum(~leaf)) - 1
    return _Split(np.flatnonzero(~leaf), np.flatnonzero(leaf), number)


def has_pure_leaves(tree: Tree) -> bool:
    """Whether each leaf says something in one column at most, as in the tree of a classifier that is fully grown."""
    return bool((np.count_nonzero(tree.values[tree.leaf], axis=1) <= 1).all())


def _copies(trees: Sequence[Tree]) -> Iterator[tuple[Tree, Array]]:
    """Trees, and a column for each of their leaves, which has one target in ONNX.

    A tree comes once where its leaves are pure, else once for each column that they say anything in.
    """
    for tree in trees:
        if len(tree.left) == 1:
            continue
        says = tree.values[tree.leaf] != 0
        if has_pure_leaves(tree):
            yield tree, np.argmax(says, axis=1)
        else:
            for column in np.flatnonzero(says.any(axis=0)).tolist():
                yield tree, np.full(len(says), column)


def constant_part(trees: Sequence[Tree], targets: int) -> Array:
    """What trees of a single leaf add to every row: ONNX has no tree without a split."""
    found = np.zeros(targets)
    for tree in trees:
        if len(tree.left) == 1:
            found[list(tree.targets)] += tree.values[0]
    return found


def number_leaves(trees: Sequence[Tree], targets: int) -> tuple[list[Tree], Array]:
    """Trees that give the number of their leaf, each as a target of its own; and a row of values for each number.

    Leaves of many targets are looked up so, where copies of the trees would be searched as often as there are targets.
    """
    numbered: list[Tree] = []
    rows = [np.zeros((1, targets))]  # a tree whose leaves were all of number zero would say nothing
    count = 1
    for tree in trees:
        leaf = tree.leaf
        if len(leaf) == 1:
            continue
        numbers = np.where(leaf, np.cumsum(leaf) - 1 + count, 0).astype(np.float64)
        numbered.append(replace(tree, values=numbers[:, None], targets=(len(numbered),)))
        values = np.zeros((int(leaf.sum()), targets))
        values[:, list(tree.targets)] = tree.values[leaf]
        rows.append(values)
        count += len(values)
    return numbered, np.concatenate(rows)


def _encode_members(trees: Sequence[tuple[Tree, Array]]) -> Array:
    """The sets in node order, a NaN after each."""
    flat: list[float] = []
    for tree, _ in trees:
        for node in sorted(tree.members):
            flat += [*map(float, tree.members[node]), np.nan]
    return np.array(flat, np.float64)


def count_nodes(trees: Sequence[Tree]) -> int:
    """How many nodes all trees have."""
    return sum(len(tree.left) for tree in trees)


def encode_trees(trees: Sequence[Tree]) -> dict[str, Array] | None:
    """The node's attributes as arrays, by name; None where no tree has a split."""
    copies = list(_copies(trees))
    if not copies:
        return None
    columns: dict[str, list[Array]] = {}

    def put(name: str, values: Array) -> None:
        columns.setdefault(name, []).append(values)

    nodes = leaves = 0
    for tree, leaf_columns in copies:
        split = _count_apart(tree)
        put("tree_roots", np.array([nodes]))
        put("nodes_featureids", tree.feature[split.inner])
        put("nodes_splits", tree.split[split.inner])
        put("nodes_modes", np.array([MEMBER if node in tree.members else LEQ for node in split.inner.tolist()]))
        put("nodes_missing_value_tracks_true", tree.missing_left[split.inner])
        for side, way in ((tree.left, "true"), (tree.right, "false")):
            after = side[split.inner]
            put(f"nodes_{way}leafs", tree.leaf[after])
            put(f"nodes_{way}nodeids", split.number[after] + np.where(tree.leaf[after], leaves, nodes))
        put("leaf_targetids", np.asarray(tree.targets)[leaf_columns])
        put("leaf_weights", tree.values[split.leaves, leaf_columns])
        nodes += len(split.inner)
        leaves += len(split.leaves)
    encoded = {name: np.concatenate(parts) for name, parts in columns.items()}
    if (members := _encode_members(copies)).size:
        encoded["membership_values"] = members
    return encoded
