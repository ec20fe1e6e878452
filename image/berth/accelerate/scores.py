"""The score that an ensemble of trees gives each row: a TreeEnsemble node in double precision."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from berth.accelerate.ensembles import Ensemble
from berth.accelerate.graph import ML, ML_TOLD, Graph
from berth.accelerate.preparing import is_text
from berth.accelerate.tree_arrays import (
    MOST_NODES,
    Tree,
    constant_part,
    count_nodes,
    encode_trees,
    has_pure_leaves,
    number_leaves,
)
from berth.tensors.arrays import Array

_SUM = 1


def tree_attributes(trees: Sequence[Tree], targets: int) -> dict[str, Any] | None:
    """The TreeEnsemble node's attributes as onnx accepts them; None where nothing is to be looked up."""
    from onnx import numpy_helper

    encoded = encode_trees(trees)
    if encoded is None:
        return None
    attributes: dict[str, Any] = {
        "n_targets": targets,
        "aggregate_function": _SUM,
        "post_transform": 0,
        "nodes_splits": numpy_helper.from_array(encoded["nodes_splits"]),
        "nodes_modes": numpy_helper.from_array(encoded["nodes_modes"].astype(np.uint8)),
        "leaf_weights": numpy_helper.from_array(encoded["leaf_weights"]),
    }
    if "membership_values" in encoded:
        attributes["membership_values"] = numpy_helper.from_array(encoded["membership_values"])
    attributes |= {name: values.astype(np.int64).tolist() for name, values in encoded.items() if name not in attributes}
    if not encoded["nodes_missing_value_tracks_true"].any():
        del attributes["nodes_missing_value_tracks_true"]
    return attributes


def _encode_column(graph: Graph, name: str, categories: Array | None, text: bool) -> str:
    """One column as the trees see it: a category's number, NaN for an unknown one."""
    if categories is None:
        return graph.to_double(name)
    known = [value for value in categories.tolist() if value is not None and value == value]
    keys = np.array(known, object if text else np.float64)
    source = name if text else graph.to_double(name)
    return graph.label_encoder(source, keys, np.arange(len(known), dtype=np.float64), np.nan)


def _matrix(graph: Graph, operator: Any, trees: Ensemble) -> str:
    """The trees' input: one matrix of doubles, its columns in the trees' order."""
    names = graph.columns()
    if trees.columns is None:
        matrix = graph.join([graph.to_double(name) for name in names])
        return graph.through_float(matrix) if trees.float32 else matrix
    encoded = []
    for place, column in enumerate(trees.columns):
        text = len(names) > 1 and is_text(operator.inputs[column])
        one = names[column] if len(names) > 1 else graph.apply("Gather", names[0], graph.constant([column]), axis=1)
        encoded.append(_encode_column(graph, one, trees.categories.get(place), text))
    return graph.join(encoded)


def _zeros(graph: Graph, matrix: str, width: int) -> str:
    """A row of zeros for each row: what trees without a split add."""
    first = graph.apply("Gather", matrix, graph.constant([0]), axis=1)
    same = graph.apply("Equal", first, first)
    return graph.apply("Where", same, graph.constant(np.zeros((1, width))), graph.constant(np.zeros((1, width))))


def _search(graph: Graph, matrix: str, trees: Sequence[Tree], targets: int) -> str:
    attributes = tree_attributes(trees, targets)
    if attributes is None:
        return _zeros(graph, matrix, targets)
    return graph.apply("TreeEnsemble", matrix, domain=ML, version=ML_TOLD, **attributes)


def _look_up(graph: Graph, matrix: str, trees: Sequence[Tree], targets: int) -> str:
    """The sum of the rows of values that the trees' leaves stand for, added tree by tree as scikit-learn does."""
    numbered, values = number_leaves(trees, targets)
    if not numbered:
        return _zeros(graph, matrix, targets)
    leaves = graph.cast(_search(graph, matrix, numbered, len(numbered)), "INT64")
    rows = graph.apply("Gather", graph.constant(values), leaves, axis=0)
    return graph.apply("ReduceSum", rows, graph.constant(np.array([1])), keepdims=0)


def put_scores(graph: Graph, operator: Any, trees: Ensemble) -> str:
    """The sums of the leaves, with the base and the divisor."""
    if (nodes := count_nodes(trees.trees)) > MOST_NODES:
        raise ValueError(f"{nodes} nodes are more than {MOST_NODES}")
    matrix, targets = _matrix(graph, operator, trees), len(trees.base)
    sums = _search if all(has_pure_leaves(tree) for tree in trees.trees) else _look_up
    scores = sums(graph, matrix, trees.trees, targets)
    if (base := trees.base + constant_part(trees.trees, targets)).any():
        scores = graph.apply("Add", scores, graph.constant(base[None, :]))
    if trees.divisor != 1.0:
        scores = graph.apply("Div", scores, graph.constant(np.array([trees.divisor])))
    return scores
