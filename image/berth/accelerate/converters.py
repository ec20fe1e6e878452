"""Our own converters for skl2onnx, by class: ensembles of trees, linear classifiers, steps that prepare columns."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any, TypeAlias

from berth.accelerate.ensembles import describe_ensemble, ensemble_classes
from berth.accelerate.graph import Graph
from berth.accelerate.isolation import convert_isolation, shape_isolation
from berth.accelerate.labels import label_values, put_labels, put_probabilities
from berth.accelerate.linear import convert_linear, linear_classes
from berth.accelerate.preparing import preparing_classes
from berth.accelerate.refusal import Refusal
from berth.accelerate.scores import put_scores
from berth.loaders.legacy.meanings import former_class

# (scope, operator, container) -> None, as skl2onnx calls it
Converter: TypeAlias = Callable[[Any, Any, Any], None]


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


_FORMER: dict[str, Converter] = {
    "FormerAdaBoostClassifier": convert_ensemble,
    "FormerLogisticRegression": convert_linear,
    "FormerLogisticRegressionCV": convert_linear,
}


@cache
def register_former() -> None:
    """Make skl2onnx treat the classifiers as older versions meant them like today's: labels, and a matrix beside."""
    from skl2onnx import update_registered_converter
    from skl2onnx._parse import _parse_sklearn_classifier

    maps = {"zipmap": [True, False, "columns"]}
    for name, convert in _FORMER.items():
        kind = former_class(name)
        update_registered_converter(
            kind, f"Berth{name}", shape_ensemble, convert, parser=_parse_sklearn_classifier, options=maps
        )


def converters() -> tuple[dict[type, Converter], dict[type, Callable[[Any], None]]]:
    """What is passed to skl2onnx: converters and shapes by class."""
    from sklearn.ensemble import IsolationForest

    register_former()
    classes = ensemble_classes()
    functions: dict[type, Converter] = dict.fromkeys(classes, convert_ensemble)
    shapes: dict[type, Callable[[Any], None]] = dict.fromkeys(classes, shape_ensemble)
    for kind in linear_classes():
        functions[kind], shapes[kind] = convert_linear, shape_ensemble
    for kind, function, shape in preparing_classes():
        functions[kind], shapes[kind] = function, shape
    functions[IsolationForest], shapes[IsolationForest] = convert_isolation, shape_isolation
    return functions, shapes
