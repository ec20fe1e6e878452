"""The payload log: its options, what is sampled, what is hidden, where lines go, and what is counted."""

from __future__ import annotations

import base64
import json
import logging
import os
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from berth.errors import SettingsError
from berth.telemetry.payloads.payload_lines import encode_line, trim
from berth.telemetry.payloads.payload_log import (
    Body,
    PayloadEntry,
    PayloadLog,
    PayloadOptions,
    is_sampled,
    open_sink,
    parse_options,
)
from berth.telemetry.payloads.redaction import for_answer, for_request
from berth.telemetry.payloads.sinks import FileSink
from berth.tensors.arrays import TensorSpec
from collector import Collector, wait_for

JSON = "application/json"
MATRIX = (TensorSpec("features", "FP64", (-1, 3), columns=("age", "ssn", "zip")),)
FRAME = (TensorSpec("age", "FP64", (-1,)), TensorSpec("ssn", "BYTES", (-1,)), TensorSpec("zip", "FP64", (-1,)))
SSN = frozenset({"ssn"})
# What must not be found in any line.
SECRET = 987654321


def entry(
    request: Any = None, response: Any = None, inputs: Sequence[TensorSpec] | None = MATRIX, **fields: Any
) -> PayloadEntry:
    """An exchange whose bodies are JSON documents, or bytes as they are."""

    def body(value: Any) -> Body:
        return Body(value if isinstance(value, bytes) else json.dumps(value).encode(), JSON)

    return PayloadEntry(fields, None if request is None else body(request), body(response), inputs)


def line_of(given: PayloadEntry, fields: frozenset[str] = frozenset(), limit: int = 65_536) -> dict[str, Any]:
    """The line as its reader decodes it."""
    line = encode_line(trim(given, limit), fields)
    assert line.endswith(b"\n")
    assert line.count(b"\n") == 1
    document: dict[str, Any] = json.loads(line)
    return document


class Losses(Counter[str]):
    """What was lost, by reason."""

    def __call__(self, reason: str, lines: int) -> None:
        self[reason] += lines


@pytest.mark.parametrize("text", ["", "off", " off "])
def test_off(text: str) -> None:
    assert parse_options(text) is None


@pytest.mark.parametrize(
    ("text", "options"),
    [
        ("/var/log/p.jsonl", PayloadOptions("/var/log/p.jsonl")),
        ("file:///p.jsonl?sample=0", PayloadOptions("/p.jsonl", sample=0)),
        (
            "https://host/in?sample=.5&redact=SSN,sepal+length%20%28cm%29,a%2Cb&queue=7&max_bytes=0&failures=sampled",
            PayloadOptions(
                "https://host/in", 0.5, frozenset({"ssn", "sepal length (cm)", "a,b"}), 7, 0, keep_failures=False
            ),
        ),
    ],
)
def test_options(text: str, options: PayloadOptions) -> None:
    assert parse_options(text) == options
    assert options.is_url == text.startswith("http")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("/p?sampel=0.1", "unknown option 'sampel'; there are sample, redact"),
        ("/p?sample=0.1&", "unknown option ''"),
        ("/p?sample=1.1", "sample='1.1' must be a number from 0 to 1"),
        ("/p?sample=-1", "sample='-1' must be a number from 0 to 1"),
        ("/p?sample=nan", "must be a number from 0 to 1"),
        ("/p?sample", "must be a number from 0 to 1"),
        ("/p?sample=0.1&sample=0.2", "the option sample is duplicated"),
        ("/p?redact=a,,b", "redact='a,,b' must be names with commas between them"),
        ("/p?queue=0", "queue='0' must be a whole number from 1"),
        ("/p?max_bytes=1e3", "max_bytes='1e3' must be a whole number from 0"),
        ("/p?failures=none", "failures='none' must be all or sampled"),
        ("off?sample=1", "options need a path or an http URL"),
        ("?sample=1", "options need a path or an http URL"),
        ("s3://bucket/p", "'s3' is not a path, http:// or https://"),
        ("http:///p", "the URL must have a host"),
        ("http://host:99999/p", "the URL must have a host"),
        ("http://host/a b", "neither spaces"),
    ],
)
def test_bad_options_are_told(text: str, said: str) -> None:
    with pytest.raises(SettingsError) as caught:
        parse_options(text)
    assert "BERTH_PAYLOAD_LOG: " in caught.value.message
    assert said in caught.value.message


