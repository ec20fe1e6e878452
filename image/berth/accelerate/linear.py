"""Converters of our own for linear classifiers: skl2onnx gets some wrong in double precision, others in more nodes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from berth.accelerate.graph import Graph
from berth.accelerate.labels import put_labels, put_probabilities
from berth.loaders.legacy.meanings import former_class


def _decision(graph: Graph, model: Any) -> str:
    matrix = graph.join([graph.to_double(name) for name in graph.columns()])
    coefficients = np.atleast_2d(np.asarray(model.coef_, np.float64))
    product = graph.apply("MatMul", matrix, graph.constant(np.ascontiguousarray(coefficients.T)))
    return graph.apply(
        "Add",
        product,
        graph.constant(np.broadcast_to(np.asarray(model.intercept_, np.float64), (1, len(coefficients))).copy()),
    )


def _one_vs_rest(graph: Graph, decision: str, into: str) -> None:
    """Each class's own probability, divided by their sum; all alike where every one is zero."""
    each = graph.apply("Sigmoid", decision)
    total = graph.apply("ReduceSum", each, graph.constant([1]), keepdims=1)
    none = graph.apply("Equal", total, graph.constant(np.array([0.0])))
    each = graph.apply("Where", none, graph.constant(np.array([1.0])), each)
    total = graph.apply("ReduceSum", each, graph.constant([1]), keepdims=1)
    graph.apply("Div", each, total, into=into)


def convert_linear(scope: Any, operator: Any, container: Any) -> None:
    """A linear classifier: the class of the highest score, and probabilities for the logistic loss."""
    graph, model = Graph(scope, operator, container), operator.raw_operator
    decision, several = _decision(graph, model), len(model.classes_) > 2
    if getattr(model, "loss", "") == "modified_huber":
        raise ValueError("loss='modified_huber' cannot be expressed exactly in ONNX")
    put_labels(graph, decision, "argmax" if several else "above_zero", model.classes_, graph.output(0))
    if not hasattr(model, "predict_proba"):
        put_probabilities(graph, decision, "identity", graph.output(1))
    elif getattr(model, "former_link", "") == "softmax":
        put_probabilities(graph, decision, "sigmoid2", graph.output(1))
    elif getattr(model, "former_link", "") == "ovr":
        _one_vs_rest(graph, decision, graph.output(1))
    elif not several:
        put_probabilities(graph, decision, "sigmoid", graph.output(1))
    elif type(model).__name__.startswith("Logistic"):
        put_probabilities(graph, decision, "softmax", graph.output(1))
    else:
        _one_vs_rest(graph, decision, graph.output(1))


def linear_classes() -> Sequence[type]:
    """The classifiers that `convert_linear` reads."""
    from sklearn import linear_model, svm

    names = (
        "LogisticRegression",
        "LogisticRegressionCV",
        "PassiveAggressiveClassifier",
        "Perceptron",
        "RidgeClassifier",
        "RidgeClassifierCV",
        "SGDClassifier",
    )
    former = (former_class("FormerLogisticRegression"), former_class("FormerLogisticRegressionCV"))
    return (*(getattr(linear_model, name) for name in names), svm.LinearSVC, *former)
