"""Any JSON value becomes an array or InvalidInput; what becomes an array has lost nothing."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from berth.errors import InvalidInput
from berth.tensors.arrays import DATATYPES, TensorSpec, convert_array, datatype_of, decode_array

WHOLE = [name for name, dtype in DATATYPES.items() if dtype.kind in "iu"]
REAL = ["FP16", "FP32", "FP64"]
datatypes = st.sampled_from(list(DATATYPES))
scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(-(10**400), 10**400)
    | st.floats()
    | st.text(max_size=8)
    | st.dictionaries(st.text(max_size=3), st.integers(), max_size=2)
)
values = st.recursive(scalars, lambda inner: st.lists(inner, max_size=4), max_leaves=12)


@given(values, datatypes)
def test_any_value_is_an_array_or_invalid_input(value: Any, datatype: str) -> None:
    try:
        array = decode_array(value, datatype, "x")
    except InvalidInput as error:
        message = error.message
    else:
        assert array.dtype == DATATYPES[datatype]
        return
    assert message.startswith("x ")
    assert len(message) < 200
    assert "\n" not in message


@pytest.mark.parametrize("datatype", WHOLE)
def test_whole_numbers_up_to_the_border_and_not_beyond(datatype: str) -> None:
    info = np.iinfo(DATATYPES[datatype])
    lowest, highest = int(info.min), int(info.max)
    assert decode_array([lowest, highest], datatype, "x").tolist() == [lowest, highest]
    for beyond in (lowest - 1, highest + 1, float(2**70), -1e300, 10**200):
        with pytest.raises(InvalidInput, match=f"does not fit {datatype}"):
            decode_array([0, beyond], datatype, "x")


@pytest.mark.parametrize("datatype", WHOLE)
@settings(max_examples=25)
@given(data=st.data())
def test_whole_numbers_come_back(datatype: str, data: st.DataObject) -> None:
    info = np.iinfo(DATATYPES[datatype])
    numbers = data.draw(st.lists(st.integers(int(info.min), int(info.max)), max_size=5))
    assert decode_array(numbers, datatype, "x").tolist() == numbers


@given(st.lists(st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=3, max_size=3), max_size=4))
def test_floats_come_back(rows: list[list[float]]) -> None:
    array = decode_array(rows, "FP64", "x")
    assert array.tolist() == rows


@pytest.mark.parametrize(("datatype", "largest", "beyond"), [("FP16", 65519.0, 65520), ("FP32", 3.4028235e38, 3.5e38)])
def test_what_rounds_to_infinity_does_not_fit(datatype: str, largest: float, beyond: float) -> None:
    assert np.isfinite(decode_array([largest, -largest], datatype, "x")).all()
    for value in (beyond, -beyond):
        with pytest.raises(InvalidInput, match=f"does not fit {datatype}"):
            decode_array([value], datatype, "x")


def test_null_is_nan_in_a_float_and_nothing_in_a_whole_number() -> None:
    for datatype in REAL:
        assert np.isnan(decode_array([1, None], datatype, "x")[1])
    with pytest.raises(InvalidInput, match=r"whole number .INT64., got null"):
        decode_array([1, None], "INT64", "x")


def test_a_float_that_is_whole_is_a_whole_number() -> None:
    assert decode_array([1.0, 2], "INT8", "x").tolist() == [1, 2]
    for bad in (1.5, float("inf"), float("nan")):
        with pytest.raises(InvalidInput, match="must be a whole number"):
            decode_array([bad], "INT8", "x")


def test_true_is_one_and_two_is_no_truth() -> None:
    assert decode_array([True, 0], "BOOL", "x").tolist() == [True, False]
    assert decode_array([0.5, True, False], "FP64", "x").tolist() == [0.5, 1.0, 0.0]
    assert decode_array([True, 3], "INT64", "x").tolist() == [1, 3]
    with pytest.raises(InvalidInput, match="does not fit BOOL"):
        decode_array([2], "BOOL", "x")


def test_strings_stay_themselves() -> None:
    text = ["", "a\x00b", "ü\u2028", None]
    assert decode_array(text, "BYTES", "x").tolist() == text
    with pytest.raises(InvalidInput, match=r"a string .BYTES., got 1"):
        decode_array([1], "BYTES", "x")


def test_shapes() -> None:
    assert decode_array(3, "INT8", "x").shape == ()
    assert decode_array([], "INT8", "x").shape == (0,)
    assert decode_array([[], []], "FP64", "x").shape == (2, 0)
    assert decode_array([[[1], [2]]], "INT8", "x").shape == (1, 2, 1)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ([[1, 2], [3]], "ragged: rows have .1, 2. values"),
        ([[1], 2], "mixes lists and single values"),
        ([1, [2]], "got a list of 1"),
        ([{"a": 1}], "got an object"),
        (["1"], "got '1'"),
        ([10**5000], "a whole number of 16610 bits"),
        ([10**309], "does not fit FP64"),
    ],
)
def test_the_error_says_what_was_wrong(value: Any, message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        decode_array(value, "FP64", "x")


def test_deep_nesting_is_refused() -> None:
    value: Any = 1.0
    for _ in range(1000):
        value = [value]
    with pytest.raises(InvalidInput, match="nested deeper than 32"):
        decode_array(value, "FP64", "x")


@pytest.mark.parametrize(
    ("array", "datatype"),
    [
        (np.array([2**53], np.int64), "FP64"),
        (np.array([-(2**63)], np.int64), "FP64"),
        (np.array([2**24], np.uint32), "FP32"),
        (np.array([0.5, np.nan, np.inf], np.float64), "FP16"),
        (np.array([1.5], np.float32), "FP64"),
        (np.array([3.0, -0.0], np.float64), "UINT8"),
        (np.array([-(2.0**63)]), "INT64"),
        (np.array([255], np.int64), "UINT8"),
        (np.array([1.0], ">f8"), "FP64"),
    ],
)
def test_another_width_is_taken_when_nothing_is_lost(array: Any, datatype: str) -> None:
    converted = convert_array(array, datatype, "x")
    assert converted.dtype == DATATYPES[datatype]
    np.testing.assert_array_equal(converted.astype(np.float64), array.astype(np.float64))


@pytest.mark.parametrize(
    ("array", "datatype"),
    [
        (np.array([2**53 + 1], np.int64), "FP64"),
        (np.array([2**63 - 1], np.int64), "FP64"),
        (np.array([2**64 - 1], np.uint64), "FP64"),
        (np.array([2**24 + 1], np.int32), "FP32"),
        (np.array([70000], np.int32), "FP16"),
        (np.array([5.1], np.float64), "FP32"),
        (np.array([1e300], np.float64), "FP32"),
        (np.array([1.5], np.float64), "INT64"),
        (np.array([np.nan], np.float64), "INT64"),
        (np.array([np.inf], np.float64), "UINT64"),
        (np.array([2.0**63], np.float64), "INT64"),
        (np.array([2.0**64], np.float64), "UINT64"),
        (np.array([-1.0], np.float64), "UINT64"),
        (np.array([-1], np.int64), "UINT64"),
        (np.array([2**63], np.uint64), "INT64"),
        (np.array([256], np.int64), "UINT8"),
    ],
)
def test_a_value_that_would_be_lost_is_refused(array: Any, datatype: str) -> None:
    with pytest.raises(InvalidInput, match=f"x has .*, which {datatype} cannot hold exactly"):
        convert_array(array, datatype, "x")


@given(st.lists(st.integers(-(2**63), 2**63 - 1), min_size=1, max_size=3), st.sampled_from([*WHOLE, *REAL]))
def test_converted_whole_numbers_are_equal_or_refused(numbers: list[int], datatype: str) -> None:
    try:
        converted = convert_array(np.array(numbers, np.int64), datatype, "x")
    except InvalidInput:
        return
    assert [int(value) for value in converted.tolist()] == numbers


@given(st.lists(st.floats(), min_size=1, max_size=3), st.sampled_from([*WHOLE, *REAL]))
def test_converted_floats_are_equal_or_refused(numbers: list[float], datatype: str) -> None:
    try:
        converted = convert_array(np.array(numbers), datatype, "x")
    except InvalidInput:
        return
    for value, number in zip(converted.tolist(), numbers, strict=True):
        assert value == number or (np.isnan(value) and np.isnan(number))


def test_a_truth_is_one_or_zero_on_both_sides() -> None:
    assert convert_array(np.array([True, False]), "INT8", "x").tolist() == [1, 0]
    assert convert_array(np.array([1.0, 0.0]), "BOOL", "x").tolist() == [True, False]
    with pytest.raises(InvalidInput, match="has 2, which BOOL cannot hold"):
        convert_array(np.array([1, 2]), "BOOL", "x")


@pytest.mark.parametrize(("dtype", "datatype"), [(object, "FP64"), (np.int64, "BYTES"), (object, "BOOL")])
def test_kinds_do_not_mix(dtype: Any, datatype: str) -> None:
    with pytest.raises(InvalidInput, match=f"but the model accepts {datatype}"):
        convert_array(np.zeros(1, dtype), datatype, "x")


def test_every_datatype_has_its_name_in_either_byte_order() -> None:
    for name, dtype in DATATYPES.items():
        assert datatype_of(dtype) == datatype_of(dtype.newbyteorder(">")) == name
    assert datatype_of(np.dtype("U5")) == "BYTES"
    assert TensorSpec("x", "FP32", (-1,)).columns is None


def test_the_least_whole_number_is_not_taken_for_infinity() -> None:
    with pytest.raises(InvalidInput, match="-9223372036854775808, which FP16 cannot hold exactly"):
        convert_array(np.array([-(2**63)]), "FP16", "x")
