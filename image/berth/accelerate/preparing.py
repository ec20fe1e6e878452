"""Converters of our own for steps that prepare columns: skl2onnx computes these in float32, or not at all."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from berth.accelerate.graph import Graph
from berth.accelerate.session import MISSING
from berth.tensors.arrays import Array

_MOST_EXACT = 2.0**53


def is_text(variable: Any) -> bool:
    """Whether one of an operator's inputs is strings."""
    from skl2onnx.common.data_types import StringTensorType

    return isinstance(variable.type, StringTensorType)


def _columns(graph: Graph, operator: Any) -> list[tuple[str, bool]]:
    """The operator's columns one by one, and whether they are strings."""
    names, count = graph.columns(), operator.raw_operator.n_features_in_
    if len(names) == count:
        return [(name, is_text(variable)) for name, variable in zip(names, operator.inputs, strict=True)]
    if len(names) > 1:
        raise ValueError(f"{count} columns come as {len(names)} tensors")
    text = is_text(operator.inputs[0])
    return [(graph.apply("Gather", names[0], graph.constant([at]), axis=1), text) for at in range(count)]


def _is_missing(value: Any) -> bool:
    return value is None or type(value).__name__ == "NAType" or value != value


def _split_missing(categories: Array, text: bool) -> tuple[list[Any], bool]:
    """The categories that are values, as ONNX compares them, and whether missing is one as well."""
    values = categories.tolist()
    known = [value for value in values if not _is_missing(value)]
    if text != all(isinstance(value, str) for value in known):
        raise ValueError(f"its categories {known[:3]!r} are of another kind than its column")
    if not text and any(abs(value) > _MOST_EXACT for value in known):
        raise ValueError("its categories are larger than a double holds exactly")
    if len(values) - len(known) > 1 or (len(known) < len(values) and not _is_missing(values[-1])):
        raise ValueError("it knows several kinds of missing values")
    return known, len(known) < len(values)


def _codes(graph: Graph, name: str, categories: Array, text: bool, missing: float, unknown: float) -> str:
    """The number of each value's category, `missing` where there is no value, `unknown` for any other."""
    known, has_missing = _split_missing(categories, text)
    codes = list(map(float, range(len(known))))
    if not text:
        name = graph.to_double(name)
        found = graph.label_encoder(name, np.array(known, np.float64), np.array(codes), unknown)
        if not has_missing:
            return found
        return graph.apply("Where", graph.apply("IsNaN", name), graph.constant(np.array([missing])), found)
    if has_missing:
        known, codes = [*known, MISSING], [*codes, missing]
    return graph.label_encoder(name, np.array(known, object), np.array(codes), unknown)


def _check_encoder(encoder: Any) -> None:
    if encoder._infrequent_enabled:
        raise ValueError("it joins infrequent categories")
    if np.dtype(encoder.dtype) != np.float64:
        raise ValueError(f"it makes {np.dtype(encoder.dtype)}")


def convert_one_hot(scope: Any, operator: Any, container: Any) -> None:
    """OneHotEncoder: a column of 0 or 1 for each category that is not dropped."""
    graph, encoder = Graph(scope, operator, container), operator.raw_operator
    _check_encoder(encoder)
    hot = []
    for at, (name, text) in enumerate(_columns(graph, operator)):
        size = len(encoder.categories_[at])
        codes = _codes(graph, name, encoder.categories_[at], text, float(size - 1), -1.0)
        dropped = None if encoder.drop_idx_ is None else encoder.drop_idx_[at]
        kept = np.array([float(code) for code in range(size) if code != dropped])
        if kept.size:
            hot.append(graph.to_double(graph.apply("Equal", codes, graph.constant(kept[None, :]))))
    graph.apply("Concat", *hot, into=graph.output(0), axis=1)


def convert_ordinal(scope: Any, operator: Any, container: Any) -> None:
    """OrdinalEncoder: the number of each value's category."""
    graph, encoder = Graph(scope, operator, container), operator.raw_operator
    _check_encoder(encoder)
    # Where unknown values are errors they never come here: the limits refuse them.
    unknown = np.nan if encoder.unknown_value is None else float(encoder.unknown_value)
    encoded = [
        _codes(graph, name, encoder.categories_[at], text, float(encoder.encoded_missing_value), unknown)
        for at, (name, text) in enumerate(_columns(graph, operator))
    ]
    graph.apply("Concat", *encoded, into=graph.output(0), axis=1)


def _gaps(graph: Graph, name: str, missing: Any, text: bool) -> str:
    """Where a column has no value."""
    if text:
        mark = MISSING if _is_missing(missing) else str(missing)
        return graph.cast(graph.label_encoder(name, np.array([mark], object), np.array([1]), 0), "BOOL")
    if _is_missing(missing):
        return graph.apply("IsNaN", name)
    return graph.apply("Equal", name, graph.constant(np.array([float(missing)])))


