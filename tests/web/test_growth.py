"""Work on request data grows as the data does: four times as much takes about four times as long, in every parser."""

from __future__ import annotations

import gc
import gzip
import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from flask.testing import FlaskClient

from berth.telemetry.payloads.payload_lines import Body, PayloadEntry, encode_line, trim
from berth.tensors.arrays import TensorSpec
from web.asking import MakeApp

# Quadratic work takes 16 times as long; linear work on more than the caches hold, up to 7 times.
MOST_GROWTH = 8.0
# What takes less is no harm, and cannot be measured on a machine that does other things as well.
HARMLESS_SECONDS = 0.015
MOST_SECONDS = 2.0


@dataclass(frozen=True)
class Shape:
    """Requests of one kind in any size."""

    name: str
    path: str
    make: Callable[[int], bytes]
    n: int = 20_000
    headers: dict[str, str] = field(default_factory=dict)
    # Whether tensors follow the JSON, which ends with the first "}]}".
    binary: bool = False

    def request(self, n: int) -> tuple[bytes, dict[str, str]]:
        """Body and headers."""
        body, headers = self.make(n), {"Content-Type": "application/json"} | self.headers
        if self.binary:
            headers["Inference-Header-Content-Length"] = str(body.index(b"}]}") + 3)
        return body, headers


def _keys(n: int, extra: str = "") -> bytes:
    return ("{" + ",".join(f'"k{i}":1' for i in range(n)) + extra + "}").encode()


def _wrap(key: str, value: str, more: str = "") -> bytes:
    return f'{{"{key}":{value}{more}}}'.encode()


def _rows(n: int, row: str) -> str:
    return "[" + ",".join([row] * n) + "]"


def _split(columns: str, data: str) -> bytes:
    return f'{{"dataframe_split":{{"columns":{columns},"data":{data}}}}}'.encode()


def _names(n: int) -> str:
    return json.dumps([f"c{i}" for i in range(n)])


def _tensors(n: int, name: str, what: str = "inputs") -> bytes:
    one = '{"name":"%s","shape":[1],"datatype":"FP64","data":[1]}'
    return f'{{"{what}":[{",".join(one % (name.format(i)) for i in range(n))}]}}'.encode()


def _tensor(shape: str, data: str, datatype: str = "FP64", name: str = "features") -> bytes:
    return f'{{"inputs":[{{"name":"{name}","shape":{shape},"datatype":"{datatype}","data":{data}}}]}}'.encode()


def _packed(shape: str, size: int, datatype: str = "FP64") -> bytes:
    parameters = f'"parameters":{{"binary_data_size":{size}}}'
    return f'{{"inputs":[{{{parameters},"name":"features","shape":{shape},"datatype":"{datatype}"}}]}}'.encode()


def _many_packed(n: int) -> bytes:
    one = '{"parameters":{"binary_data_size":8},"name":"t%d","shape":[1],"datatype":"FP64"}'
    return f'{{"inputs":[{",".join(one % i for i in range(n))}]}}'.encode() + bytes(8 * n)


def _ragged(n: int) -> str:
    widths = int((2 * n) ** 0.5)
    return "[" + ",".join("[" + ",".join(["1"] * width) + "]" for width in range(1, widths)) + "]"


