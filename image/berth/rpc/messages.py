"""The protocol's messages, made when the first of them is wanted; nothing is generated and grpcio-tools is not needed.

https://github.com/open-inference/open-inference-protocol/blob/main/specification/protocol/open_inference_grpc.proto
https://github.com/grpc/grpc/blob/master/src/proto/grpc/health/v1/health.proto
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

# Message -> its fields in the order of their numbers, from 1: name and type. `*` is repeated, `%` a map from strings; a
# type that is no scalar is a message.
_Fields = Mapping[str, tuple[tuple[str, str], ...]]
_CHOICES: tuple[tuple[str, str], ...] = (
    ("bool_param", "bool"), ("int64_param", "int64"), ("string_param", "string"), ("double_param", "double"),
    ("uint64_param", "uint64"),
)  # fmt: skip
_TENSOR: tuple[tuple[str, str], ...] = (
    ("name", "string"), ("datatype", "string"), ("shape", "*int64"), ("parameters", "%InferParameter"),
    ("contents", "InferTensorContents"),
)  # fmt: skip
_NAME_AND_VERSION: tuple[tuple[str, str], ...] = (("name", "string"), ("version", "string"))
_INFERENCE: _Fields = {
    "ServerLiveRequest": (),
    "ServerLiveResponse": (("live", "bool"),),
    "ServerReadyRequest": (),
    "ServerReadyResponse": (("ready", "bool"),),
    "ModelReadyRequest": _NAME_AND_VERSION,
    "ModelReadyResponse": (("ready", "bool"),),
    "ServerMetadataRequest": (),
    "ServerMetadataResponse": (("name", "string"), ("version", "string"), ("extensions", "*string")),
    "ModelMetadataRequest": _NAME_AND_VERSION,
    "TensorMetadata": (("name", "string"), ("datatype", "string"), ("shape", "*int64")),
    "ModelMetadataResponse": (
        ("name", "string"), ("versions", "*string"), ("platform", "string"), ("inputs", "*TensorMetadata"),
        ("outputs", "*TensorMetadata"), ("properties", "%string"),
    ),
    "InferParameter": _CHOICES,
    "InferTensorContents": (
        ("bool_contents", "*bool"), ("int_contents", "*int32"), ("int64_contents", "*int64"),
        ("uint_contents", "*uint32"), ("uint64_contents", "*uint64"), ("fp32_contents", "*float"),
        ("fp64_contents", "*double"), ("bytes_contents", "*bytes"),
    ),
    "InferInputTensor": _TENSOR,
    "InferOutputTensor": _TENSOR,
    "InferRequestedOutputTensor": (("name", "string"), ("parameters", "%InferParameter")),
    "ModelInferRequest": (
        ("model_name", "string"), ("model_version", "string"), ("id", "string"), ("parameters", "%InferParameter"),
        ("inputs", "*InferInputTensor"), ("outputs", "*InferRequestedOutputTensor"), ("raw_input_contents", "*bytes"),
    ),
    "ModelInferResponse": (
        ("model_name", "string"), ("model_version", "string"), ("id", "string"), ("parameters", "%InferParameter"),
        ("outputs", "*InferOutputTensor"), ("raw_output_contents", "*bytes"),
    ),
}  # fmt: skip
_HEALTH: _Fields = {
    "HealthCheckRequest": (("service", "string"),),
    # An enum in the specification, which is a number on the wire: 1 serves, 2 does not.
    "HealthCheckResponse": (("status", "int32"),),
}
PACKAGES: Mapping[str, _Fields] = {"inference": _INFERENCE, "grpc.health.v1": _HEALTH}


def _add_field(message: Any, package: str, number: int, name: str, kind: str) -> None:
    from google.protobuf.descriptor_pb2 import FieldDescriptorProto as Field

    def set_type(field: Any, type_: str) -> None:
        scalar = getattr(Field, f"TYPE_{type_.upper()}", None)
        field.type = Field.TYPE_MESSAGE if scalar is None else scalar
        if scalar is None:
            field.type_name = f".{package}.{type_}"

    field = message.field.add(name=name, number=number, label=Field.LABEL_OPTIONAL)
    if kind[0] in "*%":
        field.label = Field.LABEL_REPEATED
    if kind[0] == "%":
        entry = message.nested_type.add(name=f"{name.capitalize()}Entry")
        entry.options.map_entry = True
        entry.field.add(name="key", number=1, label=Field.LABEL_OPTIONAL, type=Field.TYPE_STRING)
        set_type(entry.field.add(name="value", number=2, label=Field.LABEL_OPTIONAL), kind[1:])
        field.type, field.type_name = Field.TYPE_MESSAGE, f".{package}.{message.name}.{entry.name}"
    else:
        set_type(field, kind.lstrip("*"))
    if message.name == "InferParameter":
        field.oneof_index = 0


@cache
def message_classes(package: str) -> Mapping[str, Any]:
    """The package's classes by the names of their messages; in a pool of their own, beside any that a client has."""
    from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

    file = descriptor_pb2.FileDescriptorProto(name=f"berth/{package}.proto", package=package, syntax="proto3")
    for name, fields in PACKAGES[package].items():
        message = file.message_type.add(name=name)
        if name == "InferParameter":
            message.oneof_decl.add(name="parameter_choice")
        for number, (field, kind) in enumerate(fields, 1):
            _add_field(message, package, number, field, kind)
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    found = {name: pool.FindMessageTypeByName(f"{package}.{name}") for name in PACKAGES[package]}
    return {name: message_factory.GetMessageClass(descriptor) for name, descriptor in found.items()}
