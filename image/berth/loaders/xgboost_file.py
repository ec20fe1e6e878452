"""XGBoost's JSON and UBJSON models, checked before the library reads them.

XGBoost follows the child and feature numbers of its trees without looking, and sizes its outputs by one number of
classes while it writes as another says.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from berth.errors import LoadError, UnsafeArtifact
from berth.loaders.document_checks import numbers_of, require, require_inside, whole
from berth.loaders.ubjson import decode_ubjson
from berth.loaders.xgboost_categories import check_category_splits, check_encoded

_MAX_FEATURES = 10_000_000
_MAX_OUTPUTS = 100_000
_NO_CHILD = -1
_PER_NODE = ("left_children", "right_children", "parents", "split_indices", "split_conditions", "default_left")


def check_xgboost(path: Path) -> Any:
    """The document's learner. Raises LoadError for what is no such document, UnsafeArtifact for numbers that would lead
    the library astray."""
    data = path.read_bytes()
    binary = data[:1] == b"{" and data[1:2] in b"iUIlL"
    try:
        document = decode_ubjson(data) if binary else json.loads(data, object_pairs_hook=_object)
    except (ValueError, RecursionError) as error:
        kind = "UBJSON" if binary else "JSON"
        raise LoadError(f"{path.name} is not an XGBoost model: it is damaged or cut short {kind} ({error})") from error
    if not isinstance(document, dict) or "learner" not in document:
        raise LoadError(f"{path.name} is not an XGBoost model: it has no learner; save it with save_model")
    try:
        _check_learner(document["learner"])
    except (LookupError, TypeError, AttributeError) as error:
        raise LoadError(
            f"{path.name} is not an XGBoost model: {error} is missing or of another type; save it again with save_model"
        ) from error
    except (ValueError, OverflowError) as error:
        raise UnsafeArtifact(
            f"{path.name} is not an XGBoost model to be loaded: it is damaged or forged ({error}); "
            "save it again with save_model"
        ) from error
    return document["learner"]


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) != len(pairs):  # of two the library may take the other
        raise ValueError("a key that is there twice")
    return made


def _check_learner(learner: Any) -> None:
    parameters = learner["learner_model_param"]
    features = whole(parameters, "num_feature", 0, _MAX_FEATURES)
    classes = whole(parameters, "num_class", 0, _MAX_OUTPUTS)
    targets = whole({"num_target": "1", **parameters}, "num_target", 1, _MAX_OUTPUTS)
    groups = max(classes, targets, 1)
    for key in ("feature_names", "feature_types"):
        found = len(learner.get(key, ()))
        require(found in (0, features), f"{key} has {found} entries for {features} features")
    softmax = learner["objective"].get("softmax_multiclass_param")
    if softmax is not None:
        require(int(softmax["num_class"]) == groups, f"the objective has another num_class than {groups}")
    base = str(parameters.get("base_score", "0")).strip("[]").split(",")
    require(len(base) in (1, groups), f"base_score has {len(base)} numbers for {groups} outputs")
    best = learner.get("attributes", {}).get("best_iteration")
    require(best is None or 0 <= int(best) < 2**31, f"best_iteration is {str(best)[:20]}")
    _check_booster(learner["gradient_booster"], features, groups)


def _check_booster(booster: Any, features: int, groups: int) -> None:
    name = booster["name"]
    if name == "gblinear":
        numbers_of(booster["model"], "weights", (features + 1) * groups)
        return
    require(name in ("gbtree", "dart"), f"the booster {str(name)[:20]!r}")
    model = booster["model"] if name == "gbtree" else booster["gbtree"]["model"]
    trees = model["trees"]
    require(isinstance(trees, list), "trees is not a list")
    count = len(trees)
    require(int(model["gbtree_model_param"]["num_trees"]) == count, f"num_trees is not {count}")
    require_inside("tree_info", numbers_of(model, "tree_info", count), 0, groups - 1)
    if "iteration_indptr" in model:
        steps = numbers_of(model, "iteration_indptr")
        require_inside("iteration_indptr", steps, 0, count)
        rises = len(steps) and steps[0] == 0 and steps[-1] == count and (np.diff(steps) >= 0).all()
        require(rises, f"iteration_indptr does not rise from 0 to {count}")
    if name == "dart":
        numbers_of(booster, "weight_drop", count)
    check_encoded(model.get("cats", {}), features)
    for number, tree in enumerate(trees):
        try:
            _check_tree(tree, features, groups)
        except ValueError as error:
            raise ValueError(f"tree {number}: {error}") from error


def _check_tree(tree: Any, features: int, groups: int) -> None:
    """Every node has one parent and the root has none, so no walk from the root comes back."""
    parameters = tree["tree_param"]
    count = whole(parameters, "num_nodes", 1, 1 << 26)
    width = whole({"size_leaf_vector": "1", **parameters}, "size_leaf_vector", 0, groups)
    left, right, _, features_of, *_ = (numbers_of(tree, key, count) for key in _PER_NODE)
    if width <= 1:
        numbers_of(tree, "base_weights", count)
    else:
        _check_vectors(tree, int((left == _NO_CHILD).sum()), count, width)
    check_category_splits(tree, count)
    for key, children in (("left_children", left), ("right_children", right)):
        require_inside(key, children, _NO_CHILD, count - 1)
    split = left != _NO_CHILD
    if width <= 1:
        require(np.array_equal(split, right != _NO_CHILD), "a node with one child")
    else:  # in a leaf the right child is the place of its vector
        require_inside("right_children of leaves", right[~split], _NO_CHILD, int((~split).sum()) - 1)
        require((right[split] != _NO_CHILD).all(), "a node with one child")
    seen = np.bincount(np.concatenate((left[split], right[split])), minlength=1)
    require(seen.max() <= 1 and seen[0] == 0, "a node with two parents, or a root with one")
    require_inside("split_indices", features_of[split], 0, features - 1)


def _check_vectors(tree: Any, leaves: int, count: int, width: int) -> None:
    """Trees of several targets: a vector for each node, or one for each leaf."""
    sizes = {count * width, leaves * width}
    for key in ("base_weights", "leaf_weights"):
        if key in tree:
            found = len(numbers_of(tree, key))
            require(found in sizes, f"{key} has {found} numbers for {count} nodes of {width} targets")
