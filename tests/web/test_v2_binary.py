"""The binary tensor extension: tensors behind the JSON, and bodies whose sizes lie."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pytest
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from berth.tensors.arrays import DATATYPES, Array
from berth.tensors.binary import decode_binary, encode_binary
from web.asking import refused, tensor, told

Rows = Sequence[Sequence[float]]
LENGTH = "Inference-Header-Content-Length"
IRIS, ECHO = "/v2/models/iris/infer", "/v2/models/echo/infer"


def binary_input(name: str, array: Array, datatype: str, size: int | None = None) -> tuple[dict[str, Any], bytes]:
    """One input's JSON and its bytes; `size` may tell a lie."""
    data = encode_binary(array, datatype)
    parameters = {"binary_data_size": len(data) if size is None else size}
    return {"name": name, "shape": list(array.shape), "datatype": datatype, "parameters": parameters}, data


def post(
    client: FlaskClient, path: str, document: Mapping[str, Any] | None, tail: bytes = b"", length: object = None
) -> TestResponse:
    """Send JSON with bytes behind it; `length` may tell a lie."""
    head = b"" if document is None else json.dumps(document).encode()
    headers = {LENGTH: str(len(head) if length is None else length)}
    return client.post(path, data=head + tail, headers=headers, content_type="application/octet-stream")


def parse(answer: TestResponse) -> dict[str, tuple[str, Array]]:
    """Each output's datatype and array, read from the JSON or from the bytes behind it."""
    assert answer.status_code == 200, answer.data
    length = int(answer.headers.get(LENGTH, len(answer.data)))
    document, tail = json.loads(answer.data[:length]), answer.data[length:]
    found = {}
    for output in document["outputs"]:
        if "data" in output:
            array = np.array(output["data"], DATATYPES[output["datatype"]]).reshape(output["shape"])
        else:
            size = output["parameters"]["binary_data_size"]
            array = decode_binary(tail[:size], output["datatype"], tuple(output["shape"]), output["name"])
            tail = tail[size:]
        found[output["name"]] = (output["datatype"], array)
    assert tail == b""
    return found


def all_datatypes() -> dict[str, Array]:
    """Two values of each datatype, among them the ends of its range."""
    arrays: dict[str, Array] = {"BOOL": np.array([[True, False]]), "BYTES": np.array([["ä\n", ""]], object)}
    for datatype, dtype in DATATYPES.items():
        if dtype.kind in "iu":
            arrays[datatype] = np.array([[np.iinfo(dtype).min, np.iinfo(dtype).max]], dtype)
        elif dtype.kind == "f":
            arrays[datatype] = np.array([[np.finfo(dtype).max, -0.5]], dtype)
    return arrays


def test_all_thirteen_datatypes_go_through(echo_client: FlaskClient) -> None:
    arrays = all_datatypes()
    assert set(arrays) == set(DATATYPES)
    sent = [binary_input(datatype.lower(), array, datatype) for datatype, array in arrays.items()]
    document = {"inputs": [head for head, _ in sent], "parameters": {"binary_data_output": True}}
    answer = post(echo_client, ECHO, document, b"".join(data for _, data in sent))
    assert answer.content_type == "application/octet-stream"
    assert answer.content_length == len(answer.data)
    for datatype, array in parse(answer).values():
        np.testing.assert_array_equal(array, arrays[datatype])


def test_json_and_binary_mix_in_any_order(echo_client: FlaskClient) -> None:
    heads, tail = [], b""
    for number, (datatype, array) in enumerate(all_datatypes().items()):
        if number % 2:
            heads.append(tensor(datatype.lower(), array.tolist(), array.shape, datatype))
        else:
            head, data = binary_input(datatype.lower(), array, datatype)
            heads, tail = [*heads, head], tail + data
    outputs = [{"name": "bytes", "parameters": {"binary_data": True}}, {"name": "int8"}, {"name": "uint64"}]
    found = parse(post(echo_client, ECHO, {"inputs": heads, "outputs": outputs}, tail))
    assert list(found) == ["bytes", "int8", "uint64"]
    for datatype, array in found.values():
        np.testing.assert_array_equal(array, all_datatypes()[datatype])


def test_a_not_a_number_stays_one_in_binary_and_is_null_in_json(echo_client: FlaskClient) -> None:
    rest = [
        tensor(each.lower(), [""] if each == "BYTES" else [0], [1, 1], each) for each in DATATYPES if each != "FP32"
    ]
    head, data = binary_input("fp32", np.array([[np.nan, np.inf, -np.inf]], np.float32), "FP32")
    for binary in (True, False):
        outputs = [{"name": "fp32", "parameters": {"binary_data": binary}}]
        answer = post(echo_client, ECHO, {"inputs": [*rest, head], "outputs": outputs}, data)
        if binary:
            np.testing.assert_array_equal(parse(answer)["fp32"][1], [[np.nan, np.inf, -np.inf]])
        else:
            assert told(answer)["outputs"][0]["data"] == [None, None, None]


@pytest.mark.parametrize(
    ("default", "chosen", "binary"),
    [(None, None, False), (True, None, True), (None, True, True), (True, False, False), (False, True, True)],
)
def test_an_outputs_own_word_wins(
    client: FlaskClient, iris_rows: Rows, default: bool | None, chosen: bool | None, binary: bool
) -> None:
    output = {"name": "prediction"} if chosen is None else {"name": "prediction", "parameters": {"binary_data": chosen}}
    body = {"inputs": [tensor("features", iris_rows, [3, 4])], "outputs": [output]}
    answer = client.post(
        IRIS, json=body if default is None else {**body, "parameters": {"binary_data_output": default}}
    )
    assert (LENGTH in answer.headers) is binary
    assert parse(answer)["prediction"][1].tolist() == [0, 1, 2]


