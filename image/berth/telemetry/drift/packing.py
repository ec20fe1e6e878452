"""The rows of small requests as bytes, until they are counted.

Thousands of small arrays that wait cost more than they say: their memory is not used again by the requests that
follow, and joining them takes longer than counting them. Bytes are joined as they come.

Where more come than are to be counted, most are passed over here, before they cost anything. Which ones is random:
connections are served in turns, and every k-th request would be the same clients' each time.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from random import random
from typing import Any

import numpy as np

from berth.models.profile import PREDICTION
from berth.tensors.arrays import DATATYPES, Array, Tensors, TensorSpec

# Requests of a block, of which a full one is counted at once; so many more may wait while it cannot be.
BLOCK = 2048
_MOST = 2 * BLOCK
# Of a request's input; what is larger is kept as it is.
_MOST_BYTES = 1024


class PackedRows:
    """The rows of a model whose input is one matrix of numbers. Safe for any thread.

    `on_full` is called with each request above a block, `other` with those that are not of the usual form.
    """

    def __init__(
        self,
        matrix: TensorSpec,
        on_full: Callable[[], object],
        other: Callable[[Tensors, Mapping[str, Array], int], None],
    ) -> None:
        self._name, self._dtype, self._width = matrix.name, DATATYPES[matrix.datatype], matrix.shape[1]
        self._on_full, self._other = on_full, other
        # As the first request's; others than these are not packed.
        self._predicted: np.dtype[Any] | None = None
        self._lock = threading.Lock()
        self._given, self._answers, self._requests = bytearray(), bytearray(), 0
        self._most_rows = _MOST_BYTES // (self._width * self._dtype.itemsize)
        # One request of so many is kept. Of each of the others the rows are appended here: that needs no lock.
        self.step = 1
        self._passed: list[int] = []

    def __len__(self) -> int:
        return self._requests

    def offer(self, tensors: Tensors, outputs: Mapping[str, Array], rows: int) -> None:
        """Keep a request's rows until they are counted. Its shapes have been checked: the model has predicted them."""
        if self.step > 1 and random() * self.step >= 1 and rows <= self._most_rows:  # noqa: S311 - no secret
            self._passed.append(rows)
            return
        given, predicted = tensors.get(self._name), outputs.get(PREDICTION)
        if (
            given is None
            or predicted is None
            or given.dtype is not self._dtype
            or rows > self._most_rows
            or (predicted.dtype is not self._predicted and not self._accepts(predicted.dtype))
            or (waiting := self._requests) >= _MOST
        ):
            self._other(tensors, outputs, rows)
            return
        with self._lock:
            self._given += given.tobytes()
            self._answers += predicted.tobytes()
            self._requests += 1
        if waiting >= BLOCK:
            self._on_full()

    def take_passed(self) -> int:
        """The rows that were passed over since the last call."""
        passed = self._passed[:]
        del self._passed[: len(passed)]
        return sum(passed)

    def _accepts(self, dtype: np.dtype[Any]) -> bool:
        with self._lock:  # the first two requests may come at once, and differ
            if self._predicted is None and dtype.kind in "fiub":
                self._predicted = dtype
            return dtype is self._predicted

    def take(self) -> tuple[dict[str, Array], dict[str, Array], int]:
        """All that is kept, as one request's tensors, outputs and rows; it is kept no longer."""
        with self._lock:
            given, answers = self._given, self._answers
            self._given, self._answers, self._requests = bytearray(), bytearray(), 0
        rows = len(given) // (self._width * self._dtype.itemsize)
        matrix = np.frombuffer(given, self._dtype, rows * self._width).reshape(rows, self._width)
        return {self._name: matrix}, {PREDICTION: np.frombuffer(answers, self._predicted)}, rows


def can_pack(inputs: Sequence[TensorSpec]) -> bool:
    """Whether rows of these inputs are packed: one matrix of numbers, of which a row has few bytes."""
    if len(inputs) != 1 or len(inputs[0].shape) != 2:
        return False
    dtype, width = DATATYPES[inputs[0].datatype], inputs[0].shape[1]
    return dtype.kind in "fiub" and 0 < width <= _MOST_BYTES // dtype.itemsize
