"""Small graphs as a chain of numpy's functions: for a few rows the way through onnxruntime takes longer than they do.

An output has a chain where each of its nodes reads the one before it and constants: those of linear models do, behind a
scaler or not. Called in a loop, onnxruntime computes probabilities as quickly, but not in a server, where little of it
is in the CPU's caches: with probabilities a request takes 55 us more of CPU that way, 24 to 33 us with a chain. A chain
is proven like the graph that it comes from.
"""

from __future__ import annotations

from base64 import b64decode, b64encode
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import takewhile
from math import exp
from typing import Any, TypeAlias

import numpy as np

from berth.tensors.arrays import Array

# A node's operator, and its constant if it has one, as JSON holds them.
Step: TypeAlias = tuple[str, Any]
Link: TypeAlias = Callable[[Array], Array]
Chains: TypeAlias = Callable[[Array], list[Array]]
# Of all constants of an output together; a larger model has more to compute than to call.
_MOST_BYTES = 65_536
_DTYPES = ("float64", "int64")
# Of one row; more of them are quicker in numpy.
_FEW_SCORES = 12


def _softmax(scores: Array) -> Array:
    if len(scores) == 1 and scores.size <= _FEW_SCORES:
        return _softmax_of_one(scores[0].tolist())
    shares: Array = np.exp(scores - np.maximum.reduce(scores, 1, keepdims=True))
    shares /= np.add.reduce(shares, 1, keepdims=True)
    return shares


def _softmax_of_one(scores: list[float]) -> Array:
    """As `_softmax`, in half of the time where there are few."""
    most = max(scores)
    shares = [exp(score - most) for score in scores]
    total = sum(shares)
    return np.array([[share / total for share in shares]])


def _sigmoid(scores: Array) -> Array:
    small = np.exp(-np.abs(scores))  # never too large
    return np.where(scores < 0, small, 1.0) / (small + 1.0)


_WITH_CONSTANT: dict[str, Callable[[Array], Link]] = {
    "MatMul": lambda matrix: lambda rows: np.dot(rows, matrix),
    "Add": lambda right: lambda left: left + right,
    "Sub": lambda right: lambda left: left - right,
    "Mul": lambda right: lambda left: left * right,
    "Div": lambda right: lambda left: left / right,
    "Greater": lambda right: lambda left: left > right,
    "GreaterOrEqual": lambda right: lambda left: left >= right,
    "Reshape": lambda shape: partial(np.reshape, shape=tuple(shape.tolist())),
    "Gather": lambda values: values.take,
}
_ALONE: dict[str, Link] = {
    "ArgMax": lambda scores: scores.argmax(1),
    "Cast": lambda values: values.astype(np.int64),
    "Identity": lambda values: values,
    "Sigmoid": _sigmoid,
    "Softmax": _softmax,
    # The probabilities of the first class and the second, of the latter: two nodes.
    "Complement": lambda second: np.concatenate((1.0 - second, second), 1),
}
# What a node of the kind must say of itself for the function above to be what it means.
_ATTRIBUTES: dict[str, dict[str, int]] = {
    "ArgMax": {"axis": 1, "keepdims": 0, "select_last_index": 0},
    "Gather": {"axis": 0},
    "Softmax": {"axis": 1},
}


def _encode_constant(values: Array) -> Any:
    if values.dtype.kind in "OUS":
        return [value.decode() if isinstance(value, bytes) else str(value) for value in values.tolist()]
    if values.dtype.name not in _DTYPES:
        raise ValueError(f"a constant is {values.dtype}")
    data = b64encode(np.ascontiguousarray(values).tobytes()).decode()
    return {"dtype": values.dtype.name, "shape": list(values.shape), "data": data}


def _decode_constant(document: Any) -> Array:
    if isinstance(document, list):
        return np.array(document, object)
    if document["dtype"] not in _DTYPES:
        raise ValueError(f"a constant is {document['dtype']!r}")
    return np.frombuffer(b64decode(document["data"]), document["dtype"]).reshape(document["shape"])


