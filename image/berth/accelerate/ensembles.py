"""What scikit-learn's ensembles of trees compute: sums of leaves, and what is made of the sum."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from berth.accelerate.refusal import Refusal
from berth.accelerate.tree_arrays import Tree, read_tree, with_features
from berth.loaders.legacy.meanings import former_class
from berth.tensors.arrays import Array


@dataclass(frozen=True)
class Ensemble:
    """scores = (sum of leaves + base) / divisor; `link` makes probabilities or values of them, `rule` labels.

    Links: identity, exp, sigmoid (one score: the probability of the second class), sigmoid2 (of twice the
    score), softmax. Rules: argmax, at_least_zero, above_zero (of one score).
    """

    trees: tuple[Tree, ...]
    base: Array
    divisor: float = 1.0
    link: str = "identity"
    rule: str = "argmax"
    float32: bool = True  # the input is rounded to float32 before it is compared
    columns: tuple[int, ...] | None = None  # the input's columns in the order in which the trees count them
    categories: dict[int, Array] = field(default_factory=dict)  # by the trees' count


class _Unsupported(Exception):
    """This fitted estimator is of a kind that has no exact conversion here."""


def _plain_trees(estimators: Sequence[Any]) -> Iterator[Tree]:
    from sklearn.tree import BaseDecisionTree

    for one in estimators:
        if not isinstance(one, BaseDecisionTree):
            raise _Unsupported(f"members of the kind {type(one).__name__}")
        if one.n_outputs_ > 1 and hasattr(one, "classes_"):
            raise _Unsupported("several targets to classify")
        yield read_tree(one.tree_)


def _sum(trees: Sequence[Tree], targets: int = 0, **more: Any) -> Ensemble:
    return Ensemble(tuple(trees), np.zeros(targets or len(trees[0].targets)), **more)


def _single(estimator: Any) -> Ensemble:
    return _sum(list(_plain_trees([estimator])))


def _forest(estimator: Any) -> Ensemble:
    return _sum(list(_plain_trees(estimator.estimators_)), divisor=float(len(estimator.estimators_)))


def _bagging(estimator: Any) -> Ensemble:
    members = estimator.estimators_
    trees = [
        with_features(tree, features)
        for tree, features in zip(_plain_trees(members), estimator.estimators_features_, strict=True)
    ]
    if not hasattr(estimator, "classes_"):
        return _sum(trees, divisor=float(len(members)))
    # A member may have met some of the classes only; it numbers them as the whole does.
    trees = [
        replace(tree, targets=tuple(member.classes_.astype(int).tolist()))
        for tree, member in zip(trees, members, strict=True)
    ]
    return _sum(trees, len(estimator.classes_), divisor=float(len(members)))


def _initial(estimator: Any) -> Array:
    from sklearn.dummy import DummyClassifier, DummyRegressor

    if not isinstance(estimator.init_, (str, DummyClassifier, DummyRegressor)):
        raise _Unsupported(f"init={type(estimator.init_).__name__}")
    found: Array = estimator._raw_predict_init(np.zeros((1, estimator.n_features_in_), np.float32))[0]
    return found


def _gradient_boosting(estimator: Any) -> Ensemble:
    base = _initial(estimator)
    trees = [
        replace(tree, values=tree.values * estimator.learning_rate, targets=(target,))
        for stage in estimator.estimators_
        for target, tree in enumerate(_plain_trees(stage))
    ]
    if not hasattr(estimator, "classes_"):
        return Ensemble(tuple(trees), base)
    if len(base) > 1:
        return Ensemble(tuple(trees), base, link="softmax")
    link = "sigmoid2" if estimator.loss == "exponential" else "sigmoid"
    return Ensemble(tuple(trees), base, link=link, rule="at_least_zero")


def _members(bits: Array) -> set[int]:
    """The numbers in a bit set of 32-bit words."""
    return {32 * at + bit for at, word in enumerate(bits.tolist()) for bit in range(32) if word >> bit & 1}


# A number that no encoded category has: an empty set cannot be expressed in ONNX.
_NOBODY = 999


def _hist_tree(predictor: Any, known: dict[int, set[int]], target: int) -> Tree:
    nodes = predictor.nodes
    leaf = nodes["is_leaf"].astype(bool)
    left = np.where(leaf, -1, nodes["left"].astype(np.int64))
    right = np.where(leaf, -1, nodes["right"].astype(np.int64))
    missing_left = nodes["missing_go_to_left"].astype(bool)
    members: dict[int, tuple[int, ...]] = {}
    for at in np.flatnonzero(nodes["is_categorical"].astype(bool) & ~leaf).tolist():
        # Unknown categories go where missing ones go, so the set must be that of the other side.
        chosen = _members(predictor.raw_left_cat_bitsets[nodes["bitset_idx"][at]]) & known[nodes["feature_idx"][at]]
        if missing_left[at]:
            chosen = known[nodes["feature_idx"][at]] - chosen
            left[at], right[at], missing_left[at] = right[at], left[at], False
        members[at] = tuple(sorted(chosen)) or (_NOBODY,)
    return Tree(
        np.where(leaf, -1, nodes["feature_idx"].astype(np.int64)),
        np.where(np.isin(np.arange(len(nodes)), list(members)), 0.0, nodes["num_threshold"]),
        left,
        right,
        missing_left,
        nodes["value"].astype(np.float64)[:, None],
        (target,),
        members,
    )


def _hist_columns(estimator: Any) -> tuple[tuple[int, ...] | None, dict[int, Array]]:
    """The columns in the order in which the trees count them: categories first, encoded."""
    if estimator._preprocessor is None:
        return None, {}
    taken = estimator._preprocessor._transformer_to_input_indices
    encoder = estimator._preprocessor.named_transformers_["encoder"]
    columns = (*taken["encoder"], *taken["numerical"])
    return tuple(int(at) for at in columns), dict(enumerate(encoder.categories_))


def _hist_boosting(estimator: Any) -> Ensemble:
    base = np.atleast_1d(np.asarray(estimator._baseline_prediction, np.float64).ravel())
    columns, categories = _hist_columns(estimator)
    known = {at: {int(value) for value in estimator._bin_mapper.bin_thresholds_[at]} for at in categories}
    trees = tuple(
        _hist_tree(predictor, known, target)
        for stage in estimator._predictors
        for target, predictor in enumerate(stage)
    )
    plain = Ensemble(trees, base, float32=False, columns=columns, categories=categories)
    if hasattr(estimator, "classes_"):
        return replace(
            plain, link="softmax" if len(base) > 1 else "sigmoid", rule="argmax" if len(base) > 1 else "above_zero"
        )
    return replace(plain, link="exp" if estimator.loss in ("poisson", "gamma") else "identity")


def _votes(tree: Tree, member: Any, classes: Array, weight: float) -> Tree:
    """A tree whose leaves vote: the weight for the class they choose, a share of it against the others."""
    against = -1 / (len(classes) - 1) * weight
    chosen = member.classes_.take(np.argmax(tree.values[:, : len(member.classes_)], axis=1))
    values = np.where(chosen[:, None] == classes[None, :], weight, against)
    return replace(tree, values=values, targets=tuple(range(len(classes))))


def _former_votes(tree: Tree, member: Any, estimator: Any, weight: float) -> Tree:
    """The votes of AdaBoost before 1.6: logarithms of shares (SAMME.R), or the weight for the class alone (SAMME)."""
    classes = estimator.classes_
    shares = tree.values[:, : len(classes)]
    if estimator.former_votes == "logarithms" and np.array_equal(member.classes_, classes):
        logs = np.log(np.clip(shares, np.finfo(shares.dtype).eps, None))
        values = (len(classes) - 1) * (logs - logs.mean(axis=1, keepdims=True))
    elif estimator.former_votes == "ones":
        chosen = member.classes_.take(np.argmax(tree.values[:, : len(member.classes_)], axis=1))
        values = np.where(chosen[:, None] == classes[None, :], weight, 0.0)
    else:
        raise _Unsupported(f"votes of {estimator.former_votes}")
    if len(classes) == 2:
        # The score is the difference of the two votes, of which the link below takes twice the half.
        values = (values[:, 1:] - values[:, :1]) / 2 * np.array([-1.0, 1.0])
    return replace(tree, values=values, targets=tuple(range(len(classes))))


def _ada_boost(estimator: Any) -> Ensemble:
    classes = estimator.classes_
    weights = estimator.estimator_weights_[: len(estimator.estimators_)]
    trees = [
        _former_votes(tree, member, estimator, weight)
        if hasattr(estimator, "former_votes")
        else _votes(tree, member, classes, weight)
        for tree, member, weight in zip(
            _plain_trees(estimator.estimators_), estimator.estimators_, weights, strict=True
        )
    ]
    total = float(estimator.estimator_weights_.sum())
    if len(classes) > 2:
        # predict compares the votes, of which predict_proba takes a share: their order is the same.
        return _sum(trees, divisor=total * (len(classes) - 1), link="softmax")
    second = [replace(tree, values=tree.values[:, 1:], targets=(0,)) for tree in trees]
    return _sum(second, divisor=total, link="sigmoid2", rule="above_zero")


_KINDS: dict[str, Callable[[Any], Ensemble]] = {
    "AdaBoostClassifier": _ada_boost,
    "BaggingClassifier": _bagging,
    "BaggingRegressor": _bagging,
    "DecisionTreeClassifier": _single,
    "DecisionTreeRegressor": _single,
    "ExtraTreeClassifier": _single,
    "ExtraTreeRegressor": _single,
    "ExtraTreesClassifier": _forest,
    "ExtraTreesRegressor": _forest,
    "GradientBoostingClassifier": _gradient_boosting,
    "GradientBoostingRegressor": _gradient_boosting,
    "HistGradientBoostingClassifier": _hist_boosting,
    "HistGradientBoostingRegressor": _hist_boosting,
    "RandomForestClassifier": _forest,
    "RandomForestRegressor": _forest,
}


def ensemble_classes() -> list[type]:
    """scikit-learn's classes that `describe_ensemble` reads."""
    from sklearn import ensemble, tree

    kinds = [getattr(ensemble, name, None) or getattr(tree, name) for name in _KINDS]
    return [*kinds, former_class("FormerAdaBoostClassifier")]


def describe_ensemble(estimator: Any) -> Ensemble | Refusal:
    """The sums behind a fitted estimator of one of those classes."""
    name = type(estimator).__name__
    try:
        return _KINDS[name.removeprefix("Former")](estimator)
    except _Unsupported as error:
        return Refusal(name, f"{error} cannot be expressed exactly in ONNX")
