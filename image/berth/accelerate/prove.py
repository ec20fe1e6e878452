"""Whether accelerated outputs are the native ones: labels equal on every row, numbers within 1e-6."""

from __future__ import annotations

import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np

from berth.models.model import PredictFunction
from berth.tensors.arrays import Array, Tensors, TensorSpec
from berth.tensors.differences import largest_difference

TOLERANCE = 1e-6
_ALONE = 100
_FEW = 33


@dataclass(frozen=True, slots=True)
class Proof:
    """How many rows were compared, by how much the worst number was off, and how long all rows took at once."""

    rows: int
    max_abs_error: float
    plain_seconds: float = 0.0
    fast_seconds: float = 0.0


def compare_output(name: str, plain: Array, fast: Array, exact: bool) -> float | str:
    """The largest difference, or what is wrong."""
    if plain.shape != fast.shape or plain.dtype != fast.dtype:
        return f"{name} has the shape {fast.dtype}{fast.shape} instead of {plain.dtype}{plain.shape}"
    if exact or plain.dtype.kind != "f":
        wrong = int(np.count_nonzero(plain != fast))
        return f"{wrong} of {plain.size} values of {name} are wrong" if wrong else 0.0
    error = largest_difference(plain, fast, relative=True)
    return f"{name} is off by {error:.3g}" if error > TOLERANCE else error


def _cut(tensors: Tensors, start: int, stop: int) -> dict[str, Array]:
    return {name: array[start:stop] for name, array in tensors.items()}


def _pieces(rows: int) -> list[tuple[int, int]]:
    """All rows at once, some one by one, some in a small batch: onnxruntime has a way of its own for each."""
    alone = min(rows, _ALONE)
    few = (alone, min(rows, alone + _FEW))
    return [(0, rows), *((at, at + 1) for at in range(alone)), *([few] if few[1] > few[0] else [])]


def prove(
    plain: PredictFunction,
    fast: PredictFunction,
    rows: Tensors,
    outputs: Sequence[TensorSpec],
    exact: Collection[str] = (),
) -> Proof | str:
    """The proof that both give equal outputs on the rows, or what differs. `exact` outputs may not differ at all."""
    names = [spec.name for spec in outputs]
    began = time.perf_counter()
    wanted = plain(rows, names)
    seconds = [time.perf_counter() - began]
    count, worst = len(next(iter(rows.values()))), 0.0
    for start, stop in _pieces(count):
        began = time.perf_counter()
        cut = _cut(rows, start, stop)
        found = fast(cut, names)
        seconds.append(time.perf_counter() - began)
        for name in names:  # an output that is wanted alone may be computed in another way
            for each in (found[name], fast(cut, [name])[name]):
                error = compare_output(name, wanted[name][start:stop], each, name in exact)
                if isinstance(error, str):
                    return error
                worst = max(worst, error)
    return Proof(count, worst, seconds[0], seconds[1])
