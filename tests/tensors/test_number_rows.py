"""Bodies of numbers, parsed straight into numpy: the same values as the exact path's, or left to it."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from berth.errors import InvalidInput
from berth.tensors.arrays import TensorSpec
from berth.tensors.binary import decode_shaped
from berth.tensors.number_rows import decode_numbers
from berth.tensors.schema import decode_features

FLOATS = st.floats(allow_nan=False, allow_infinity=False)
NUMBERS = FLOATS | st.integers(-(2**63), 2**64 - 1)
WIDTHS = st.integers(1, 5)
ROWS = WIDTHS.flatmap(lambda width: st.lists(st.lists(NUMBERS, min_size=width, max_size=width), min_size=1))
LEAVES = st.none() | st.booleans() | NUMBERS | st.text(max_size=5)
NAMES = st.text(max_size=3) | st.sampled_from(["data", "inputs"])
ANYTHING = st.recursive(
    LEAVES, lambda inner: st.lists(inner) | st.dictionaries(st.text(max_size=3), inner), max_leaves=20
)


def as_lists(value: Any) -> Any:
    """A document with its arrays as lists again."""
    if isinstance(value, np.ndarray):
        return value.tolist()
    if isinstance(value, dict):
        return {name: as_lists(item) for name, item in value.items()}
    return [as_lists(item) for item in value] if isinstance(value, list) else value


@given(ROWS)
def test_rows_are_the_exact_paths(rows: list[list[float]]) -> None:
    found = decode_numbers(json.dumps({"features": rows, "model": "m", "parameters": {"weights": [0.5] * 20}}).encode())
    exact = np.array([[float(value) for value in row] for row in rows])
    if found is None:  # whole numbers alone
        assert (exact == np.rint(exact)).all()
    else:
        np.testing.assert_array_equal(found["features"], exact)
        assert np.array_equal(np.signbit(found["features"]), np.signbit(exact))
        assert found["model"] == "m"
        assert found["parameters"] == {"weights": [0.5] * 20}


@given(ANYTHING)
def test_any_document_is_the_same_or_left_to_the_exact_path(document: Any) -> None:
    body = orjson.dumps(document) if not _beyond_orjson(document) else json.dumps(document).encode()
    found = decode_numbers(body)
    assert found is None or as_lists(found) == json.loads(body)


def _beyond_orjson(document: Any) -> bool:
    try:
        orjson.dumps(document)
    except TypeError:
        return True
    return False


@given(st.binary(max_size=200))
def test_any_bytes_are_left_to_the_exact_path(body: bytes) -> None:
    if decode_numbers(body) is not None:
        json.loads(body)


@pytest.mark.parametrize(
    "body",
    [
        b'{"data":[[1.5,2],[3]]}',
        b'{"data":[[1.5],[[2]]]}',
        b'{"data":[[1.5,2],3]}',
        b'{"data":[[1.5,null]]}',
        b'{"data":[[1.5,true]]}',
        b'{"data":[[1.5,"2"]]}',
        b'{"data":[[1,2],[3,4]]}',
        b'{"data":[[1.5,NaN]]}',
        b'{"data":[[1.5,1e400]]}',
        b'{"data":[[1.5,36893488147419103232]]}',
        b'{"a":1,"a":[[1.5,2]]}',
        b'{"b":{"a":1,"a":2},"inputs":[[1.5,2]]}',
        b'{"data":[[1.5,2]]} {}',
        b'{"data":[[1.5,2]',
        b'{"a":"\xff","data":[[1.5,2]]}',
        b'{"a":"[","data":[[1.5,2]]}',
        b'{"a":1.5,"a\\u0000":[[1.5,2]]}',
        b'{"a":' * 20 + b"1.5" + b"}" * 20,
        b"",
    ],
)
def test_what_is_left_to_the_exact_path(body: bytes) -> None:
    assert decode_numbers(body) is None


def test_threads_do_not_mix_their_bodies() -> None:
    def check(seed: int) -> bool:
        rows = np.random.default_rng(seed).normal(size=(200, 7))
        return bool(np.array_equal(decode_numbers(orjson.dumps({"features": rows.tolist()}))["features"], rows))

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(check, range(200)))


SPECS = [TensorSpec("x", datatype, (-1, 3), ("a", "b", "c")) for datatype in ("FP64", "FP32", "FP16", "INT64", "BOOL")]
FRAME = [TensorSpec(name, "FP64", (-1,)) for name in "abc"]
TRIPLES = st.lists(st.lists(NUMBERS, min_size=3, max_size=3), min_size=1, max_size=5)


def _outcome(decode: Callable[[Any], dict[str, Any]], value: Any) -> Any:
    try:
        return {name: (array.dtype, array.shape, array.tobytes()) for name, array in decode(value).items()}
    except InvalidInput as error:
        return re.sub(r"got .*|-?\d[\d.e+-]*", "", error.message)  # a number may be written in another way


@pytest.mark.parametrize("specs", [*([spec] for spec in SPECS), FRAME], ids=lambda specs: specs[0].datatype)
@given(rows=TRIPLES)
def test_an_array_means_what_its_lists_mean(specs: list[TensorSpec], rows: list[list[float]]) -> None:
    rows[0][0] = 0.5
    array = np.array([[float(value) for value in row] for row in rows])
    assert _outcome(lambda value: decode_features(value, specs), array) == _outcome(
        lambda value: decode_features(value, specs), rows
    )
    shape = array.shape
    assert _outcome(lambda value: {"x": decode_shaped(value, specs[0].datatype, shape, "x")}, array) == _outcome(
        lambda value: {"x": decode_shaped(value, specs[0].datatype, shape, "x")}, rows
    )
