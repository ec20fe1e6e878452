"""Threads that nobody waits for leave the interpreter's lock to requests while they work."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
from prometheus_client.mmap_dict import MmapedDict, mmap_key

from berth.telemetry.metrics.metric_files import render
from berth.telemetry.payloads.payload_log import Body, PayloadEntry, PayloadLog, PayloadOptions
from berth.telemetry.tracing import Tracing
from berth.telemetry.unhurried import Unhurried
from collector import Collector


@pytest.fixture(autouse=True)
def lock_is_kept() -> Iterator[None]:
    """A thread gives the lock away only where it waits for something."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(600)
    yield
    sys.setswitchinterval(before)


def count_turns(work: Callable[[], object]) -> int:
    """How many times this thread had the lock while another one did the work."""
    thread = threading.Thread(target=work)
    thread.start()
    turns = 0
    while thread.is_alive():
        turns += 1
        time.sleep(1e-6)
    return turns


def work_through(items: Sequence[object]) -> None:
    """Work of 0.1 ms for each item, which holds the lock."""
    for _ in items:
        end = time.perf_counter() + 1e-4
        while time.perf_counter() < end:
            pass


def test_a_sequence_rests_where_its_items_are_work() -> None:
    assert count_turns(lambda: work_through(range(100))) < 5
    assert count_turns(lambda: work_through(Unhurried(range(100)))) > 90


def test_items_are_the_same() -> None:
    items = Unhurried(range(5, 9))
    assert (len(items), items[1], list(items), list(items[1:3])) == (4, 6, [5, 6, 7, 8], [6, 7])


class Kept:
    """A sink in memory."""

    linger = 0.0
    reason = "write"

    def __init__(self) -> None:
        self.lines: list[bytes] = []

    def write(self, lines: Sequence[bytes], wait: Callable[[float], bool]) -> tuple[int, str]:
        self.lines += lines
        return 0, ""


def test_payloads_are_encoded_with_rests() -> None:
    sink = Kept()
    log = PayloadLog(PayloadOptions(""), sink)
    rows = b'{"features": [' + b",".join([b"1.5"] * 1000) + b"]}"
    entry = PayloadEntry({"request_id": "a"}, Body(rows, "application/json"), Body(rows, "application/json"))
    for at in range(100):
        log.offer(str(at), 200, lambda: entry)
    assert count_turns(log.close) > 100
    assert len(sink.lines) == 100


def test_spans_are_encoded_with_rests() -> None:
    pytest.importorskip("opentelemetry.exporter.otlp.proto.http", reason="the extra otel is not installed")
    with Collector().running() as collector:
        tracing = Tracing(f"{collector.url}/v1/traces", "1")
        tracing.start()
        for _ in range(400):
            tracing.finish(tracing.begin("POST /predict", {}), 200, {"berth.model": "iris"})
        assert count_turns(tracing.close) > 100
        assert len(collector.posts) == 1


def test_a_scrape_rests(tmp_path: Path) -> None:
    kept = MmapedDict(str(tmp_path / "counter_1.db"))
    for name in (f"made_{at}_total" for at in range(200)):
        for model in "abcdefghij":
            kept.write_value(mmap_key(name, name, ["model"], [model], "Made for this test."), 1.0, 0.0)
    kept.close()
    assert count_turns(lambda: render(tmp_path)) > 100