def test_kserves_iris_payloads_in_binary(client: FlaskClient) -> None:
    rows = [[6.8, 2.8, 4.8, 1.4], [6.0, 3.4, 4.5, 1.6]]
    body = {"inputs": [tensor("input-0", rows, [2, 4], "FP32")]}
    one = {**body, "outputs": [{"name": "output-0", "parameters": {"binary_data": True}}]}
    assert parse(client.post(IRIS, json=one))["output-0"][1].tolist() == [1, 1]
    every = parse(client.post(IRIS, json={**body, "parameters": {"binary_data_output": True}}))
    assert next(iter(every.values()))[1].tolist() == [1, 1]


def test_a_frame_goes_through_in_binary(client: FlaskClient) -> None:
    sent = [
        binary_input("age", np.array([50.0, 20.0], np.float32), "FP32"),
        binary_input("city", np.array([["Rome"], ["Oslo"]], object), "BYTES"),
        binary_input("member", np.array([1, 0], np.uint8), "UINT8"),
    ]
    tail = b"".join(data for _, data in sent)
    answer = post(client, "/v2/models/people/infer", {"inputs": [head for head, _ in sent]}, tail)
    assert told(answer)["outputs"][0]["data"] == ["yes", "no"]


def test_no_content_type_and_json_are_taken_too(client: FlaskClient, iris_rows: Rows) -> None:
    head, data = binary_input("features", np.array(iris_rows), "FP64")
    text = json.dumps({"inputs": [head]}).encode()
    for content_type in (None, "application/json"):
        answer = client.post(IRIS, data=text + data, headers={LENGTH: str(len(text))}, content_type=content_type)
        assert told(answer)["outputs"][0]["data"] == [0, 1, 2]
    refused(
        client.post(IRIS, data=text + data, headers={LENGTH: str(len(text))}, content_type="text/plain"),
        415,
        "unsupported_media_type",
    )


def test_a_raw_body_is_the_only_input(client: FlaskClient, iris_rows: Rows) -> None:
    answer = post(client, IRIS, None, np.array(iris_rows).tobytes(), length=0)
    found = parse(answer)
    assert LENGTH in answer.headers
    assert found["prediction"][1].tolist() == [0, 1, 2]
    assert found["probabilities"][1].shape == (3, 3)


def test_a_raw_body_that_is_no_whole_row_is_refused(client: FlaskClient) -> None:
    assert "33 bytes" in refused(post(client, IRIS, None, bytes(33), length=0))
    assert "no rows" in refused(post(client, IRIS, None, b"", length=0))


def test_a_raw_body_for_several_inputs_is_refused(client: FlaskClient) -> None:
    error = refused(post(client, "/v2/models/people/infer", None, bytes(32), length=0))
    assert "one input" in error
    assert "city" in error


@pytest.mark.parametrize(
    ("size", "extra", "message"),
    [
        (95, b"", "95 bytes of binary data, but FP64 of shape [3, 4] needs 96"),
        (97, b"", "binary_data_size is 97, but only 96 bytes are left"),
        (None, b"x", "1 bytes of binary data are left over"),
        (0, b"", "0 bytes of binary data"),
        (2**62, b"", "only 96 bytes are left"),
        (-1, b"", "binary_data_size must be a whole number from 0 up"),
        (96.0, b"", "binary_data_size must be a whole number"),
        ("96", b"", "binary_data_size must be a whole number"),
        (True, b"", "binary_data_size must be a whole number"),
    ],
)
def test_sizes_that_do_not_add_up(client: FlaskClient, iris_rows: Rows, size: Any, extra: bytes, message: str) -> None:
    head, data = binary_input("features", np.array(iris_rows), "FP64", size)
    assert message in refused(post(client, IRIS, {"inputs": [head]}, data + extra))


@pytest.mark.parametrize("length", ["9999999", "-1", "x", "", "1.5", "+5", "٣", "9" * 30])
def test_a_header_length_that_cannot_be(client: FlaskClient, iris_rows: Rows, length: str) -> None:
    head, data = binary_input("features", np.array(iris_rows), "FP64")
    body = json.dumps({"inputs": [head]}).encode() + data
    answer = client.open(
        IRIS, method="POST", data=body, environ_overrides={"HTTP_INFERENCE_HEADER_CONTENT_LENGTH": length}
    )
    assert LENGTH in refused(answer)


def test_a_header_length_that_cuts_the_json(client: FlaskClient, iris_rows: Rows) -> None:
    head, data = binary_input("features", np.array(iris_rows), "FP64")
    refused(post(client, IRIS, {"inputs": [head]}, data, length=20), 400, "malformed_json")


def test_strings_whose_lengths_lie(client: FlaskClient) -> None:
    head, _ = binary_input("city", np.array(["Rome"], object), "BYTES")
    rest = [tensor("age", [1.0]), tensor("member", [1.0])]
    for length in (3, 5, 2**32 - 1):
        answer = post(
            client, "/v2/models/people/infer", {"inputs": [head, *rest]}, length.to_bytes(4, "little") + b"Rome"
        )
        assert "city" in refused(answer)


def test_data_and_a_binary_size_together_are_refused(client: FlaskClient) -> None:
    head, data = binary_input("features", np.zeros((1, 4)), "FP64")
    assert "both" in refused(post(client, IRIS, {"inputs": [{**head, "data": [0, 0, 0, 0]}]}, data))


def test_a_bool_that_is_neither_is_refused(echo_client: FlaskClient) -> None:
    head = {"name": "bool", "shape": [1, 1], "datatype": "BOOL", "parameters": {"binary_data_size": 1}}
    assert "0 or 1" in refused(post(echo_client, ECHO, {"inputs": [head]}, b"\x02"))
