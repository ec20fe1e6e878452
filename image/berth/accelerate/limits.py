"""What the native model rejects, so that the accelerated model rejects the same.

onnxruntime computes on with a NaN where scikit-learn raises ValueError.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from berth.tensors.arrays import Array, Tensors, TensorSpec
from berth.tensors.schema import required

# From here on a double becomes infinity as float32.
FLOAT32_EDGE = 2.0**128 - 2.0**103
_EDGE_SQUARED = FLOAT32_EDGE**2


@dataclass(frozen=True, slots=True)
class ColumnLimits:
    """Whether one column may be missing, infinite or too large for float32; `known` if only these values may be."""

    missing: bool = True
    infinite: bool = True
    huge: bool = True
    known: tuple[Any, ...] | None = None


# By input, a ColumnLimits for each of its columns.
Limits = Mapping[str, tuple[ColumnLimits, ...]]


def encode_limits(limits: Limits) -> dict[str, list[dict[str, Any]]]:
    """Limits as JSON holds them."""
    return {name: [asdict(column) for column in columns] for name, columns in limits.items()}


def decode_limits(document: Mapping[str, list[dict[str, Any]]]) -> Limits:
    """The limits that `encode_limits` wrote."""

    def read(column: Mapping[str, Any]) -> ColumnLimits:
        known = column["known"]
        return ColumnLimits(column["missing"], column["infinite"], column["huge"], tuple(known) if known else None)

    return {name: tuple(read(column) for column in columns) for name, columns in document.items()}


def _check_known(array: Array, at: int, known: tuple[Any, ...], name: str) -> None:
    allowed = frozenset(known)
    for value in array.reshape(len(array), -1)[:, at].tolist():
        if value not in allowed and value is not None and value == value:
            raise ValueError(f"{name} is {value!r}, which the model did not meet in training")


def _check_numbers(array: Array, columns: Sequence[ColumnLimits], names: Sequence[str]) -> None:
    """That no number is of a kind its column refuses."""
    matrix = array.reshape(len(array), -1)
    size = np.abs(matrix)
    infinite = np.isinf(matrix)
    for bad, taken, word in (
        (np.isnan(matrix), [column.missing for column in columns], "missing (NaN)"),
        (infinite, [column.infinite for column in columns], "infinite"),
        ((size >= FLOAT32_EDGE) & ~infinite, [column.huge for column in columns], "too large for float32"),
    ):
        refused = bad & ~np.array(taken)
        if refused.any():
            at = int(np.argwhere(refused)[0][1])
            raise ValueError(f"{names[at]} is {word}, which the model does not accept")


def _is_usual(array: Array) -> bool:
    """One check of numbers of which nearly always all are accepted: the sum of their squares is below the edge's.

    It takes a third of the time of their extremes. NaN is not below anything.
    """
    return bool(np.vdot(array, array) < _EDGE_SQUARED)


def make_check(limits: Limits, inputs: Sequence[TensorSpec]) -> Callable[[Tensors], None]:
    """The function that raises ValueError for what the native model would reject."""
    inputs = required(inputs)
    numeric = [spec for spec in inputs if spec.datatype == "FP64"]
    texts = [spec.name for spec in inputs if spec.datatype == "BYTES" and not limits[spec.name][0].missing]
    names = {
        spec.name: spec.columns or tuple(f"{spec.name}[{at}]" for at in range(len(limits[spec.name])))
        for spec in inputs
    }
    known = [
        (spec.name, at, column.known)
        for spec in inputs
        for at, column in enumerate(limits[spec.name])
        if column.known is not None
    ]

    def check(tensors: Tensors) -> None:
        for spec in numeric:
            array = tensors[spec.name]
            if not _is_usual(array):
                shown = names[spec.name] if array.ndim > 1 else (spec.name,)
                _check_numbers(array, limits[spec.name], shown)
        for name in texts:
            if None in tensors[name].tolist():
                raise ValueError(f"{name} is missing, which the model does not accept")
        for name, at, allowed in known:
            _check_known(tensors[name], at, allowed, name)

    return check
