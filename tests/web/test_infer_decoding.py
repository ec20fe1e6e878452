"""A V2 body of one input takes a short way: it must be decoded, or refused, as by the way of all others."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from berth.errors import InvalidInput
from berth.web.infer import decode_request

_SHAPES = st.none() | st.lists(st.integers(-1, 3) | st.booleans() | st.none(), max_size=3) | st.just("4")
_VALUES = st.lists(st.floats(-9, 9) | st.integers(-9, 9) | st.none() | st.text(max_size=2), max_size=4)
_TENSORS = st.fixed_dictionaries(
    {},
    optional={
        "name": st.sampled_from(["x", "", None, 3]),
        "shape": _SHAPES | st.just([1, 2]) | st.just([2]),
        "datatype": st.sampled_from(["FP64", "INT64", "BOOL", "BYTES", "FP8", None]),
        "data": _VALUES | st.lists(_VALUES, max_size=2) | st.just([1.5, 2]) | st.just("data"),
        "parameters": st.just({}) | st.just({"binary_data_size": 8}) | st.none() | st.just(1),
    },
)
_INPUTS: st.SearchStrategy[Any] = st.lists(_TENSORS | st.just(7), max_size=2) | st.none() | st.just({})
_WHOLE = {"name": "x", "shape": [1, 2], "datatype": "FP64", "data": [1.5, 2]}


def outcome(document: dict[str, Any]) -> Any:
    try:
        request = decode_request(document)
    except InvalidInput as error:
        return error.message
    arrays = {name: (array.dtype, array.shape, repr(array.tolist())) for name, array in request.inputs.items()}
    return arrays, request.id, request.outputs, dict(request.binary), request.binary_default, request.frame


@given(_INPUTS)
def test_one_input_is_decoded_as_the_others(inputs: Any) -> None:
    assert outcome({"inputs": inputs}) == outcome({"inputs": inputs, "id": None})


@given(_TENSORS.map(lambda some: _WHOLE | some))
def test_an_input_with_some_parts_changed(tensor: dict[str, Any]) -> None:
    assert outcome({"inputs": [tensor]}) == outcome({"inputs": [tensor], "id": None})