def _fill_each(graph: Graph, operator: Any, imputer: Any) -> tuple[list[str], list[str]]:
    """The columns one by one without their gaps, and where the gaps are."""
    filled, gaps = [], []
    for (name, text), statistic in zip(_columns(graph, operator), imputer.statistics_.tolist(), strict=True):
        column = name if text else graph.to_double(name)
        gaps.append(_gaps(graph, column, imputer.missing_values, text))
        value = np.array([statistic], object if text else np.float64)
        filled.append(graph.apply("Where", gaps[-1], graph.constant(value), column))
    marked = [] if imputer.indicator_ is None else [gaps[at] for at in imputer.indicator_.features_.tolist()]
    return filled, marked


def _fill_all(graph: Graph, imputer: Any) -> tuple[list[str], list[str]]:
    """A matrix of numbers at once: there may be tens of thousands of columns."""
    matrix = graph.to_double(graph.columns()[0])
    gaps = _gaps(graph, matrix, imputer.missing_values, text=False)
    filled = graph.apply("Where", gaps, graph.constant(imputer.statistics_.astype(np.float64)[None, :]), matrix)
    if imputer.indicator_ is None:
        return [filled], []
    places = graph.constant(np.asarray(imputer.indicator_.features_, np.int64))
    return [filled], [graph.apply("Gather", gaps, places, axis=1)]


def convert_imputer(scope: Any, operator: Any, container: Any) -> None:
    """SimpleImputer: the statistic where there is no value."""
    graph, imputer = Graph(scope, operator, container), operator.raw_operator
    if any(_is_missing(value) for value in imputer.statistics_.tolist()):
        raise ValueError("it drops a column that had no values")
    whole = len(graph.columns()) == 1 and not is_text(operator.inputs[0])
    filled, marked = _fill_all(graph, imputer) if whole else _fill_each(graph, operator, imputer)
    filled += [graph.to_double(gap) for gap in marked]
    graph.apply("Concat", *filled, into=graph.output(0), axis=1)


def _factors(powers: Array) -> Array:
    """Each term as columns to multiply; the number after the last column stands for one."""
    width = max(int(powers.sum(axis=1).max()), 1)
    factors = np.full((len(powers), width), powers.shape[1])
    for term, row in enumerate(powers):
        columns = np.repeat(np.arange(len(row)), row)
        factors[term, : len(columns)] = columns
    return factors


def convert_polynomial(scope: Any, operator: Any, container: Any) -> None:
    """PolynomialFeatures: products of columns."""
    graph, features = Graph(scope, operator, container), operator.raw_operator
    columns = [graph.to_double(name) for name in graph.columns()]
    one = graph.apply("Gather", columns[0], graph.constant([0]), axis=1)
    one = graph.apply("Where", graph.apply("Equal", one, one), *[graph.constant(np.ones((1, 1)))] * 2)
    matrix = graph.join([*columns, one])
    factors = _factors(features.powers_)
    terms = [graph.apply("Gather", matrix, graph.constant(column), axis=1) for column in factors.T]
    product = terms[0]
    for term in terms[1:]:
        product = graph.apply("Mul", product, term)
    graph.apply("Identity", product, into=graph.output(0))


def parse_encoder(scope: Any, model: Any, inputs: Any, custom_parsers: Any = None) -> Any:
    """An encoder's place in the graph, with doubles as output; skl2onnx would announce float32."""
    from skl2onnx._supported_operators import _get_sklearn_operator_name
    from skl2onnx.common.data_types import DoubleTensorType

    operator = scope.declare_local_operator(_get_sklearn_operator_name(type(model)), model)
    operator.inputs = inputs
    operator.outputs.append(scope.declare_local_variable("encoded", DoubleTensorType()))
    return operator.outputs


def encoder_parsers() -> dict[type, Any]:
    """The parsers by class, as skl2onnx accepts them."""
    from sklearn.preprocessing import OneHotEncoder, OrdinalEncoder

    return {OneHotEncoder: parse_encoder, OrdinalEncoder: parse_encoder}


def shape_numbers(operator: Any) -> None:
    """The type of what these steps give: doubles."""
    from skl2onnx.common.data_types import DoubleTensorType

    operator.outputs[0].type = DoubleTensorType([None, None])


def shape_imputer(operator: Any) -> None:
    """Strings stay strings."""
    from skl2onnx.common.data_types import StringTensorType

    if is_text(operator.inputs[0]):
        operator.outputs[0].type = StringTensorType([None, operator.raw_operator.n_features_in_])
    else:
        shape_numbers(operator)


def preparing_classes() -> Sequence[tuple[type, Any, Any]]:
    """The classes, with their converter and shape."""
    from sklearn.impute import SimpleImputer
    from sklearn.preprocessing import OneHotEncoder, OrdinalEncoder, PolynomialFeatures

    return (
        (SimpleImputer, convert_imputer, shape_imputer),
        (OneHotEncoder, convert_one_hot, shape_numbers),
        (OrdinalEncoder, convert_ordinal, shape_numbers),
        (PolynomialFeatures, convert_polynomial, shape_numbers),
    )
