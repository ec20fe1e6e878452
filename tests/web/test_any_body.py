"""Whatever the body is, no prediction route answers with 500."""

from __future__ import annotations

import json
from typing import Any

import pytest
from flask.testing import FlaskClient
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from berth.tensors.arrays import DATATYPES

_NAMES = ["features", "age", "city", "member", "sepal length (cm)", "prediction", "x"]
_SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.sampled_from([0, 1, 2, 4, 10**200, -(2**63), 2**64, "FP64", "BYTES", 1e308]),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(max_size=5),
)
_VALUES: st.SearchStrategy[Any] = st.recursive(
    _SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(_NAMES), inner, max_size=4),
    max_leaves=12,
)


def _object(**known: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """An object with some of these keys, sometimes with another value under one of them."""
    return st.fixed_dictionaries({}, optional={name: values | _VALUES for name, values in known.items()})


_PARAMETERS = _object(binary_data_size=st.integers(-1, 40), binary_data=st.booleans(), binary_data_output=st.booleans())
_TENSOR = _object(
    name=st.sampled_from(_NAMES),
    shape=st.lists(st.integers(-1, 4), max_size=3),
    datatype=st.sampled_from(sorted(DATATYPES)),
    data=st.lists(st.integers(0, 9) | st.text(max_size=2), max_size=8),
    parameters=_PARAMETERS,
)
_INFER = _object(
    id=st.text(max_size=3),
    inputs=st.lists(_TENSOR, max_size=3),
    outputs=st.lists(_object(name=st.sampled_from(_NAMES), parameters=_PARAMETERS), max_size=2),
    parameters=_PARAMETERS,
)
_ROWS = _object(instances=_VALUES, inputs=_VALUES, parameters=_VALUES)
_FRAMES = _object(
    dataframe_split=_object(columns=st.lists(st.sampled_from(_NAMES)), data=_VALUES, index=_VALUES),
    dataframe_records=_VALUES,
    instances=_VALUES,
    inputs=_VALUES,
    params=_VALUES,
)
_many = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def _check(client: FlaskClient, path: str, data: bytes, **more: Any) -> None:
    answer = client.post(path, data=data, **more)
    assert answer.status_code < 500, (data, answer.data)


@pytest.mark.parametrize("name", ["iris", "people"])
@_many
@given(body=_INFER, tail=st.binary(max_size=40))
def test_v2(client: FlaskClient, name: str, body: Any, tail: bytes) -> None:
    text = json.dumps(body).encode()
    _check(client, f"/v2/models/{name}/infer", text, content_type="application/json")
    headers = {"Inference-Header-Content-Length": str(len(text))}
    _check(client, f"/v2/models/{name}/infer", text + tail, headers=headers)
    _check(client, f"/v2/models/{name}/infer", tail, headers={"Inference-Header-Content-Length": "0"})


@pytest.mark.parametrize("name", ["iris", "people"])
@_many
@given(body=_ROWS)
def test_v1(client: FlaskClient, name: str, body: Any) -> None:
    _check(client, f"/v1/models/{name}:predict", json.dumps(body).encode(), content_type="application/json")


@_many
@given(body=_FRAMES | _VALUES, text=st.binary(max_size=40))
def test_invocations(client: FlaskClient, body: Any, text: bytes) -> None:
    _check(client, "/invocations", json.dumps(body).encode(), content_type="application/json")
    _check(client, "/invocations", text, content_type="text/csv")
