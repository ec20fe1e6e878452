"""Decision trees and what is made of them: scikit-learn follows their child and feature numbers without looking.

`Tree.__setstate__` checks the shapes of its arrays; what stands in them is the file's. A child outside the nodes or
a feature outside the row is read from wherever it points to, a cycle never ends, and a node with two parents makes
every walk over the tree exponential.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from berth.loaders.unpickle.native_refusals import brief, check_count, check_kind, check_whole, native_class, refuse

_BATCH_NODES = 1 << 19
_LEAF = -1


def check_trees(trees: Iterable[Any]) -> None:
    """Raise UnsafeArtifact for a Tree that does not hold together. Many trees cost about as much as one."""
    batch: list[tuple[Any, Any]] = []
    waiting = 0
    for tree in trees:
        count = tree.node_count
        if count < 1:
            refuse(tree, f"node_count is {count}: it has no nodes")
        batch.append((tree, tree.__getstate__()["nodes"]))
        waiting += count
        if waiting >= _BATCH_NODES:
            _check_nodes(batch)
            batch, waiting = [], 0
    if batch:
        _check_nodes(batch)


def _check_nodes(batch: list[tuple[Any, Any]]) -> None:
    """The nodes of all trees at once: one array, and for each node the first and the last node of its tree."""
    counts = np.array([len(nodes) for _, nodes in batch])
    # Joined as bytes: numpy concatenates records field by field, 40 times slower.
    joined = b"".join([nodes.tobytes() for _, nodes in batch])
    nodes = np.frombuffer(joined, batch[0][1].dtype)
    first = np.repeat(np.cumsum(counts) - counts, counts)
    count = np.repeat(counts, counts)
    own = np.arange(len(nodes)) - first
    left, right, feature = nodes["left_child"], nodes["right_child"], nodes["feature"]
    split = left != _LEAF
    features = np.repeat(np.array([tree.n_features for tree, _ in batch]), counts)
    good_left = ~split | ((left > own) & (left < count))
    good_right = np.where(split, (right > own) & (right < count), right == _LEAF)
    good_feature = ~split | ((feature >= 0) & (feature < features))
    for name, good in (("left_child", good_left), ("right_child", good_right), ("feature", good_feature)):
        if not good.all():
            _refuse_node(batch, counts, name, nodes[name], int(np.argmin(good)))
    children = np.concatenate((left[split] + first[split], right[split] + first[split]))
    parents = np.bincount(children, minlength=1)
    if parents.max() > 1:
        at = int(np.argmax(parents > 1))
        _refuse_node(batch, counts, "parents", parents, at)


def _refuse_node(batch: list[tuple[Any, Any]], counts: Any, name: str, values: Any, at: int) -> None:
    ends = np.cumsum(counts)
    index = int(np.searchsorted(ends, at, side="right"))
    tree = batch[index][0]
    node = at - int(ends[index] - counts[index])
    limits = f"{tree.node_count} nodes, numbered from parent to child, and {tree.n_features} features"
    refuse(tree, f"nodes[{node!r}].{name} is {values[at]}; it has {limits}")


def _tree_of(owner: object, member: object, name: str) -> Any:
    """The Tree of a decision tree, or a refusal."""
    check_kind(owner, name, member, native_class("sklearn.tree._classes", "BaseDecisionTree"))
    tree = vars(member).get("tree_")
    check_kind(member, "tree_", tree, native_class("sklearn.tree._tree", "Tree"))
    return tree


def check_decision_tree(estimator: Any) -> None:
    """A decision tree: it reads rows of n_features_in_ numbers and hands them to tree_."""
    state = vars(estimator)
    if "tree_" not in state:
        return
    tree = _tree_of(estimator, estimator, "tree_")
    check_count(estimator, "n_features_in_", state.get("n_features_in_"), tree.n_features)
    if "n_outputs_" in state:
        check_count(estimator, "n_outputs_", state["n_outputs_"], tree.n_outputs)
    if tree.n_outputs == 1 and "n_classes_" in state:
        check_count(estimator, "n_classes_", state["n_classes_"], tree.max_n_classes)
        # Regression trees of 0.20 had classes_ too: None.
        if state.get("classes_") is not None and len(state["classes_"]) != tree.max_n_classes:
            refuse(estimator, f"classes_ has {len(state['classes_'])} labels where n_classes_ is {tree.max_n_classes}")


def _members(ensemble: object, members: object) -> Iterator[Any]:
    if not isinstance(members, list):
        refuse(ensemble, f"estimators_ is {brief(members)}, not a list")
    return iter(members)


def check_forest(forest: Any) -> None:
    """A forest: it checks the width of the rows once and hands them to every tree."""
    state = vars(forest)
    if "estimators_" not in state:
        return
    width, outputs, classes = (state.get(name) for name in ("n_features_in_", "n_outputs_", "n_classes_"))
    for index, member in enumerate(_members(forest, state["estimators_"])):
        tree = _tree_of(forest, member, f"estimators_[{index}]")
        if tree.n_features != width:
            refuse(forest, f"n_features_in_ is {brief(width)} where estimators_[{index}] has {tree.n_features}")
        if outputs is not None and tree.n_outputs != outputs:
            refuse(forest, f"n_outputs_ is {brief(outputs)} where estimators_[{index}] has {tree.n_outputs}")
        if outputs == 1 and classes is not None and tree.max_n_classes != classes:
            refuse(forest, f"n_classes_ is {brief(classes)} where estimators_[{index}] has {tree.max_n_classes}")


def check_isolation_forest(forest: Any) -> None:
    """An isolation forest: each tree gets the columns that estimators_features_ names, or the whole row."""
    state = vars(forest)
    if "estimators_" not in state or "estimators_features_" not in state:
        return
    width = state.get("n_features_in_")
    check_whole(forest, "n_features_in_", width, 1, 2**31)
    whole = state.get("_max_features") == width
    chosen = state["estimators_features_"]
    for index, member in enumerate(_members(forest, state["estimators_"])):
        if index >= len(chosen):
            refuse(forest, f"estimators_features_ has {len(chosen)} entries for more estimators_")
        given = width if whole else len(chosen[index])
        check_count(member, "tree_.n_features", _tree_of(forest, member, "estimators_").n_features, int(given or 0))


def check_gradient_boosting(ensemble: Any) -> None:
    """Gradient boosting: the trees write into the columns that the first prediction has, one column a class."""
    state = vars(ensemble)
    if "estimators_" not in state:
        return
    members = state["estimators_"]
    if not isinstance(members, np.ndarray) or members.ndim != 2 or members.dtype != object or members.size == 0:
        refuse(ensemble, f"estimators_ is {brief(members)}, not a table of trees")
    width, columns = state.get("n_features_in_"), members.shape[1]
    if "n_trees_per_iteration_" in state:  # else a prediction raises AttributeError
        check_count(ensemble, "n_trees_per_iteration_", state["n_trees_per_iteration_"], columns)
    for member in members.flat:
        check_count(ensemble, "n_features_in_", width, _tree_of(ensemble, member, "estimators_").n_features)
    if "_loss" in state and "init_" in state:
        _check_first_prediction(ensemble, columns)


def _check_first_prediction(ensemble: Any, columns: int) -> None:
    """Try it: its width is that of an estimator of any kind, `init_`. It has passed its own check before."""
    try:
        shape = ensemble._raw_predict_init(np.zeros((1, ensemble.n_features_in_))).shape
    except Exception as error:  # whatever init_ is made of
        refuse(ensemble, f"init_ does not predict a row of zeros ({type(error).__name__})")
    if shape != (1, columns):
        refuse(ensemble, f"init_ returns {shape} for one row where estimators_ has {columns} columns")