def test_a_file_that_cannot_be_written_stops_the_start(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"cannot append to .*: No such file or directory"):
        open_sink(PayloadOptions(str(tmp_path / "missing" / "p.jsonl")))


@given(st.lists(st.uuids(), min_size=1, max_size=50))
def test_the_sample_grows_with_its_share_and_never_changes(ids: list[Any]) -> None:
    for request_id in map(str, ids):
        kept = [is_sampled(request_id, share) for share in (0.0, 0.1, 0.5, 1.0)]
        assert kept == sorted(kept)
        assert (kept[0], kept[-1]) == (False, True)


def test_the_sample_is_as_large_as_asked() -> None:
    assert 800 < sum(is_sampled(f"request-{number}", 0.1) for number in range(10_000)) < 1200


def test_a_line_has_the_documents() -> None:
    line = line_of(entry({"features": [1, 2, 3]}, {"prediction": [0]}, status=200, request_id="a\nb"))
    assert line == {
        "status": 200,
        "request_id": "a\nb",
        "request": {"features": [1, 2, 3]},
        "response": {"prediction": [0]},
    }


def test_long_bodies_are_told_by_their_length() -> None:
    line = line_of(entry({"features": [1.0] * 100}, {"prediction": [0]}), limit=60)
    assert line["request"] == {"truncated": True, "bytes": 514}
    assert line["response"] == {"prediction": [0]}


def test_a_body_that_was_never_read_is_null() -> None:
    assert line_of(entry(None, {"error": "overloaded"}))["request"] is None


def test_binary_tensors_are_left_out() -> None:
    body = Body(b'{"inputs": []}' + bytes(1000), "application/octet-stream", 14)
    assert line_of(PayloadEntry({}, body, Body(b"{}", JSON)), limit=100)["request"] == {"inputs": []}
    raw = Body(bytes(32), "application/octet-stream", 0)
    assert line_of(PayloadEntry({}, raw, Body(b"{}", JSON)))["request"] == {"binary": True, "bytes": 32}


@pytest.mark.parametrize("body", [b'{"features": [1,', b"\xff\xfe", b"[" * 400 + b"]" * 400, b"[" * 2000])
def test_what_is_not_json_is_shown_and_hidden_where_fields_are(body: bytes) -> None:
    told = line_of(entry(body))["request"]
    assert (told["unreadable"], told["bytes"]) == (True, len(body))
    assert told["text"] == body.decode("utf-8", "replace")[:1000]
    assert line_of(entry(body), SSN)["request"] == {"unreadable": True, "bytes": len(body)}


ROW = [1, SECRET, 3]
KEPT = [1, "***", 3]
COLUMNS = ["age", "ssn", "zip"]