def _read_step(node: Any, before: str, constants: Mapping[str, Array]) -> Step | None:
    """The step of a node that reads `before`; None for one that is no link of a chain."""
    from onnx import TensorProto

    attributes = {each.name: each.i for each in node.attribute}
    if node.op_type == "Cast":
        to = attributes["to"]
        return {TensorProto.DOUBLE: ("Identity", None), TensorProto.INT64: ("Cast", None)}.get(to)
    if node.op_type in _ALONE:
        return (node.op_type, None) if attributes == _ATTRIBUTES.get(node.op_type, {}) else None
    if node.op_type not in _WITH_CONSTANT or attributes != _ATTRIBUTES.get(node.op_type, {}):
        return None
    own = [name for name in node.input if name != before]
    # A constant is on the right but of Gather; Add and Mul mean the same from both sides.
    place = 0 if node.op_type == "Gather" else 1
    if len(own) != 1 or own[0] not in constants or (node.input[place] != own[0] and node.op_type not in ("Add", "Mul")):
        return None
    return (node.op_type, _encode_constant(constants[own[0]]))


def _complemented(node: Any, makers: Mapping[str, Any], constants: Mapping[str, Array]) -> str | None:
    """The value that a node puts beside its difference from 1, if it is such a node."""
    if (
        node.op_type != "Concat"
        or len(node.input) != 2
        or [(each.name, each.i) for each in node.attribute] != [("axis", 1)]
    ):
        return None
    first, second = makers.get(node.input[0]), node.input[1]
    if first is None or first.op_type != "Sub" or first.input[1] != second:
        return None
    one = constants.get(first.input[0])
    return str(second) if one is not None and one.tolist() == [1.0] else None


def _find_chain(graph: Any, output: str, source: str, constants: Mapping[str, Array]) -> list[Step] | None:
    makers = {name: node for node in graph.node for name in node.output}
    steps: list[Step] = []
    while output != source:
        node = makers.get(output)
        if node is not None and (second := _complemented(node, makers, constants)) is not None:
            steps.append(("Complement", None))
            output = second
            continue
        before = [name for name in node.input if name not in constants] if node is not None else []
        if node is None or len(before) != 1 or (step := _read_step(node, before[0], constants)) is None:
            return None
        steps.append(step)
        output = before[0]
    return steps[::-1]


def find_chains(model: Any) -> dict[str, list[Step]]:
    """The chains of the outputs of an ONNX model, as an object of the onnx library, that have one."""
    from onnx import numpy_helper

    graph, found = model.graph, {}
    if len(graph.input) != 1 or sum(len(each.SerializeToString()) for each in graph.initializer) > _MOST_BYTES:
        return {}
    constants = {each.name: numpy_helper.to_array(each) for each in graph.initializer}
    for output in graph.output:
        try:
            steps = _find_chain(graph, output.name, graph.input[0].name, constants)
        except ValueError:  # a constant of another type
            continue
        if steps:
            found[output.name] = steps
    return found


def _read_steps(steps: Sequence[Sequence[Any]]) -> list[Link]:
    links = []
    for name, constant in steps:
        if name != "Identity":
            links.append(_ALONE[name] if constant is None else _WITH_CONSTANT[name](_decode_constant(constant)))
    return links


def _follow(links: Sequence[Link], rows: Array) -> Array:
    for link in links:
        rows = link(rows)
    return rows


def read_chains(chains: Sequence[Sequence[Sequence[Any]]]) -> Chains:
    """What computes outputs from the input, a matrix of doubles; what they begin with in common is computed once.

    Raises KeyError, TypeError, ValueError.
    """
    same = sum(1 for _ in takewhile(lambda steps: all(step == steps[0] for step in steps), zip(*chains, strict=False)))
    start, ends = _read_steps(chains[0][:same]), [_read_steps(steps[same:]) for steps in chains]

    def compute(rows: Array) -> list[Array]:
        rows = _follow(start, rows)
        return [_follow(links, rows) for links in ends]

    return compute
