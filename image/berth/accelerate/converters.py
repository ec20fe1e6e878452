"""Converters of our own for skl2onnx: every ensemble of trees as one node in double precision."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import numpy as np

from berth.accelerate.ensembles import Ensemble, describe_ensemble, ensemble_classes
from berth.accelerate.graph import ML, ML_TOLD, Graph
from berth.accelerate.isolation import convert_isolation, shape_isolation
from berth.accelerate.linear import convert_linear, linear_classes
from berth.accelerate.preparing import preparing_classes
from berth.accelerate.refusal import Refusal
from berth.accelerate.trees import MOST_NODES, Tree, constant_part, count_nodes, encode_trees, number_leaves
from berth.tensors import Array

# (scope, operator, container) -> None, as skl2onnx calls it
Converter: TypeAlias = Callable[[Any, Any, Any], None]

_SUM = 1


def _integers(encoded: dict[str, Array], graph: dict[str, Any]) -> None:
    for name, values in encoded.items():
        if name in graph:
            continue
        graph[name] = values.astype(np.int64).tolist()


def tree_attributes(trees: Sequence[Tree], targets: int) -> dict[str, Any] | None:
    """The TreeEnsemble node's attributes as onnx takes them; None where nothing is to be looked up."""
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
    _integers(encoded, attributes)
    if not encoded["nodes_missing_value_tracks_true"].any():
        del attributes["nodes_missing_value_tracks_true"]
    return attributes


def _encode_column(graph: Graph, name: str, categories: Array | None, is_text: bool) -> str:
    """One column as the trees see it: a category's number, NaN for an unknown one."""
    if categories is None:
        return graph.to_double(name)
    known = [value for value in categories.tolist() if value is not None and value == value]
    keys = np.array(known, object if is_text else np.float64)
    source = name if is_text else graph.to_double(name)
    return graph.label_encoder(source, keys, np.arange(len(known), dtype=np.float64), np.nan)


def _matrix(graph: Graph, operator: Any, trees: Ensemble) -> str:
    """The trees' input: one matrix of doubles, its columns in the trees' order."""
    from skl2onnx.common.data_types import StringTensorType

    names = graph.columns()
    if trees.columns is None:
        matrix = graph.join([graph.to_double(name) for name in names])
        return graph.through_float(matrix) if trees.float32 else matrix
    encoded = []
    for place, column in enumerate(trees.columns):
        is_text = len(names) > 1 and isinstance(operator.inputs[column].type, StringTensorType)
        one = names[column] if len(names) > 1 else graph.apply("Gather", names[0], graph.constant([column]), axis=1)
        encoded.append(_encode_column(graph, one, trees.categories.get(place), is_text))
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
    from onnx import TensorProto

    numbered, values = number_leaves(trees, targets)
    if not numbered:
        return _zeros(graph, matrix, targets)
    leaves = graph.apply("Cast", _search(graph, matrix, numbered, len(numbered)), to=TensorProto.INT64)
    rows = graph.apply("Gather", graph.constant(values), leaves, axis=0)
    return graph.apply("ReduceSum", rows, graph.constant(np.array([1])), keepdims=0)


def put_scores(graph: Graph, operator: Any, trees: Ensemble) -> str:
    """The sums of the leaves, with the base and the divisor."""
    if (nodes := count_nodes(trees.trees)) > MOST_NODES:
        raise ValueError(f"{nodes} nodes are more than {MOST_NODES}")
    matrix, targets = _matrix(graph, operator, trees), len(trees.base)
    sums = _look_up if any(len(tree.targets) > 1 for tree in trees.trees) else _search
    scores = sums(graph, matrix, trees.trees, targets)
    if (base := trees.base + constant_part(trees.trees, targets)).any():
        scores = graph.apply("Add", scores, graph.constant(base[None, :]))
    if trees.divisor != 1.0:
        scores = graph.apply("Div", scores, graph.constant(np.array([trees.divisor])))
    return scores


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
    from onnx import TensorProto

    if rule == "argmax":
        index = graph.apply("ArgMax", scores, axis=1, keepdims=0, select_last_index=0)
    else:
        compare = "GreaterOrEqual" if rule == "at_least_zero" else "Greater"
        flat = graph.apply("Reshape", scores, graph.constant(np.array([-1])))
        second = graph.apply(compare, flat, graph.constant(np.array([0.0])))
        index = graph.apply("Cast", second, to=TensorProto.INT64)
    graph.apply("Gather", graph.constant(label_values(classes)), index, into=into, axis=0)


def convert_ensemble(scope: Any, operator: Any, container: Any) -> None:
    """Any ensemble that `describe_ensemble` reads; what it does not read goes the way of skl2onnx."""
    from skl2onnx.common._registration import get_converter

    estimator = operator.raw_operator
    trees = describe_ensemble(estimator)
    if isinstance(trees, Refusal):
        get_converter(operator.type)(scope, operator, container)
        return
    graph = Graph(scope, operator, container)
    scores = put_scores(graph, operator, trees)
    if hasattr(estimator, "classes_"):
        put_labels(graph, scores, trees.rule, estimator.classes_, graph.output(0))
        put_probabilities(graph, scores, trees.link, graph.output(1))
    else:
        graph.apply("Exp" if trees.link == "exp" else "Identity", scores, into=graph.output(0))


def shape_ensemble(operator: Any) -> None:
    """The types of the outputs: labels and probabilities, or values."""
    from skl2onnx.common.data_types import DoubleTensorType, Int64TensorType, StringTensorType

    estimator = operator.raw_operator
    if not hasattr(estimator, "classes_"):
        operator.outputs[0].type = DoubleTensorType([None, getattr(estimator, "n_outputs_", 1)])
        return
    kinds = {"O": StringTensorType, "i": Int64TensorType, "f": DoubleTensorType}
    operator.outputs[0].type = kinds[label_values(estimator.classes_).dtype.kind]([None])
    operator.outputs[1].type = DoubleTensorType([None, len(estimator.classes_)])


def converters() -> tuple[dict[type, Converter], dict[type, Callable[[Any], None]]]:
    """What is told to skl2onnx: converters and shapes by class."""
    from sklearn.ensemble import IsolationForest

    classes = ensemble_classes()
    functions: dict[type, Converter] = dict.fromkeys(classes, convert_ensemble)
    shapes: dict[type, Callable[[Any], None]] = dict.fromkeys(classes, shape_ensemble)
    for kind in linear_classes():
        functions[kind], shapes[kind] = convert_linear, shape_ensemble
    for kind, function, shape in preparing_classes():
        functions[kind], shapes[kind] = function, shape
    functions[IsolationForest], shapes[IsolationForest] = convert_isolation, shape_isolation
    return functions, shapes