@pytest.mark.parametrize("inputs", [MATRIX, FRAME], ids=["matrix", "frame"])
@pytest.mark.parametrize(
    ("asked", "kept"),
    [
        ({"features": ROW}, {"features": KEPT}),
        ({"features": [ROW, ROW]}, {"features": [KEPT, KEPT]}),
        ({"features": {"age": 1, "SSN": SECRET}}, {"features": {"age": 1, "SSN": "***"}}),
        ({"features": [{"ssn": SECRET}]}, {"features": [{"ssn": "***"}]}),
        ({"instances": [ROW]}, {"instances": [KEPT]}),
        ({"instances": [{"features": ROW}]}, {"instances": [{"features": KEPT}]}),
        ({"inputs": [ROW]}, {"inputs": [KEPT]}),
        ({"inputs": {"age": [1], "ssn": [SECRET]}}, {"inputs": {"age": [1], "ssn": "***"}}),
        ({"inputs": {"features": [ROW]}}, {"inputs": {"features": [KEPT]}}),
        ({"dataframe_records": [{"age": 1, "ssn": SECRET}]}, {"dataframe_records": [{"age": 1, "ssn": "***"}]}),
        (
            {"dataframe_split": {"columns": ["ssn", "age"], "data": [[SECRET, 1]]}},
            {"dataframe_split": {"columns": ["ssn", "age"], "data": [["***", 1]]}},
        ),
        (
            {"dataframe_split": {"columns": [0, 1, 2], "data": [ROW]}},
            {"dataframe_split": {"columns": [0, 1, 2], "data": [KEPT]}},
        ),
        ({"dataframe_split": {"data": [ROW]}}, {"dataframe_split": {"data": [KEPT]}}),
        (
            {"inputs": [{"name": "features", "shape": [2, 3], "data": ROW + ROW}]},
            {"inputs": [{"name": "features", "shape": [2, 3], "data": KEPT + KEPT}]},
        ),
        (
            {"inputs": [{"name": "x", "shape": [1, 3], "data": [ROW]}]},
            {"inputs": [{"name": "x", "shape": [1, 3], "data": [KEPT]}]},
        ),
        (
            {"inputs": [{"name": "age", "data": [1]}, {"name": "ssn", "data": [SECRET]}]},
            {"inputs": [{"name": "age", "data": [1]}, {"name": "ssn", "data": "***"}]},
        ),
        ({"deep": [{"er": {"ssn": {"any": SECRET}}}]}, {"deep": [{"er": {"ssn": "***"}}]}),
        # Names that nearly are the hidden one.
        ({"features": {"age": 1, " S SN": SECRET}}, {"features": {"age": 1, " S SN": "***"}}),
        ({"features": {"age": 1, "sssn": SECRET}}, {"features": {"age": 1, "sssn": "***"}}),
        ({"dataframe_records": [{"age": 1, "ssn_": SECRET}]}, {"dataframe_records": [{"age": 1, "ssn_": "***"}]}),
        ({"inputs": {"age": [1], "s.s.n": [SECRET]}}, {"inputs": {"age": [1], "s.s.n": "***"}}),
        ({"inputs": [{"name": "ssn\t", "data": [SECRET]}]}, {"inputs": [{"name": "ssn\t", "data": "***"}]}),
        ({"inputs": [{"name": "the ssn", "data": [SECRET]}]}, {"inputs": [{"name": "the ssn", "data": "***"}]}),
        (
            {"dataframe_split": {"columns": [" SSN ", "age"], "data": [[SECRET, 1]]}},
            {"dataframe_split": {"columns": [" SSN ", "age"], "data": [["***", 1]]}},
        ),
        (
            {"dataframe_split": {"columns": ["s-s-n", "age"], "data": [[SECRET, 1]]}},
            {"dataframe_split": {"columns": ["s-s-n", "age"], "data": "***"}},
        ),
        ({"feature": ROW, "model": "m"}, {"feature": "***", "model": "m"}),
        ({"features": KEPT, "ssm": SECRET}, {"features": KEPT, "ssm": "***"}),
        # Not as wide as the model's rows: nobody knows which value is which.
        ({"features": [SECRET, 3]}, {"features": "***"}),
        ({"features": [ROW, [SECRET]]}, {"features": [KEPT, "***"]}),
        ({"features": [ROW, 1, 2]}, {"features": "***"}),
        ({"features": [1, [SECRET], 3]}, {"features": "***"}),
        (
            {"inputs": [{"name": "x", "shape": [3], "data": ROW}]},
            {"inputs": [{"name": "x", "shape": [3], "data": "***"}]},
        ),
        (
            {"inputs": [{"name": "x", "shape": [1, 2], "data": [SECRET, 1]}]},
            {"inputs": [{"name": "x", "shape": [1, 2], "data": "***"}]},
        ),
    ],
)
def test_fields_are_hidden_in_every_form(inputs: Sequence[TensorSpec], asked: Any, kept: Any) -> None:
    line = line_of(entry(asked, {"prediction": [0]}, inputs), SSN)
    assert str(SECRET) not in json.dumps(line)
    assert line["request"] == kept
    assert line["response"] == {"prediction": [0]}
    # Without names nothing is touched.
    assert line_of(entry(asked, None, inputs))["request"] == asked


def test_hiding_the_whole_input_hides_its_rows() -> None:
    redaction = for_request(frozenset({"features"}), MATRIX)
    assert redaction.apply({"instances": [ROW]}) == {"instances": ["***"]}
    assert redaction.apply({"features": [ROW]}) == {"features": "***"}


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("ssn,age,zip\n987654321,1,2\n", "ssn,age,zip\n***,1,2\n"),
        ('zip,"SSN",age\n1,"987654321",2\n', "zip,SSN,age\n1,***,2\n"),
        (" SSN,age,zip\n987654321,1,2\n", " SSN,age,zip\n***,1,2\n"),
        ("s_s_n,age,zip\n987654321,1,2\n", "***"),
        ("1,987654321,3\n", "***"),
        ("ssn,age,zip\n987654321,1\n", "***"),
    ],
)
def test_fields_are_hidden_in_csv(text: str, kept: str) -> None:
    body = Body(text.encode(), "text/csv")
    assert line_of(PayloadEntry({}, body, Body(b"{}", JSON), MATRIX), SSN)["request"] == kept
    assert line_of(PayloadEntry({}, body, Body(b"{}", JSON), MATRIX))["request"] == text