PREDICT, V1, V2, MLFLOW = "/predict", "/v1/models/iris:predict", "/v2/models/iris/infer", "/invocations"
CSV = {"Content-Type": "text/csv"}
SHAPES = [
    Shape("two equal keys, far apart", PREDICT, lambda n: _keys(n, f',"k{n - 1}":2')),
    Shape("two equal keys, the first ones", PREDICT, lambda n: _keys(n, ',"k0":2')),
    Shape("every key twice", PREDICT, lambda n: _wrap("features", "[" + ",".join(['{"a":1,"a":2}'] * n) + "]")),
    Shape("one key very often", PREDICT, lambda n: ("{" + ",".join(['"a":1'] * n) + "}").encode()),
    Shape("unknown keys", PREDICT, _keys),
    Shape("unknown keys, V1", V1, _keys),
    Shape("unknown keys, MLflow", MLFLOW, _keys),
    Shape("unknown keys, V2", V2, _keys),
    Shape("nested too deep", PREDICT, lambda n: b"[" * n + b"]" * n),
    Shape("objects too deep", PREDICT, lambda n: b'{"a":' * n + b"1" + b"}" * n),
    Shape("many deep lists", PREDICT, lambda n: _wrap("features", _rows(n // 50, "[" * 50 + "]" * 50))),
    Shape("colons in a string", PREDICT, lambda n: _wrap("model", '"' + ":" * n + '"'), 400_000),
    Shape("escapes", PREDICT, lambda n: _wrap("model", '"' + "\\u003a" * n + '"'), 100_000),
    Shape("a number of many digits", PREDICT, lambda n: _wrap("features", "[" + "9" * n + ",1,1,1]"), 400_000),
    Shape("many digits and a colon", PREDICT, lambda n: _wrap("features", "[" + "9" * n + ',":",1,1]'), 400_000),
    Shape("a fraction of many digits", PREDICT, lambda n: _wrap("features", "[0." + "9" * n + ",1,1,1]"), 400_000),
    Shape("not JSON at its end", PREDICT, lambda n: _wrap("features", _rows(n, "[1,2,3,4]"))[:-2]),
    Shape("lines of nothing", PREDICT, lambda n: b"\n" * n + b"x", 400_000),
    Shape("ragged rows", PREDICT, lambda n: _wrap("features", _ragged(n)), 100_000),
    Shape("empty rows", PREDICT, lambda n: _wrap("features", _rows(n, "[]")), 100_000),
    Shape("one row of many", PREDICT, lambda n: _wrap("features", _rows(n, "1")), 100_000),
    Shape("rows and then an object", PREDICT, lambda n: _wrap("features", _rows(n, "[1,1,1,1]")[:-1] + ",{}]")),
    Shape("records of other columns", PREDICT, lambda n: _wrap("features", _rows(n, '{"a":1}'))),
    Shape("one record of many columns", PREDICT, lambda n: b'{"features":' + _keys(n) + b"}"),
    Shape("inputs of many names", PREDICT, lambda n: b'{"inputs":' + _keys(n) + b"}"),
    Shape("unknown outputs", PREDICT, lambda n: _wrap("features", "[1,1,1,1]", f',"outputs":{_names(n)}')),
    Shape("one output very often", PREDICT,
          lambda n: _wrap("features", "[1,1,1,1]", f',"outputs":{_rows(n, chr(34) + "prediction" + chr(34))}')),
    Shape("a long model name", PREDICT, lambda n: _wrap("features", "[1]", f',"model":"{"m" * n}"'), 400_000),
    Shape("instances of objects", V1, lambda n: _wrap("instances", _rows(n, '{"features":[1,1,1,1]}'))),
    Shape("instances of wrong columns", V1, lambda n: _wrap("instances", _rows(n, '{"a":[1,1,1,1]}'))),
    Shape("columns of many names", V1, lambda n: b'{"inputs":' + _keys(n) + b"}"),
    Shape("tensors of many names", V2, lambda n: _tensors(n, "t{}")),
    Shape("one tensor very often", V2, lambda n: _tensors(n, "t")),
    Shape("outputs of many names", V2,
          lambda n: _tensors(n, "o{}", "outputs")[:-1] + b"," + _tensors(1, "features")[1:]),
    Shape("a gzip of equal keys", PREDICT, lambda n: gzip.compress(_keys(n, f',"k{n - 1}":2'), 1), 20_000,
          {"Content-Encoding": "gzip"}),
    Shape("binary numbers", V2, lambda n: _packed(f"[{n},4]", 32 * n) + bytes(32 * n), 20_000, binary=True),
    Shape("binary strings", V2, lambda n: _packed(f"[{n}]", 5 * n, "BYTES") + b"\x01\0\0\0a" * n, 20_000, binary=True),
    Shape("binary strings of nothing", V2,
          lambda n: _packed(f"[{n}]", 4 * n, "BYTES") + bytes(4 * n), 20_000, binary=True),
    Shape("binary strings that end early", V2, lambda n: _packed(f"[{n}]", 4 * n, "BYTES") + bytes(4 * n - 1) + b"1",
          20_000, binary=True),
    Shape("many binary tensors", V2, _many_packed, 10_000, binary=True),
    Shape("many dimensions", V2, lambda n: _tensor(_rows(n, "1"), "[1]")),
    Shape("huge dimensions", V2, lambda n: _tensor(_rows(n, "9223372036854775807"), "[1]")),
    Shape("flat data", V2, lambda n: _tensor(f"[{n},4]", _rows(4 * n, "1.5")), 10_000),
    Shape("nested data of another shape", V2, lambda n: _tensor(f"[{n},5]", _rows(n, "[1,1,1,1]"))),
    Shape("whole numbers that are not", V2, lambda n: _tensor(f"[{n},4]", _rows(4 * n, "1.5"), "INT64"), 10_000),
    Shape("strings", V2, lambda n: _tensor(f"[{n}]", _rows(n, '"a"'), "BYTES")),
    Shape("split of many columns and empty rows", MLFLOW, lambda n: _split(_names(n), _rows(n, "[]"))),
    Shape("split of one column very often", MLFLOW, lambda n: _split(_rows(n, '"a"'), _rows(n, "[1]"))),
    Shape("split of counted columns", MLFLOW, lambda n: _split(json.dumps(list(range(n))), _rows(4, _rows(n, "1")))),
    Shape("records, MLflow", MLFLOW, lambda n: _wrap("dataframe_records", _rows(n, '{"a":1}'))),
    Shape("CSV of many columns", MLFLOW,
          lambda n: ",".join(f"c{i}" for i in range(n)).encode() + b"\n1\n", 50_000, CSV),
    Shape("CSV of one column very often", MLFLOW,
          lambda n: b",".join([b"a"] * n) + b"\n" + b",".join([b"1"] * n) + b"\n", 50_000, CSV),
    Shape("CSV of empty lines", MLFLOW, lambda n: b"a,b\n" + b"\n" * n + b"1\n", 200_000, CSV),
    Shape("CSV of quotes", MLFLOW, lambda n: b'a,b\n"' + b'""' * n, 60_000, CSV),
    Shape("CSV of many rows", MLFLOW, lambda n: b"a\n" + b"1\n" * n, 20_000, CSV),
    Shape("CSV of many digits", MLFLOW, lambda n: b"a,b,c,d\n" + b"9" * n + b",1,1,1\n", 30_000, CSV),
    Shape("CSV that is not UTF-8", MLFLOW, lambda n: b"a\n" * n + b"\xff", 200_000, CSV),
]  # fmt: skip


def _seconds(act: Callable[[], object], patience: int = 2) -> float:
    """This thread's processor time for the quickest of some calls.

    Without the garbage collector: one collection of all objects takes as long as the process is large, and whether the
    call that is measured has to make one is chance.
    """
    best = float("inf")
    gc.disable()
    try:
        for _ in range(patience):
            began = time.thread_time()
            act()
            best = min(best, time.thread_time() - began)
    finally:
        gc.enable()
    return best


def _check_growth(measure: Callable[[int], float], n: int) -> None:
    """That four times as much takes less than eight times as long; measured again where something disturbed it."""
    told = []
    for _ in range(3):
        four = measure(4 * n)
        if four < HARMLESS_SECONDS:
            return
        one = measure(n)
        told.append((one, four))
        if four < MOST_GROWTH * one and four < MOST_SECONDS:
            return
    raise AssertionError(f"n and 4n took {told} s")


@pytest.fixture(scope="module")
def large(make_app: MakeApp, store: Path) -> FlaskClient:
    """An application that takes large bodies."""
    return make_app(store, models="iris@1", batch_max_rows=1, max_body_bytes=1 << 26, max_rows=10_000_000)


@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: shape.name)
def test_a_request_takes_time_as_it_is_long(large: FlaskClient, shape: Shape) -> None:
    def measure(n: int) -> float:
        body, headers = shape.request(n)
        statuses: list[int] = []
        took = _seconds(lambda: statuses.append(large.post(shape.path, data=body, headers=headers).status_code))
        assert set(statuses) <= {200, 400, 404}
        return took

    _check_growth(measure, shape.n)


COLUMNS = tuple(f"c{i}" for i in range(30))
SPECS = (TensorSpec("x", "FP64", (-1, 30), COLUMNS),)


@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: shape.name)
def test_a_payload_line_takes_time_as_the_body_is_long(shape: Shape) -> None:
    def measure(n: int) -> float:
        body, headers = shape.request(n)
        length = headers.get("Inference-Header-Content-Length")
        asked = Body(body, headers["Content-Type"], int(length) if length else None)
        entry = PayloadEntry({"status": 400, "code": "x", "error": "x"}, asked, Body(b"{}", "application/json"), SPECS)
        return _seconds(lambda: encode_line(trim(entry, 1 << 26), frozenset({"c1"})))

    _check_growth(measure, shape.n)


@pytest.mark.parametrize(
    "make",
    [
        lambda n: {"Authorization": "Bearer " + "x" * n},
        lambda n: {"Content-Type": ";" * n},
        lambda n: {"X-Request-Id": "a" * n},
        lambda n: {"traceparent": "0" * n},
        lambda n: {"X-Request-Timeout-Ms": "1" * n},
        lambda n: {"Inference-Header-Content-Length": "1" * n},
        lambda n: {"Content-Encoding": " " * n + "x"},
        lambda n: {"Accept": "text/html," * (n // 10)},
        lambda n: {"If-None-Match": '"a",' * (n // 4)},
    ],
)
def test_a_header_takes_time_as_it_is_long(large: FlaskClient, make: Callable[[int], dict[str, str]]) -> None:
    for method, path in (("POST", V2), ("GET", "/"), ("GET", "/static/berth.css")):
        _check_growth(
            lambda n, method=method, path=path: _seconds(  # type: ignore[misc]
                lambda: large.open(path, method=method, data=b"{}", headers=make(n))
            ),
            8190,
        )


@pytest.mark.parametrize(
    "path", ["/v1/models/{}:predict", "/v2/models/{}/infer", "/{}", "/v2/models/iris/versions/{}/infer"]
)
@pytest.mark.parametrize("part", ["a", ":predict", "%3A", "/", "/infer", "."])
def test_a_path_takes_time_as_it_is_long(large: FlaskClient, path: str, part: str) -> None:
    def measure(n: int) -> float:
        return _seconds(lambda: large.post(path.format(part * (n // len(part))), data=b"{}"))

    _check_growth(measure, 8000)
