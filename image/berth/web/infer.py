"""V2 inference requests and responses: a JSON object, and behind it the tensors that are sent in binary.

https://github.com/open-inference/open-inference-protocol/blob/main/specification/protocol/inference_rest.md
https://github.com/triton-inference-server/server/blob/main/docs/protocol/extension_binary_data.md
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from berth.errors import InvalidInput, shown
from berth.models.model import Model
from berth.tensors.arrays import DATATYPES, Array, TensorSpec
from berth.tensors.binary import decode_binary, decode_shape, decode_shaped, encode_binary
from berth.tensors.codec import decode_json
from berth.tensors.output_names import name_outputs
from berth.web.content_types import apply_content_type, is_frame_request

# What Triton offers, and would change the response if it were silently ignored.
_NOT_OFFERED = ("shared_memory_region", "classification")


@dataclass(slots=True)
class InferRequest:
    """One request, decoded; `binary` says for some outputs, `binary_default` for the others, how to send them.

    `frame`: the inputs are the columns of a data frame. `unusual`: the client receives what is unusual about each row.
    """

    inputs: Mapping[str, Array]
    id: str | None = None
    outputs: tuple[str, ...] = ()
    binary: Mapping[str, bool] = field(default_factory=dict)
    binary_default: bool = False
    frame: bool = False
    unusual: bool = False


class _Tail:
    """The bytes behind the JSON object, handed out in order."""

    def __init__(self, data: memoryview) -> None:
        self._data = data

    def take(self, size: int, where: str) -> memoryview:
        if size > len(self._data):
            raise InvalidInput(f"{where}: binary_data_size is {size}, but only {len(self._data)} bytes are left")
        taken, self._data = self._data[:size], self._data[size:]
        return taken

    def check_empty(self) -> None:
        if len(self._data):
            raise InvalidInput(
                f"{len(self._data)} bytes of binary data are left over; no input's binary_data_size has them"
            )


_NO_TAIL = _Tail(memoryview(b""))


def _object(value: Any, where: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise InvalidInput(f"{where} must be an object, got {shown(value)}")
    return value


def _parameters(owner: Mapping[str, Any], where: str) -> dict[str, Any]:
    """The `parameters` of a request, an input or an output; null is none. Raises InvalidInput."""
    given = owner.get("parameters")
    parameters = {} if given is None else _object(given, f"{where}: parameters")
    for name in _NOT_OFFERED:
        if name in parameters:
            raise InvalidInput(f"{where}: the parameter {name} is not supported by this server")
    return parameters


def _flag(parameters: Mapping[str, Any], name: str, default: bool, where: str) -> bool:
    value = parameters.get(name, default)
    if not isinstance(value, bool):
        raise InvalidInput(f"{where}: {name} must be true or false, got {shown(value)}")
    return value


def _name_of(tensor: Any, kind: str) -> str:
    name = _object(tensor, f"each of {kind}s").get("name")
    if not isinstance(name, str):
        raise InvalidInput(f"each of {kind}s needs a name, got {shown(name)}")
    return name


def _decode_input(tensor: Mapping[str, Any], where: str, tail: _Tail) -> Array:
    shape = decode_shape(tensor.get("shape"), where)
    datatype = tensor.get("datatype")
    if not isinstance(datatype, str) or datatype not in DATATYPES:
        raise InvalidInput(f"{where}: datatype must be one of {', '.join(DATATYPES)}, got {shown(datatype)}")
    parameters = _parameters(tensor, where)
    size = parameters.get("binary_data_size")
    if size is None:
        if "data" not in tensor:
            raise InvalidInput(f"{where} has neither data nor binary_data_size")
        array = decode_shaped(tensor["data"], datatype, shape, where)
        return apply_content_type(array, parameters, where) if parameters else array
    if type(size) is not int or size < 0:
        raise InvalidInput(f"{where}: binary_data_size must be a whole number from 0 up, got {shown(size)}")
    if "data" in tensor:
        raise InvalidInput(f"{where} has both data and binary_data_size; send one")
    return decode_binary(tail.take(size, where), datatype, shape, where)


def _decode_inputs(document: Mapping[str, Any], tail: _Tail) -> dict[str, Array]:
    given = document.get("inputs")
    if not isinstance(given, list) or not given:
        raise InvalidInput(f"inputs must be a list of one tensor or more, got {shown(given)}")
    inputs: dict[str, Array] = {}
    for tensor in given:
        name = _name_of(tensor, "input")
        where = f"input {name[:60]!r}"
        if name in inputs:
            raise InvalidInput(f"{where} is duplicated in inputs")
        inputs[name] = _decode_input(tensor, where, tail)
    tail.check_empty()
    return inputs


def _decode_outputs(document: Mapping[str, Any]) -> dict[str, bool | None]:
    """The outputs requested, in order, each with its `binary_data`; none where the client leaves it open."""
    given = document.get("outputs")
    if given is not None and not isinstance(given, list):
        raise InvalidInput(f"outputs must be a list of objects, got {shown(given)}")
    outputs: dict[str, bool | None] = {}
    for tensor in given or ():
        name = _name_of(tensor, "output")
        where = f"output {name[:60]!r}"
        if name in outputs:
            raise InvalidInput(f"{where} is duplicated in outputs")
        parameters = _parameters(tensor, where)
        outputs[name] = _flag(parameters, "binary_data", False, where) if "binary_data" in parameters else None
    return outputs


def _decode_plain(document: Mapping[str, Any]) -> InferRequest | None:
    """A request of one input in JSON and nothing else, as most are; None for the others. Raises InvalidInput."""
    given = document.get("inputs")
    if len(document) > 1 or type(given) is not list or len(given) != 1:
        return None
    (tensor,) = given
    if type(tensor) is not dict or "data" not in tensor or "parameters" in tensor:
        return None
    name = _name_of(tensor, "input")
    return InferRequest({name: _decode_input(tensor, f"input {name[:60]!r}", _NO_TAIL)})


def decode_request(document: Mapping[str, Any], tail: bytes | memoryview = b"") -> InferRequest:
    """An inference request and the bytes behind it. Raises InvalidInput."""
    if not tail and (plain := _decode_plain(document)) is not None:
        return plain
    id_ = document.get("id")
    if id_ is not None and not isinstance(id_, str):
        raise InvalidInput(f"id must be a string, got {shown(id_)}")
    parameters = _parameters(document, "the request")
    binary_default = _flag(parameters, "binary_data_output", False, "the request")
    unusual = _flag(parameters, "unusual", False, "the request")
    outputs = _decode_outputs(document)
    binary = {name: flag for name, flag in outputs.items() if flag is not None}
    inputs = _decode_inputs(document, _Tail(memoryview(tail)))
    return InferRequest(inputs, id_, tuple(outputs), binary, binary_default, is_frame_request(parameters), unusual)


def decode_body(body: bytes, header_length: str | None, inputs: Sequence[TensorSpec]) -> InferRequest:
    """A request's body; `header_length` is what Inference-Header-Content-Length says of it.

    Raises MalformedJson, InvalidInput.
    """
    if header_length is None:
        return decode_request(_object(decode_json(body), "the body"))
    if not (header_length.isascii() and header_length.isdigit()) or len(header_length) > 18:
        raise InvalidInput(f"Inference-Header-Content-Length must be a number of bytes, got {header_length[:60]!r}")
    length = int(header_length)
    if length > len(body):
        raise InvalidInput(f"Inference-Header-Content-Length is {length}, but the body has {len(body)} bytes")
    if length == 0:
        return decode_raw(body, inputs)
    view = memoryview(body)
    return decode_request(_object(decode_json(bytes(view[:length])), "the body"), view[length:])


def decode_raw(body: bytes, inputs: Sequence[TensorSpec]) -> InferRequest:
    """A body that is one tensor and nothing else: all rows, or one string. Raises InvalidInput."""
    if len(inputs) != 1 or -1 in inputs[0].shape[1:]:
        names = ", ".join(spec.name for spec in inputs)
        raise InvalidInput(f"a raw body needs a model with one input whose rows have one size; this one has {names}")
    spec, where = inputs[0], f"input {inputs[0].name!r}"
    row = max(math.prod(spec.shape[1:]), 1)
    if spec.datatype == "BYTES":
        body = len(body).to_bytes(4, "little") + body
        rows = 1
    else:
        rows = len(body) // (row * DATATYPES[spec.datatype].itemsize)
    array = decode_binary(body, spec.datatype, (rows, *spec.shape[1:]), where)
    return InferRequest({spec.name: array}, binary_default=True)


def wanted_outputs(requested: Sequence[str], model: Model) -> dict[str, str]:
    """The model's outputs to respond with, by the names that the client reads, in order: those requested, else all.

    Raises UnknownOutput.
    """
    if not requested:
        return {spec.name: spec.name for spec in model.outputs if not spec.optional}
    return name_outputs(list(requested), model.outputs)


def _encode_output(name: str, datatype: str, array: Array, binary: bool) -> tuple[dict[str, Any], bytes]:
    array = np.asarray(array, DATATYPES[datatype])
    tensor: dict[str, Any] = {"name": name, "datatype": datatype, "shape": list(array.shape)}
    if not binary:
        tensor["data"] = array.ravel()
        return tensor, b""
    data = encode_binary(array, datatype)
    tensor["parameters"] = {"binary_data_size": len(data)}
    return tensor, data


def encode_answer(
    request: InferRequest, model: Model, answer: Mapping[str, Array], wanted: Mapping[str, str]
) -> tuple[dict[str, Any], bytes | None]:
    """The JSON object of a response, and the bytes behind it; None where nothing is sent in binary.

    `wanted` has the model's output for each name that the client reads.
    """
    datatypes = {spec.name: spec.datatype for spec in model.outputs}
    tensors: list[dict[str, Any]] = []
    tails: list[bytes] = []
    for name, own in wanted.items():
        binary = request.binary.get(name, request.binary_default)
        tensor, data = _encode_output(name, datatypes[own], answer[own], binary)
        tensors.append(tensor)
        if binary:
            tails.append(data)
    document: dict[str, Any] = {"model_name": model.name, "model_version": model.version}
    if request.id is not None:
        document["id"] = request.id
    document["outputs"] = tensors
    return document, b"".join(tails) if tails else None