def test_a_request_without_its_model_is_hidden_whole() -> None:
    line = line_of(entry({"features": ROW}, None, None), SSN)
    assert line["request"] == {"redacted": True, "bytes": len(json.dumps({"features": ROW}))}


def test_a_failures_message_may_quote_a_value() -> None:
    failure = entry(
        {}, {"error": f"got {SECRET}", "code": "invalid_input"}, code="invalid_input", error=f"got {SECRET}"
    )
    line = line_of(failure, SSN)
    assert str(SECRET) not in json.dumps(line)
    assert (line["code"], line["response"]["code"]) == ("invalid_input", "invalid_input")
    assert line_of(failure)["error"] == f"got {SECRET}"


def test_outputs_are_hidden_under_every_protocols_name() -> None:
    hide = for_answer(frozenset({"prediction"}), False).apply
    assert hide({"predictions": [1]}) == {"predictions": "***"}
    assert hide({"prediction": [1]}) == {"prediction": "***"}
    assert hide({"outputs": [{"name": "prediction", "data": [1]}]}) == {
        "outputs": [{"name": "prediction", "data": "***"}]
    }


def log_to(target: str | Path, losses: Losses, **options: Any) -> PayloadLog:
    given = PayloadOptions(str(target), **options)
    return PayloadLog(given, open_sink(given), losses)


def offer(log: PayloadLog, request_id: str, status: int = 200, size: int = 0) -> None:
    log.offer(
        request_id, status, lambda: entry({"id": request_id, "fill": "x" * size}, {"ok": True}, request_id=request_id)
    )


def ids_of(text: str | bytes) -> list[str]:
    return [json.loads(line)["request_id"] for line in text.splitlines()]


def test_everything_queued_is_there_after_close(tmp_path: Path) -> None:
    path, losses = tmp_path / "p.jsonl", Losses()
    log = log_to(path, losses)
    for number in range(500):
        offer(log, str(number))
    log.close()
    assert ids_of(path.read_text()) == [str(number) for number in range(500)]
    assert not losses
    offer(log, "late")
    assert losses == {"closed": 1}


def test_no_thread_before_the_first_entry(tmp_path: Path) -> None:
    before = threading.enumerate()
    log = log_to(tmp_path / "p.jsonl", Losses(), sample=0.0)
    offer(log, "not sampled")
    assert not set(threading.enumerate()) - set(before)
    offer(log, "failed", 500)
    assert {thread.name for thread in set(threading.enumerate()) - set(before)} == {"payloads"}
    log.close()


def test_failures_are_kept_beside_the_sample(tmp_path: Path) -> None:
    for keep, kept in ((True, ["bad", "worse"]), (False, [])):
        path = tmp_path / f"{keep}.jsonl"
        log = log_to(path, Losses(), sample=0.0, keep_failures=keep)
        for request_id, status in (("good", 200), ("bad", 400), ("worse", 503)):
            offer(log, request_id, status)
        log.close()
        assert ids_of(path.read_text()) == kept


def test_a_rotated_file_is_followed(tmp_path: Path) -> None:
    path = tmp_path / "p.jsonl"
    log = log_to(path, Losses())
    offer(log, "before")
    wait_for(lambda: path.stat().st_size > 0)
    path.rename(tmp_path / "p.1")
    offer(log, "after")
    log.close()
    assert ids_of((tmp_path / "p.1").read_text()) == ["before"]
    assert ids_of(path.read_text()) == ["after"]


def test_processes_share_a_file(tmp_path: Path) -> None:
    path = tmp_path / "p.jsonl"
    log = log_to(path, Losses())
    children = []
    for worker in range(3):
        if (child := os.fork()) == 0:
            try:
                for number in range(200):
                    offer(log, f"{worker}-{number}", size=2000)
                log.close()
            finally:
                os._exit(0)
        children.append(child)
    for child in children:
        os.waitpid(child, 0)
    assert sorted(ids_of(path.read_text())) == sorted(
        f"{worker}-{number}" for worker in range(3) for number in range(200)
    )


