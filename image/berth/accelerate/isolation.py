"""IsolationForest as one node: the depth at which each tree leaves a row alone, and the label that follows."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from berth.accelerate.ensembles import Ensemble
from berth.accelerate.graph import Graph
from berth.accelerate.labels import put_labels
from berth.accelerate.scores import put_scores
from berth.accelerate.tree_arrays import Tree, read_tree, with_features


def _depths(forest: Any) -> list[Tree]:
    """The trees with the depth of each leaf, and what a leaf of several rows would have gone on."""
    members = zip(
        forest.estimators_,
        forest.estimators_features_,
        forest._decision_path_lengths,
        forest._average_path_length_per_tree,
        strict=True,
    )
    return [
        with_features(replace(read_tree(member.tree_), values=(depths + more - 1.0)[:, None], targets=(0,)), features)
        for member, features, depths, more in members
    ]


def convert_isolation(scope: Any, operator: Any, container: Any) -> None:
    """The label -1 for rows that are alone sooner than `offset_` says, else 1; and the score that was compared."""
    from sklearn.ensemble._iforest import _average_path_length

    graph, forest = Graph(scope, operator, container), operator.raw_operator
    most = float(_average_path_length([forest._max_samples])[0]) * len(forest.estimators_)
    if most == 0:
        raise ValueError("it was fitted on one row")
    shares = put_scores(graph, operator, Ensemble(tuple(_depths(forest)), np.zeros(1), divisor=-most))
    alone = graph.apply("Neg", graph.apply("Pow", graph.constant(np.array([2.0])), shares))
    score = graph.apply("Sub", alone, graph.constant(np.array([forest.offset_], np.float64)), into=graph.output(1))
    put_labels(graph, score, "at_least_zero", np.array([-1, 1]), graph.output(0))


def shape_isolation(operator: Any) -> None:
    """Labels and scores."""
    from skl2onnx.common.data_types import DoubleTensorType, Int64TensorType

    operator.outputs[0].type = Int64TensorType([None])
    operator.outputs[1].type = DoubleTensorType([None, 1])
