"""Nodes and constants for a skl2onnx container, in few words."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from berth.tensors.arrays import Array

ML = "ai.onnx.ml"
# skl2onnx refuses more than 3; `convert` corrects the version once the graph stands.
ML_TOLD = 3
ML_MEANT = 5


class Graph:
    """One operator's part of the graph that skl2onnx builds."""

    def __init__(self, scope: Any, operator: Any, container: Any) -> None:
        self._scope = scope
        self._operator = operator
        self._container = container

    def constant(self, values: Any) -> str:
        """The name of a constant tensor; strings from an object array."""
        from onnx import numpy_helper

        name: str = self._scope.get_unique_variable_name("constant")
        tensor = numpy_helper.from_array(np.asarray(values), name)
        # skl2onnx copies a tensor's raw bytes; strings have none.
        content = tensor if tensor.raw_data else list(tensor.string_data)
        self._container.add_initializer(name, tensor.data_type, list(tensor.dims), content)
        return name

    def apply(
        self, op: str, *inputs: str, into: str = "", domain: str = "", version: int | None = None, **attributes: Any
    ) -> str:
        """The name of a node's one output."""
        name = into or self._scope.get_unique_variable_name(op.lower())
        self._container.add_node(
            op,
            list(inputs),
            [name],
            op_domain=domain,
            op_version=version,
            name=self._scope.get_unique_operator_name(op),
            **attributes,
        )
        return name

    def output(self, at: int) -> str:
        """The name that the operator's output has in the whole graph."""
        name: str = self._operator.outputs[at].full_name
        return name

    def columns(self) -> list[str]:
        """The names of the inputs: one matrix, or a column each."""
        return [one.full_name for one in self._operator.inputs]

    def cast(self, name: str, kind: str) -> str:
        """A tensor as another kind of numbers, by ONNX's name for it."""
        from onnx import TensorProto

        return self.apply("Cast", name, to=TensorProto.DataType.Value(kind))

    def to_double(self, name: str) -> str:
        """A tensor of any numbers as doubles."""
        return self.cast(name, "DOUBLE")

    def through_float(self, name: str) -> str:
        """Doubles rounded to float32, as scikit-learn's trees see them."""
        return self.to_double(self.cast(name, "FLOAT"))

    def label_encoder(self, name: str, keys: Array, values: Array, default: Any) -> str:
        """A map from values to values; `default` for all others."""
        from onnx import numpy_helper

        return self.apply(
            "LabelEncoder",
            name,
            domain=ML,
            version=ML_TOLD,
            keys_tensor=numpy_helper.from_array(keys),
            values_tensor=numpy_helper.from_array(values),
            default_tensor=numpy_helper.from_array(np.array([default], values.dtype)),
        )

    def join(self, names: Sequence[str]) -> str:
        """Columns side by side."""
        return names[0] if len(names) == 1 else self.apply("Concat", *names, axis=1)
