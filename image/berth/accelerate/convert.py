"""From a fitted estimator to ONNX in double precision, by skl2onnx and by converters of our own."""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

from berth.accelerate.graph import ML, ML_MEANT, ML_TOLD
from berth.accelerate.refusal import Refusal, one_line, step_name
from berth.accelerate.session import META
from berth.loaders.fitted import walk_fitted
from berth.tensors.arrays import TensorSpec

_OPSETS = {"": 18, ML: ML_TOLD}


def _initial_types(inputs: Sequence[TensorSpec]) -> list[tuple[str, Any]]:
    from skl2onnx.common.data_types import DoubleTensorType, StringTensorType

    def kind(spec: TensorSpec) -> Any:
        shape = [None, spec.shape[1] if len(spec.shape) == 2 else 1]
        return StringTensorType(shape) if spec.datatype == "BYTES" else DoubleTensorType(shape)

    return [(spec.name, kind(spec)) for spec in inputs]


def unwrap(estimator: Any) -> Any:
    """What predicts inside a finished search for parameters."""
    from sklearn.model_selection._search import BaseSearchCV

    while isinstance(estimator, BaseSearchCV):
        estimator = estimator.best_estimator_
    return estimator


def _last(estimator: Any) -> Any:
    from sklearn.pipeline import Pipeline

    while isinstance(estimator, Pipeline):
        estimator = estimator.steps[-1][1]
    return estimator


def _options(estimator: Any) -> dict[int, dict[str, Any]]:
    from sklearn.base import is_classifier

    last = _last(estimator)
    # skl2onnx knows no such option for LinearSVC, and makes no map of its scores.
    if not is_classifier(last) or type(last).__name__ == "LinearSVC":
        return {}
    return {id(last): {"zipmap": False}}


def _name_inputs(graph: Any, names: Sequence[str]) -> None:
    """Give the inputs their own names back: skl2onnx makes identifiers of "Annual Income (k$)" and the like."""
    own = {node.name: name for node, name in zip(graph.input, names, strict=True)}
    for node in graph.input:
        node.name = own[node.name]
    for node in graph.node:
        for at, name in enumerate(node.input):
            node.input[at] = own.get(name, name)


def _drop_unread(graph: Any) -> None:
    """Remove the inputs that no node reads: the columns that no part of the estimator uses."""
    read = {name for node in graph.node for name in node.input}
    for at in reversed(range(len(graph.input))):
        if graph.input[at].name not in read:
            del graph.input[at]


def _convert(estimator: Any, inputs: Sequence[TensorSpec]) -> Any:
    from skl2onnx import convert_sklearn

    from berth.accelerate.converters import converters
    from berth.accelerate.preparing import encoder_parsers

    functions, shapes = converters()
    for part in walk_fitted(estimator):
        if type(part).__name__ == "VotingClassifier":
            part.flatten_transform = False  # changes `transform` alone; skl2onnx refuses the other shape
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = convert_sklearn(
            estimator,
            "berth",
            _initial_types(inputs),
            target_opset=_OPSETS,
            options=_options(estimator),
            custom_conversion_functions=functions,
            custom_shape_calculators=shapes,
            custom_parsers=encoder_parsers(),
        )
    _name_inputs(model.graph, [spec.name for spec in inputs])
    _drop_unread(model.graph)
    for opset in model.opset_import:
        if opset.domain == ML:
            opset.version = ML_MEANT
    return model


def convert(estimator: Any, inputs: Sequence[TensorSpec]) -> Any | Refusal:
    """The ONNX model for a fitted estimator, as an object of the onnx library."""
    from skl2onnx.common.exceptions import MissingShapeCalculator

    name = step_name("", _last(unwrap(estimator)))
    try:
        return _convert(unwrap(estimator), inputs)
    except MissingShapeCalculator:
        return Refusal(name, "skl2onnx has no converter for it")
    except Exception as error:  # a converter may raise anything for what it does not know: any error means no
        return Refusal(name, f"it cannot be converted to ONNX: {one_line(error)}")


def encode_model(model: Any, meta: Mapping[str, Any]) -> bytes:
    """The file's bytes, with what Berth must know to serve it."""
    del model.metadata_props[:]
    entry = model.metadata_props.add()
    entry.key, entry.value = META, json.dumps(meta)
    model.producer_name, model.doc_string = "berth", ""
    encoded: bytes = model.SerializeToString(deterministic=True)
    return encoded
