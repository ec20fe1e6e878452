"""From scores to probabilities and labels, with scikit-learn's own rules for ties."""

from __future__ import annotations

import numpy as np

from berth.accelerate.graph import Graph
from berth.tensors.arrays import Array


def put_probabilities(graph: Graph, scores: str, link: str, into: str) -> None:
    """What the scores mean for each class."""
    if link == "identity":
        graph.apply("Identity", scores, into=into)
    elif link == "softmax":
        graph.apply("Softmax", scores, into=into, axis=1)
    else:
        doubled = graph.apply("Mul", scores, graph.constant(np.array([2.0]))) if link == "sigmoid2" else scores
        second = graph.apply("Sigmoid", doubled)
        first = graph.apply("Sub", graph.constant(np.array([1.0])), second)
        graph.apply("Concat", first, second, into=into, axis=1)


def label_values(classes: Array) -> Array:
    """Classes as ONNX can hold them: strings, whole numbers (truths too) or doubles."""
    if classes.dtype.kind in "OUS":
        return classes.astype(object)
    whole = classes.dtype.kind in "biu" or bool(np.all(classes == np.floor(classes)))
    return classes.astype(np.int64 if whole else np.float64)


def put_labels(graph: Graph, scores: str, rule: str, classes: Array, into: str) -> None:
    """The class that the scores choose; of equal ones the first."""
    if rule == "argmax":
        index = graph.apply("ArgMax", scores, axis=1, keepdims=0, select_last_index=0)
    else:
        compare = "GreaterOrEqual" if rule == "at_least_zero" else "Greater"
        flat = graph.apply("Reshape", scores, graph.constant(np.array([-1])))
        second = graph.apply(compare, flat, graph.constant(np.array([0.0])))
        index = graph.cast(second, "INT64")
    graph.apply("Gather", graph.constant(label_values(classes)), index, into=into, axis=0)