def test_a_line_goes_out_in_one_write(tmp_path: Path) -> None:
    """A datagram a write: several writes would be several datagrams."""
    here, there = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    with here, there:
        sink = FileSink(tmp_path / "p.jsonl")
        os.dup2(here.fileno(), sink._current())
        sink._path = Path(f"/proc/self/fd/{sink._fd}")
        assert sink.write([b"x" * 9000 + b"\n", b"y\n"], lambda seconds: False) == (0, "")
        assert [len(there.recv(65_536)), len(there.recv(65_536))] == [9001, 2]


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full")
def test_a_full_disk_is_counted_and_said_once(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    losses = Losses()
    log = log_to("/dev/full", losses)
    offer(log, "a")
    wait_for(lambda: losses["write"] == 1)
    offer(log, "b")
    log.close()
    assert losses == {"write": 2}
    assert [record.message for record in caplog.records] == ["payloads are being lost"]


class Stuck:
    """A sink that holds the writer until it is let go."""

    linger = 0.0
    reason = "write"

    def __init__(self) -> None:
        self.let_go = threading.Event()
        self.lines: list[bytes] = []

    def write(self, lines: Sequence[bytes], wait: Callable[[float], bool]) -> tuple[int, str]:
        self.let_go.wait(10)
        self.lines += lines
        return 0, ""


@pytest.mark.parametrize(
    ("options", "size", "kept"),
    [(PayloadOptions("", queue=5), 0, 5), (PayloadOptions("", queue=1000, max_bytes=1 << 30), 10 << 20, 3)],
    ids=["entries", "bytes"],
)
def test_a_full_queue_drops_and_never_waits(options: PayloadOptions, size: int, kept: int) -> None:
    sink, losses = Stuck(), Losses()
    log = PayloadLog(options, sink, losses)
    offer(log, "in hand")
    wait_for(lambda: not log._queue)
    long = entry({"fill": "x" * size})
    began = time.monotonic()
    for number in range(8):
        log.offer(str(number), 200, lambda: long)
    assert time.monotonic() - began < 1
    assert losses == {"full": 8 - kept}
    sink.let_go.set()
    log.close()
    assert len(sink.lines) == 1 + kept


def test_close_is_bounded_and_counts_what_is_left() -> None:
    sink, losses = Stuck(), Losses()
    log = PayloadLog(PayloadOptions(""), sink, losses)
    offer(log, "in hand")
    wait_for(lambda: not log._queue)
    offer(log, "queued")
    began = time.monotonic()
    log.close(0.2)
    assert time.monotonic() - began < 1
    assert losses == {"closed": 2}
    sink.let_go.set()


def test_one_odd_entry_does_not_end_the_log(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    path, losses = tmp_path / "p.jsonl", Losses()
    log = log_to(path, losses)
    log.offer("odd", 200, lambda: PayloadEntry({1: "not a name"}, None, Body(b"{}", JSON)))  # type: ignore[dict-item]
    offer(log, "good")
    log.close()
    assert ids_of(path.read_text()) == ["good"]
    assert losses == {"error": 1}
    assert "could not be written" in caplog.text


def test_lines_are_posted_in_one_batch() -> None:
    with Collector().running() as collector:
        losses = Losses()
        log = log_to(collector.url.replace("//", "//me:p%40ss@") + "/in", losses)
        for number in range(30):
            offer(log, str(number))
        log.close()
    ((path, headers, body),) = collector.posts
    assert ids_of(body) == [str(number) for number in range(30)]
    assert path == "/in"
    assert headers["content-type"] == "application/x-ndjson"
    assert base64.b64decode(headers["authorization"].removeprefix("Basic ")) == b"me:p@ss"
    assert not losses


def test_a_post_is_tried_again() -> None:
    with Collector(503).running() as collector:
        losses = Losses()
        log = log_to(collector.url, losses)
        offer(log, "a")
        wait_for(lambda: len(collector.posts) == 2)
        log.close()
    assert collector.posts[0][2] == collector.posts[1][2]
    assert not losses


@pytest.mark.parametrize("status", [400, 302])
def test_a_refused_post_is_lost_at_once(status: int, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    with Collector(status).running() as collector:
        losses = Losses()
        log = log_to(collector.url, losses)
        offer(log, "a")
        wait_for(lambda: losses["send"] == 1)
        log.close()
    assert len(collector.posts) == 1
    assert "payloads are being lost" in caplog.text


def test_an_address_that_does_not_answer_holds_nothing_up() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        losses = Losses()
        log = log_to(f"http://127.0.0.1:{taken.getsockname()[1]}", losses)
        offer(log, "a")
        began = time.monotonic()
        log.close()
        assert time.monotonic() - began < 2
    assert losses == {"send": 1}
