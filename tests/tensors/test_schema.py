"""Every form in which rows may come, for a matrix, a frame and other tensors; any other value is InvalidInput."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from berth.errors import InvalidInput, UnknownOutput
from berth.tensors.arrays import TensorSpec
from berth.tensors.schema import (
    check_tensors,
    choose_outputs,
    column_names,
    decode_features,
    decode_matrix,
    decode_tensors,
)

MATRIX = (TensorSpec("features", "FP64", (-1, 2), ("a", "b")),)
NAMELESS = (TensorSpec("features", "FP64", (-1, 2)),)
FRAME = (TensorSpec("age", "FP64", (-1,)), TensorSpec("city", "BYTES", (-1,)))
TEXT = (TensorSpec("text", "BYTES", (-1,)),)
IMAGE = (TensorSpec("image", "UINT8", (-1, 2, 2)),)
PAIR = (TensorSpec("left", "FP32", (-1, 2)), TensorSpec("right", "INT64", (-1, 1)))
EVERY = {"matrix": MATRIX, "nameless": NAMELESS, "frame": FRAME, "text": TEXT, "image": IMAGE, "pair": PAIR}


def listed(tensors: Any) -> dict[str, Any]:
    """Tensors as lists."""
    return {name: array.tolist() for name, array in tensors.items()}


@pytest.mark.parametrize(
    ("features", "specs", "wanted"),
    [
        ([1, 2], MATRIX, [[1, 2]]),
        ([[1, 2], [3, 4]], MATRIX, [[1, 2], [3, 4]]),
        ({"b": 2, "a": 1}, MATRIX, [[1, 2]]),
        ([{"b": 2, "a": 1}, {"a": 3, "b": 4}], MATRIX, [[1, 2], [3, 4]]),
        ([1, 2], NAMELESS, [[1, 2]]),
        ([[1, 2]], NAMELESS, [[1, 2]]),
    ],
)
def test_rows_of_a_matrix(features: Any, specs: Sequence[TensorSpec], wanted: Any) -> None:
    assert listed(decode_features(features, specs)) == {"features": wanted}


@pytest.mark.parametrize(
    "features",
    [[30, "Rome"], [[30, "Rome"]], {"city": "Rome", "age": 30}, [{"city": "Rome", "age": 30}]],
)
def test_rows_of_a_frame(features: Any) -> None:
    assert listed(decode_features(features, FRAME)) == {"age": [30.0], "city": ["Rome"]}


@pytest.mark.parametrize("features", [["one", "two"], [["one"], ["two"]], [{"text": "one"}, {"text": "two"}]])
def test_rows_of_one_column(features: Any) -> None:
    assert listed(decode_features(features, TEXT)) == {"text": ["one", "two"]}


@pytest.mark.parametrize("features", [[[1, 2], [3, 4]], [[[1, 2], [3, 4]]]])
def test_an_image_with_or_without_its_list(features: Any) -> None:
    assert listed(decode_features(features, IMAGE)) == {"image": [[[1, 2], [3, 4]]]}


@pytest.mark.parametrize(
    ("features", "specs", "message"),
    [
        (None, MATRIX, "must be a list or an object, got null"),
        ("1,2", MATRIX, "got '1,2'"),
        ([], MATRIX, "empty; send at least one row"),
        ({}, MATRIX, "missing column 'a', 'b'"),
        ({"a": 1, "c": 2}, MATRIX, "missing column 'b'; the model expects 'a', 'b'"),
        ({"a": 1, "b": 2, "c": 3}, MATRIX, "unknown column 'c'"),
        ({"a": 1, "b": 2}, NAMELESS, "columns have no names; send rows as lists"),
        ([{"a": 1, "b": 2}, [1, 2]], MATRIX, "mixes objects with other values"),
        ([[1, 2], [1]], MATRIX, "ragged"),
        (["1", "2"], MATRIX, "must be a number .FP64., got '1'"),
        ([{"a": [1], "b": [2]}], MATRIX, "single values"),
        ({"a": [[1]], "b": 2}, MATRIX, "single values"),
        ([30], FRAME, "every row must be a list of 2 values .'age', 'city'., got 1 values"),
        ([[30, "Rome"], 1], FRAME, "got 1"),
        ({"age": 30, "city": 1}, FRAME, "column 'city' must be a string"),
        ([{"age": [30], "city": ["Rome"]}], FRAME, "list of single values"),
        ([[1, 2]], PAIR, "has several inputs"),
        ([[1, 256]], IMAGE, "does not fit UINT8"),
    ],
)
def test_the_error_says_what_was_wrong(features: Any, specs: Sequence[TensorSpec], message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        decode_features(features, specs)


scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3)
columns = st.sampled_from(["a", "b", "age", "city", "text", "features", "left"])
documents = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(columns, inner, max_size=3), max_leaves=10
)


@given(documents, st.sampled_from(list(EVERY)))
def test_any_features_are_tensors_or_invalid_input(features: Any, kind: str) -> None:
    specs = EVERY[kind]
    try:
        tensors = check_tensors(decode_features(features, specs), specs, 100)
    except InvalidInput:
        return
    assert set(tensors) == {spec.name for spec in specs}
    assert len({len(array) for array in tensors.values()}) == 1


@given(st.dictionaries(columns, documents, max_size=3), st.sampled_from(list(EVERY)))
def test_any_inputs_are_tensors_or_invalid_input(inputs: Any, kind: str) -> None:
    specs = EVERY[kind]
    try:
        tensors = check_tensors(decode_tensors(inputs, specs), specs, 100)
    except InvalidInput:
        return
    assert set(tensors) == {spec.name for spec in specs}


def test_inputs_by_tensor_or_by_column() -> None:
    assert listed(decode_tensors({"features": [[1, 2]]}, MATRIX)) == {"features": [[1, 2]]}
    assert listed(decode_tensors({"b": [2, 4], "a": [1, 3]}, MATRIX)) == {"features": [[1, 2], [3, 4]]}
    assert listed(decode_tensors({"left": [[1, 2]], "right": [[3]]}, PAIR)) == {"left": [[1, 2]], "right": [[3]]}
    with pytest.raises(InvalidInput, match="missing input 'right'"):
        decode_tensors({"left": [[1, 2]]}, PAIR)
    with pytest.raises(InvalidInput, match="unknown input 'up'"):
        decode_tensors({"left": 1, "right": 2, "up": 3}, PAIR)
    with pytest.raises(InvalidInput, match="equally long"):
        decode_tensors({"a": [1], "b": [1, 2]}, MATRIX)


def test_rows_in_an_order_of_their_own() -> None:
    assert listed(decode_matrix([[2, 1]], MATRIX, ["b", "a"])) == {"features": [[1, 2]]}
    assert listed(decode_matrix([["Rome", 30]], FRAME, ["city", "age"])) == {"age": [30], "city": ["Rome"]}
    assert listed(decode_matrix([[1, 2]], NAMELESS, ["x", "y"])) == {"features": [[1, 2]]}
    with pytest.raises(InvalidInput, match="is duplicated"):
        decode_matrix([[1, 2, 3]], MATRIX, ["a", "b", "a"])


def test_the_width_is_told_with_the_names() -> None:
    with pytest.raises(InvalidInput, match="features: got 3 values in a row, want 2: 'a', 'b'"):
        check_tensors(decode_features([1, 2, 3], MATRIX), MATRIX, 10)


def test_shapes_and_rows_are_checked() -> None:
    rows = np.zeros((3, 2))
    assert check_tensors({"features": rows}, MATRIX, 3)["features"] is rows
    with pytest.raises(InvalidInput, match="3 rows in one request, but the maximum is 2"):
        check_tensors({"features": rows}, MATRIX, 2)
    with pytest.raises(InvalidInput, match="no rows; send at least one"):
        check_tensors({"features": rows[:0]}, MATRIX, 2)
    with pytest.raises(InvalidInput, match=r"got shape \[2\], want \[-1, 2\]"):
        check_tensors({"features": rows[0]}, MATRIX, 2)
    with pytest.raises(InvalidInput, match=r"different numbers of rows: \[1, 2\]"):
        check_tensors({"left": np.zeros((1, 2), "f4"), "right": np.zeros((2, 1), "i8")}, PAIR, 9)


def test_names_of_columns() -> None:
    assert column_names(MATRIX) == ("a", "b")
    assert column_names(FRAME) == ("age", "city")
    assert column_names(NAMELESS) is column_names(IMAGE) is None


def test_many_names_are_cut_short() -> None:
    wide = (TensorSpec("features", "FP64", (-1, 5000), tuple(f"column {at} {'x' * 900}" for at in range(5000))),)
    with pytest.raises(InvalidInput, match="missing column") as caught:
        decode_features({"x" * 100_000: 1}, wide)
    assert len(caught.value.message) < 4000


def test_outputs_are_chosen_in_the_clients_order() -> None:
    specs = (TensorSpec("prediction", "INT64", (-1,)), TensorSpec("probabilities", "FP64", (-1, 3)))
    assert choose_outputs(["probabilities", "prediction"], specs) == ("probabilities", "prediction")
    with pytest.raises(UnknownOutput, match="'scores'; the model has 'prediction', 'probabilities'"):
        choose_outputs(["prediction", "scores"], specs)
    for wrong in ([], "prediction", [1], None, ["prediction", "prediction"]):
        with pytest.raises(InvalidInput):
            choose_outputs(wrong, specs)
