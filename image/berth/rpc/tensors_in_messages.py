"""Tensors of gRPC messages: raw bytes, as Triton's clients send them, or typed contents."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from berth.errors import InvalidInput
from berth.models.model import Model
from berth.tensors.arrays import DATATYPES, Array, TensorSpec
from berth.tensors.binary import decode_binary, decode_shape, encode_binary

# Datatype -> the field that holds its values; FP16 has none, and is sent raw.
_CONTENTS = {
    "BOOL": "bool_contents",
    "UINT8": "uint_contents",
    "UINT16": "uint_contents",
    "UINT32": "uint_contents",
    "UINT64": "uint64_contents",
    "INT8": "int_contents",
    "INT16": "int_contents",
    "INT32": "int_contents",
    "INT64": "int64_contents",
    "FP32": "fp32_contents",
    "FP64": "fp64_contents",
    "BYTES": "bytes_contents",
}


def _text(value: bytes) -> str | bytes:
    try:
        return value.decode("utf-8")
    except UnicodeDecodeError:
        return value


def _decode_contents(tensor: Any, datatype: str, shape: tuple[int, ...], where: str) -> Array:
    """Values in the field of their datatype. Raises InvalidInput."""
    if (field := _CONTENTS.get(datatype)) is None:
        raise InvalidInput(f"{where}: {datatype} has no contents; send it in raw_input_contents")
    if others := [found.name for found, _ in tensor.contents.ListFields() if found.name != field]:
        raise InvalidInput(f"{where}: {datatype} is in contents.{field}, got {', '.join(others)}")
    values = getattr(tensor.contents, field)
    if len(values) != math.prod(shape):
        problem = f"{len(values)} values, but the shape {list(shape)} needs {math.prod(shape)}"
        raise InvalidInput(f"{where}: contents has {problem}")
    if datatype == "BYTES":
        array = np.empty(len(values), object)
        array[:] = [_text(value) for value in values]
        return array.reshape(shape)
    try:
        return np.array(list(values), DATATYPES[datatype]).reshape(shape)
    except OverflowError as error:
        raise InvalidInput(f"{where}: a value does not fit {datatype}") from error


def decode_inputs_of(request: Any) -> dict[str, Array]:
    """The tensors of a ModelInferRequest by name. Raises InvalidInput."""
    raw = request.raw_input_contents
    if raw and len(raw) != len(request.inputs):
        raise InvalidInput(f"raw_input_contents has {len(raw)} tensors, but inputs {len(request.inputs)}; send as many")
    if not request.inputs:
        raise InvalidInput("inputs is empty; send one tensor or more")
    inputs: dict[str, Array] = {}
    for index, tensor in enumerate(request.inputs):
        where = f"input {tensor.name[:60]!r}"
        if tensor.datatype not in DATATYPES:
            raise InvalidInput(f"{where}: datatype must be one of {', '.join(DATATYPES)}, got {tensor.datatype[:60]!r}")
        if tensor.name in inputs:
            raise InvalidInput(f"{where} is duplicated in inputs")
        shape = decode_shape(list(tensor.shape), where)
        if raw:
            inputs[tensor.name] = decode_binary(raw[index], tensor.datatype, shape, where)
        else:
            inputs[tensor.name] = _decode_contents(tensor, tensor.datatype, shape, where)
    return inputs


def _encode_contents(tensor: Any, array: Array, datatype: str) -> None:
    values = array.ravel().tolist()
    if datatype == "BYTES":
        values = [
            value if isinstance(value, bytes) else str("" if value is None else value).encode() for value in values
        ]
    getattr(tensor.contents, _CONTENTS[datatype]).extend(values)


def encode_outputs(
    response: Any, model: Model, wanted: Mapping[str, str], answer: Mapping[str, Array], raw: bool
) -> None:
    """Put the outputs into a ModelInferResponse: raw as the request was, else in contents; FP16 is always raw.

    `wanted` has the model's output for each name that the client reads.
    """
    specs: Mapping[str, TensorSpec] = {spec.name: spec for spec in model.outputs}
    raw = raw or any(specs[name].datatype == "FP16" for name in wanted.values())
    for name, output in wanted.items():
        datatype = specs[output].datatype
        array = np.asarray(answer[output], DATATYPES[datatype])
        tensor = response.outputs.add(name=name, datatype=datatype, shape=array.shape)
        if raw:
            response.raw_output_contents.append(encode_binary(array, datatype))
        else:
            _encode_contents(tensor, array, datatype)
