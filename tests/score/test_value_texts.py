"""Texts of a whole array equal those of its values one by one, in JSON lines and in CSV."""

from __future__ import annotations

import numpy as np
import pytest

from berth.score.chunks import Columns, Scored
from berth.score.csv_file import CsvSink
from berth.score.value_texts import dump_value, list_values_of, row_texts
from berth.tensors.arrays import Array, TensorSpec, datatype_of

NUMBERS = [0.1, 1e-7, 1e-6, 1e-5, 1e-4, 0.5, 1.0, 1e13, 1e14, 1e16, 1e17, 65504.0, -0.0, np.nan, np.inf, 3.0e38]
ARRAYS = [
    np.array(NUMBERS),
    np.array(NUMBERS, np.float32),
    np.array(NUMBERS[:7], np.float16),
    np.array(NUMBERS).reshape(4, 4),
    np.array(NUMBERS, np.float32).reshape(4, 4),
    np.array([[1, 2], [3, 4]]),
    np.array([True, False]),
    np.array([2**62, -5]),
    np.array([1, 255], np.uint8),
    np.array(["a", 'b,"c"', "x\ny", ""], object),
    np.array([["a", "b"], ["c,d", "e"]], object),
    np.zeros((2, 2, 2)),
    np.zeros(0),
    np.zeros((0, 3)),
    np.asfortranarray(np.arange(6.0).reshape(2, 3)),
]


@pytest.mark.parametrize("array", ARRAYS, ids=lambda array: f"{array.dtype}-{array.shape}")
def test_at_once_or_one_by_one(array: Array) -> None:
    listed = list_values_of(array)
    assert row_texts(array) == [dump_value(value) for value in listed]
    spec = TensorSpec("y", datatype_of(array.dtype), (-1, *array.shape[1:]))
    sink = CsvSink(Columns((), (spec,), {}))
    assert sink.encode(Scored({}, {"y": array})) == sink.encode(Scored({}, {"y": listed}))
