"""Tensors in binary and in JSON beside a shape: round trips of all thirteen datatypes, and hostile sizes."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from berth.errors import InvalidInput
from berth.tensors.arrays import DATATYPES, Array
from berth.tensors.binary import decode_binary, decode_shape, decode_shaped, encode_binary

_SHAPES = hnp.array_shapes(min_dims=1, max_dims=3, min_side=0, max_side=4)
_NUMBERS = sorted(set(DATATYPES) - {"BYTES"})


@st.composite
def _tensors(draw: st.DrawFn) -> tuple[str, Array]:
    datatype = draw(st.sampled_from(sorted(DATATYPES)))
    shape = draw(_SHAPES)
    if datatype != "BYTES":
        return datatype, draw(hnp.arrays(DATATYPES[datatype], shape))
    flat = np.empty(math.prod(shape), object)
    strings = st.text(st.characters(exclude_categories=["Cs"]), max_size=5)
    flat[:] = draw(st.lists(strings, min_size=flat.size, max_size=flat.size))
    return datatype, flat.reshape(shape)


@given(_tensors())
def test_what_is_written_is_read(tensor: tuple[str, Array]) -> None:
    datatype, array = tensor
    read = decode_binary(encode_binary(array, datatype), datatype, array.shape, "x")
    assert read.dtype == array.dtype
    np.testing.assert_array_equal(read, array)
    assert read.flags.writeable
    assert read.flags.aligned


@given(_tensors())
def test_bytes_are_those_that_tritons_client_writes(tensor: tuple[str, Array]) -> None:
    utils = pytest.importorskip("tritonclient.utils", reason="tritonclient is not installed")
    datatype, array = tensor
    if datatype == "BYTES":
        theirs = utils.serialize_byte_tensor(array)
        assert encode_binary(array, datatype) == (theirs.item() if theirs.size else b"")
    else:
        assert encode_binary(array, datatype) == array.tobytes()


@given(st.sampled_from(sorted(DATATYPES)), st.binary(max_size=64), _SHAPES)
def test_any_bytes_are_read_or_refused(datatype: str, data: bytes, shape: tuple[int, ...]) -> None:
    try:
        array = decode_binary(data, datatype, shape, "x")
    except InvalidInput:
        return
    assert array.shape == shape
    assert encode_binary(array, datatype) == data


@given(_tensors(), st.binary(min_size=1, max_size=9))
def test_bytes_too_many_or_too_few_are_refused(tensor: tuple[str, Array], more: bytes) -> None:
    datatype, array = tensor
    data = encode_binary(array, datatype)
    for wrong in [data + more, *([data[:-1]] if data else [])]:
        with pytest.raises(InvalidInput, match=r"bytes|ends inside"):
            decode_binary(wrong, datatype, array.shape, "x")


def test_strings_that_are_not_utf8_stay_bytes() -> None:
    read = decode_binary(b"\x01\0\0\0\xff\x02\0\0\0\xc3\xa4", "BYTES", (2,), "x")
    assert read.tolist() == [b"\xff", "ä"]
    assert encode_binary(read, "BYTES") == b"\x01\0\0\0\xff\x02\0\0\0\xc3\xa4"


def test_a_length_of_four_gigabytes_reads_nothing() -> None:
    with pytest.raises(InvalidInput, match="ends inside string 1 of 1"):
        decode_binary(b"\xff\xff\xff\xffabc", "BYTES", (1,), "x")


def test_a_count_of_a_billion_strings_allocates_nothing() -> None:
    with pytest.raises(InvalidInput, match="cannot hold 1000000000 strings"):
        decode_binary(b"\0\0\0\0", "BYTES", (10**9,), "x")


def test_a_bool_that_is_neither_0_nor_1_is_refused() -> None:
    with pytest.raises(InvalidInput, match="0 or 1, got 2"):
        decode_binary(b"\x00\x02", "BOOL", (2,), "x")


def test_a_missing_string_is_written_as_an_empty_one() -> None:
    assert encode_binary(np.array([None], object), "BYTES") == b"\0\0\0\0"


@pytest.mark.parametrize("shape", [[], [0], [3, 4], [1] * 32])
def test_shapes_that_are_taken(shape: list[int]) -> None:
    assert decode_shape(shape, "x") == tuple(shape)


@pytest.mark.parametrize(
    "shape",
    [None, "3", 3, {}, [-1, 4], [1.0], [True], ["1"], [None], [[1]], [2**63], [2**64, 0], [1] * 33, [10**5] * 9],
)
def test_shapes_that_are_refused(shape: Any) -> None:
    with pytest.raises(InvalidInput, match="shape"):
        decode_shape(shape, "x")


@given(hnp.arrays(np.float64, _SHAPES, elements=st.floats(-1e9, 1e9)))
def test_json_values_are_read_flat_and_nested(array: Array) -> None:
    np.testing.assert_array_equal(decode_shaped(array.ravel().tolist(), "FP64", array.shape, "x"), array)
    if array.size:  # an empty list has lost its inner sizes
        np.testing.assert_array_equal(decode_shaped(array.tolist(), "FP64", array.shape, "x"), array)


@given(st.lists(st.integers(0, 9), max_size=12), _SHAPES)
def test_a_count_that_is_not_the_shapes_is_refused(values: list[int], shape: tuple[int, ...]) -> None:
    if len(values) == math.prod(shape):
        assert decode_shaped(values, "INT64", shape, "x").shape == shape
    else:
        with pytest.raises(InvalidInput, match=f"data has {len(values)} values"):
            decode_shaped(values, "INT64", shape, "x")


@pytest.mark.parametrize("data", [5, "5", None, {"a": 1}])
def test_data_that_is_no_list_is_refused(data: Any) -> None:
    with pytest.raises(InvalidInput, match="data must be a list"):
        decode_shaped(data, "INT64", (1,), "x")


def test_data_nested_against_its_shape_is_refused() -> None:
    with pytest.raises(InvalidInput, match=r"nested as \[2, 3\], but the shape is \[3, 2\]"):
        decode_shaped([[1, 2, 3], [4, 5, 6]], "INT64", (3, 2), "x")


@pytest.mark.parametrize("datatype", _NUMBERS)
def test_numbers_are_little_endian(datatype: str) -> None:
    array = np.ones(1, DATATYPES[datatype])
    assert encode_binary(array.astype(array.dtype.newbyteorder(">")), datatype) == array.tobytes()
