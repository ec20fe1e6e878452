"""Tensors as the Open Inference Protocol names them: datatypes, specs, and both wire encodings.

https://github.com/open-inference/open-inference-protocol/blob/main/specification/protocol/inference_rest.md
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

Array: TypeAlias = npt.NDArray[Any]
Tensors: TypeAlias = Mapping[str, Array]

# BYTES is an object array of `str` (or of `bytes` where they are not UTF-8).
DATATYPES: dict[str, np.dtype[Any]] = {
    "BOOL": np.dtype(np.bool_),
    "UINT8": np.dtype("<u1"),
    "UINT16": np.dtype("<u2"),
    "UINT32": np.dtype("<u4"),
    "UINT64": np.dtype("<u8"),
    "INT8": np.dtype("<i1"),
    "INT16": np.dtype("<i2"),
    "INT32": np.dtype("<i4"),
    "INT64": np.dtype("<i8"),
    "FP16": np.dtype("<f2"),
    "FP32": np.dtype("<f4"),
    "FP64": np.dtype("<f8"),
    "BYTES": np.dtype(object),
}

_NAMES = {dtype: name for name, dtype in DATATYPES.items()}


def datatype_of(dtype: np.dtype[Any]) -> str:
    """The protocol's name for a numpy dtype; strings and objects are BYTES. Raises KeyError."""
    if dtype.kind in "OUST":
        return "BYTES"
    return _NAMES[dtype.newbyteorder("<")]


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """One named input or output: -1 in `shape` is a free dimension, the first one counts rows.

    `columns` names the features of a two-dimensional input; `labels` are a classifier's classes,
    in the order of the last dimension of its probabilities.
    """

    name: str
    datatype: str
    shape: tuple[int, ...]
    columns: tuple[str, ...] | None = None
    labels: tuple[Any, ...] | None = None
