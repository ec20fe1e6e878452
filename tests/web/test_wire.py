"""Bytes to Python and back: bounded reads, JSON that is read exactly, answers that any client can read."""

from __future__ import annotations

import gzip
import io
import json
from typing import Any

import numpy as np
import pytest
from flask.testing import FlaskClient
from hypothesis import given
from hypothesis import strategies as st

from berth.errors import MalformedJson
from berth.tensors.codec import decode_json, encode_json
from web.asking import MakeApp, refused, told

GOOD = {"features": [5.1, 3.5, 1.4, 0.2]}
BODY = json.dumps(GOOD).encode()

json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(codec="utf-8")),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(st.characters(codec="utf-8")), inner),
    max_leaves=10,
)  # fmt: skip


@given(json_values)
def test_json_is_read_as_it_was_written(value: Any) -> None:
    assert decode_json(json.dumps(value).encode()) == value
    assert decode_json(json.dumps(value, ensure_ascii=False).encode()) == value


@given(st.lists(st.tuples(st.sampled_from(["a", "b", "c:", 'd"', ""]), json_values), max_size=4))
def test_a_key_that_stands_twice_is_always_found(pairs: list[tuple[str, Any]]) -> None:
    keys = [key for key, _ in pairs]
    members = ",".join(f"{json.dumps(key)}:{json.dumps(value)}" for key, value in pairs)
    body = f'{{"rows":[1,{{{members}}}]}}'.encode()
    if len(set(keys)) == len(keys):
        assert decode_json(body) == {"rows": [1, dict(pairs)]}
        return
    with pytest.raises(MalformedJson, match="is duplicated"):
        decode_json(body)


@given(st.binary(max_size=40))
def test_any_bytes_are_json_or_malformed(body: bytes) -> None:
    try:
        value = decode_json(body)
    except MalformedJson as error:
        message = error.message
    else:
        assert json.loads(body) == value
        return
    assert "\n" not in message


def test_colons_in_strings_are_no_keys() -> None:
    assert decode_json(b'{"a:b": "c:d:e", "f": [{"g": "::"}]}') == {"a:b": "c:d:e", "f": [{"g": "::"}]}


def test_the_depth_is_bounded_in_every_direction() -> None:
    assert decode_json(b"[" * 60 + b"]" * 60)
    for deep in (b"[" * 70 + b"]" * 70, b'{"a":' * 70 + b"1" + b"}" * 70, b"[" * 100_000):
        with pytest.raises(MalformedJson):
            decode_json(deep)
    with pytest.raises(MalformedJson, match="nested deeper than 64"):
        decode_json(b'{"a":[' * 40 + b"]}" * 40)


def test_arrays_and_scalars_have_a_json_form() -> None:
    document = {
        "floats": np.array([[1.5, np.nan], [np.inf, -np.inf]]),
        "half": np.array([0.5], np.float16),
        "whole": np.array([2**64 - 1], np.uint64),
        "truth": np.array([True]),
        "words": np.array(["a", "ü", None, b"\xff"], object),
        "text": np.array(["one", "two"]),
        "turned": np.arange(6).reshape(2, 3).T,
        "scalar": np.float32(0.25),
        "none": np.zeros((0, 3)),
    }
    assert json.loads(encode_json(document)) == {
        "floats": [[1.5, None], [None, None]],
        "half": [0.5],
        "whole": [2**64 - 1],
        "truth": [True],
        "words": ["a", "ü", None, "\ufffd"],
        "text": ["one", "two"],
        "turned": [[0, 3], [1, 4], [2, 5]],
        "scalar": 0.25,
        "none": [],
    }


@given(st.lists(st.floats(allow_nan=False, allow_infinity=False), max_size=5))
def test_floats_are_written_exactly(values: list[float]) -> None:
    assert json.loads(encode_json(np.array(values, np.float64))) == values


def test_a_good_gzip_is_read(client: FlaskClient) -> None:
    answer = client.post("/predict", data=gzip.compress(BODY), headers={"Content-Encoding": "GZIP"})
    assert told(answer)["prediction"] == [0]
    assert told(client.post("/predict", data=BODY, headers={"Content-Encoding": "identity"}))


def test_the_limit_is_exact_sent_or_unpacked(make_app: MakeApp, store: Any) -> None:
    client = make_app(store, max_body_bytes=len(BODY))
    packed = {"Content-Encoding": "gzip"}
    assert told(client.post("/predict", data=BODY))
    refused(client.post("/predict", data=BODY + b" "), 413, "body_too_large")
    refused(client.post("/predict", data=gzip.compress(BODY + b" "), headers=packed), 413, "body_too_large")
    refused(client.post("/predict", data=gzip.compress(b"0" * 10_000_000), headers=packed), 413, "body_too_large")


@pytest.mark.parametrize("content_type", ["application/json", "APPLICATION/JSON; charset=utf-8", "", None])
def test_json_or_no_type_at_all(client: FlaskClient, content_type: str | None) -> None:
    assert told(client.post("/predict", data=BODY, content_type=content_type))


@pytest.mark.parametrize("content_type", ["text/plain", "application/xml", "application/json-seq", "x"])
def test_other_types(client: FlaskClient, content_type: str) -> None:
    message = refused(client.post("/predict", data=BODY, content_type=content_type), 415, "unsupported_media_type")
    assert f"Content-Type {content_type!r} is not supported; send application/json" in message


class Stream(io.RawIOBase):
    """A body that tells how much of it was read, and may break."""

    def __init__(self, body: bytes, error: Exception | None = None) -> None:
        self._body, self._error, self.taken = io.BytesIO(body), error, 0

    def read(self, size: int = -1) -> bytes:
        assert 0 < size <= 1 << 20
        piece = self._body.read(size)
        self.taken += len(piece)
        if not piece and self._error is not None:
            raise self._error
        return piece


def post_stream(client: FlaskClient, stream: Stream, length: int | None) -> Any:
    """A POST whose body is a stream; a length of None is a chunked one."""
    environ = {"wsgi.input": stream, "CONTENT_TYPE": "application/json", "CONTENT_LENGTH": str(length or "")}
    return client.post("/predict", environ_overrides=environ)


def test_too_long_a_body_is_refused_before_it_is_read(client: FlaskClient) -> None:
    stream = Stream(b"x" * 100)
    refused(post_stream(client, stream, 10**12), 413, "body_too_large")
    assert stream.taken == 0


def test_a_body_without_a_length_is_read_up_to_the_limit(make_app: MakeApp, store: Any) -> None:
    client = make_app(store, max_body_bytes=3_000_000)
    assert told(post_stream(client, Stream(BODY), None))
    stream = Stream(b" " * 10_000_000)
    refused(post_stream(client, stream, None), 413, "body_too_large")
    assert stream.taken == 3_000_001


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (TimeoutError("slow"), 408, "body_timeout"),
        (ConnectionResetError("gone"), 400, "invalid_input"),
        (ValueError("no chunk"), 400, "invalid_input"),
    ],
)
def test_a_body_that_does_not_come(client: FlaskClient, error: Exception, status: int, code: str) -> None:
    answer = post_stream(client, Stream(BODY[:5], error), len(BODY))
    refused(answer, status, code)
    assert answer.headers["Connection"] == "close"


def test_a_body_that_ends_early(client: FlaskClient) -> None:
    message = refused(post_stream(client, Stream(BODY[:5]), len(BODY)))
    assert f"ended after 5 of {len(BODY)} bytes" in message
