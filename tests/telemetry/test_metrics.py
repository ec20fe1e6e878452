"""The list of metrics, and their files over several workers, dead ones included."""

from __future__ import annotations

import fcntl
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Histogram, generate_latest
from prometheus_client.mmap_dict import MmapedDict

from berth.telemetry.metrics.allocated import AllocatedDict
from berth.telemetry.metrics.buckets import VALUES
from berth.telemetry.metrics.metric_files import _encode_values, merge_dead_worker, render
from berth.telemetry.metrics.registry import MOST_LABELS, OTHER, Metrics

# Part of the contract: dashboards and alerts are written against these.
TABLE = {
    "berth_requests_total": {"protocol", "status"},
    "berth_request_duration_seconds": set(),
    "berth_predict_duration_seconds": set(),
    "berth_queue_duration_seconds": set(),
    "berth_batch_rows": set(),
    "berth_inflight": set(),
    "berth_queue_depth": set(),
    "berth_rejected_total": {"reason"},
    "berth_cache_total": {"result"},
    "berth_model_info": {"sha256", "format", "accelerated"},
    "berth_model_ready": set(),
    "berth_model_load_seconds": set(),
    "berth_predictions_total": {"label"},
    "berth_prediction_value": set(),
    "berth_unusual_values_total": {"feature", "kind"},
    "berth_watch_dropped_rows_total": set(),
    "berth_payload_log_dropped_total": {"reason"},
    "berth_feedback_total": {"result"},
    "berth_feedback_confusion_total": {"predicted", "truth"},
    "berth_feedback_error": set(),
    "berth_feedback_squared_error": set(),
    "berth_feedback_reward": set(),
    "berth_feedback_delay_seconds": set(),
    "berth_feedback_reference": {"metric"},
    "berth_experiment_file_ok": set(),
    "berth_shadow_total": {"result"},
    "berth_shadow_duration_seconds": set(),
    "berth_shadow_difference": set(),
}

WORKER = """
import sys
from pathlib import Path
from berth.telemetry.metrics.registry import Metrics
models, requests = int(sys.argv[1]), int(sys.argv[2])
metrics = Metrics("blue", Path("."))
for number in range(models):
    bound = metrics.bind(f"model-{number}", "1", classes=list(range(50)))
    bound.set_loaded(0.5, "ab" * 32, "onnx", True)
    bound.set_ready(requests > 1)
    bound.set_inflight(2)
    bound.count_predictions(range(50))
    bound.observe_values([1.5])
    bound.count_truths("1", "2", False, 2)
    bound.observe_errors([0.5, 2.0])
    bound.observe_reward(0.25)
    bound.observe_delay(60.0)
    for _ in range(requests):
        bound.observe_request("v2", 200, 0.003)
        bound.observe_predict(0.001, 4)
        bound.observe_queue(0.01)
        bound.reject("overloaded")
"""

HTTP_WORKER = """
import sys
from pathlib import Path
from flask import Flask
from berth.telemetry.metrics.buckets import SECONDS
from berth.telemetry.metrics.registry import Metrics
from berth.web.http_metrics import export_http_metrics
metrics = Metrics("blue", Path("."))
app = Flask("test")
export_http_metrics(app, metrics.registry, SECONDS)
for number in range(20):
    app.add_url_rule(f"/route-{number}/<name>", str(number), lambda name: name)
client = app.test_client()
for turn in range(3):
    for number in range(20):
        client.get(f"/route-{number}/{turn}")
        client.get(f"/unknown-{number}-{turn}")
client.open("/route-1/a", method="MADEUP")
"""


def _run_worker(directory: Path, code: str = WORKER, *arguments: object) -> int:
    """Run a worker to its end; its files stay as SIGKILL would leave them."""
    env = {**os.environ, "PROMETHEUS_MULTIPROC_DIR": str(directory)}
    command = [sys.executable, "-c", code, *map(str, arguments)]
    with subprocess.Popen(command, cwd=directory, env=env) as process:
        assert process.wait(30) == 0
        return process.pid


@pytest.fixture(scope="module")
def two_workers(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[int]]:
    """The files of two workers: 3 requests in one, 1 in the other. Copy before changing."""
    directory = tmp_path_factory.mktemp("metrics")
    return directory, [_run_worker(directory, WORKER, 1, requests) for requests in (3, 1)]


@pytest.fixture(scope="module")
def http_workers(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[int]]:
    """The files of two workers with 20 routes each."""
    directory = tmp_path_factory.mktemp("http")
    return directory, [_run_worker(directory, HTTP_WORKER) for _ in range(2)]


def _samples(text: bytes) -> dict[str, float]:
    lines = [line for line in text.decode().splitlines() if line and not line.startswith("#")]
    return {line.rpartition(" ")[0]: float(line.rpartition(" ")[2]) for line in lines}


def _sum(text: bytes, name: str) -> float:
    return sum(value for key, value in _samples(text).items() if key.partition("{")[0] == name)


def _counts(text: bytes) -> dict[str, float]:
    """All that must outlive a worker."""
    gauges = re.findall(r"^# TYPE (\S+) gauge", text.decode(), re.MULTILINE)
    return {key: value for key, value in _samples(text).items() if key.partition("{")[0] not in gauges}


def test_the_table_is_the_contracts() -> None:
    metrics = Metrics("blue")
    bound = metrics.bind("iris", "3", classes=["setosa"])
    bound.observe_request("v2", 200, 0.01)
    bound.observe_predict(0.01, 4)
    bound.observe_queue(0.01)
    bound.reject("overloaded")
    bound.count_cache(hit=True)
    bound.count_predictions(["setosa"])
    bound.observe_values([1.5])
    bound.set_inflight(1)
    bound.set_queue_depth(1)
    bound.set_ready(True)
    bound.set_loaded(0.5, "ab", "joblib", False)
    bound.count_unusual("width", "above", 1)
    bound.count_watch_drops(1)
    bound.count_payload_drops("full", 1)
    bound.count_truths("setosa", "virginica", False, 1)
    bound.observe_errors([0.5])
    bound.observe_reward(1.0)
    bound.observe_delay(60.0)
    bound.set_reference("accuracy", 0.9)
    bound.set_experiment_file(True)
    bound.count_shadow("agree")
    bound.observe_shadow(0.01, [0.5])
    found: dict[str, set[str]] = {}
    for family in metrics.registry.collect():
        name = family.name + ("_total" if family.type == "counter" else "")
        for sample in family.samples:
            if not sample.name.endswith("_created"):
                assert sample.labels.items() >= {"model": "iris", "version": "3", "slot": "blue"}.items()
                found.setdefault(name, set()).update(set(sample.labels) - {"model", "version", "slot", "le"})
    assert found == TABLE


def test_without_a_directory_it_tells_of_this_process() -> None:
    metrics = Metrics()
    assert metrics.bind("iris", "1") is metrics.bind("iris", "1")
    metrics.bind("iris", "1").observe_request("predict", 429, 0.01)
    assert (
        _samples(metrics.render())[
            'berth_requests_total{model="iris",protocol="predict",slot="",status="429",version="1"}'
        ]
        == 1
    )


def test_what_never_happened_makes_no_series() -> None:
    metrics = Metrics()
    metrics.bind("", "").reject("unauthenticated")
    assert {key.partition("{")[0] for key in _samples(metrics.render())} == {
        "berth_rejected_total",
        "berth_rejected_created",
    }


def test_labels_are_bounded() -> None:
    metrics = Metrics()
    bound = metrics.bind("many", "1")
    bound.count_predictions([1])  # counted before the model declared its classes
    metrics.bind("many", "1", classes=list(range(1000)))
    bound.count_predictions([0, 0.0, 49, 50, 999, "made up"])
    counted = {
        str(re.findall('label="([^"]*)"', key)[0]): value
        for key, value in _samples(metrics.render()).items()
        if key.startswith("berth_predictions_total")
    }
    # 0.0 is the class 0: models answer floats for integer classes.
    assert counted == {"0": 2, "49": 1, OTHER: 4}
    bound.count_predictions(range(1000))
    series = [key for key in _samples(metrics.render()) if key.startswith("berth_predictions_total")]
    assert len(series) == MOST_LABELS + 1


@settings(deadline=None)
@given(st.lists(st.floats(-1e7, 1e7) | st.sampled_from(VALUES), min_size=1), st.sampled_from((1, 50)))
def test_values_are_counted_as_prometheus_client_would(values: list[float], times: int) -> None:
    metrics, values = Metrics(), values * times
    metrics.bind("m", "1").observe_values([*values, float("nan"), float("inf")])
    theirs = CollectorRegistry()
    histogram = Histogram("berth_prediction_value", "", ["model", "slot", "version"], buckets=VALUES, registry=theirs)
    for value in values:
        histogram.labels("m", "", "1").observe(value)
    expected, got = _samples(generate_latest(theirs)), _samples(metrics.render())
    assert {key: value for key, value in got.items() if "created" not in key} == pytest.approx(
        {key: value for key, value in expected.items() if "created" not in key}
    )


@pytest.mark.parametrize("count", [10, 1000])
def test_values_whose_sum_is_too_large_do_no_harm(count: int) -> None:
    metrics = Metrics()
    metrics.bind("m", "1").observe_values([1e308] * count)
    assert _sum(metrics.render(), "berth_prediction_value_count") == count


def test_a_scrape_sums_the_workers(two_workers: tuple[Path, list[int]]) -> None:
    text = render(two_workers[0])
    assert _sum(text, "berth_requests_total") == 4
    assert _sum(text, "berth_request_duration_seconds_count") == 4
    assert _sum(text, "berth_inflight") == 4
    assert _sum(text, "berth_model_info") == 1
    assert _sum(text, "berth_model_ready") == 0, "one of the two has not loaded"
    assert "pid=" not in text.decode()


def test_a_dead_workers_counts_stay_and_its_gauges_go(two_workers: tuple[Path, list[int]], tmp_path: Path) -> None:
    directory = Path(shutil.copytree(two_workers[0], tmp_path / "copy"))
    before = render(directory)
    merge_dead_worker(directory, two_workers[1][1])
    after = render(directory)
    assert _counts(after) == _counts(before)
    assert (_sum(after, "berth_inflight"), _sum(after, "berth_model_ready")) == (2, 1)
    merge_dead_worker(directory, two_workers[1][1])
    merge_dead_worker(directory, two_workers[1][0])
    last = render(directory)
    assert _counts(last) == _counts(before)
    assert _sum(last, "berth_inflight") == 0
    kept = {f"{kind}_dead.db" for kind in ("counter", "histogram", "summary")}
    assert {path.name for path in directory.iterdir()} == kept | {"gate", "lock"}


class Broken(Exception):
    """Stands for the merging process's death."""


class Breaker:
    """Raises Broken at the given file operation: Python tells an audit hook of each, so the merge needs no seam."""

    def __init__(self) -> None:
        self.left = -1
        sys.addaudithook(self._count)

    def _count(self, event: str, _: object) -> None:
        if self.left >= 0 and event in ("open", "os.rename", "os.remove"):
            self.left -= 1
            if self.left < 0:
                raise Broken


def test_a_merge_that_breaks_off_anywhere_is_made_up_for(two_workers: tuple[Path, list[int]], tmp_path: Path) -> None:
    breaker = Breaker()
    before, pid = _counts(render(two_workers[0])), two_workers[1][0]
    for operation in range(100):
        directory = Path(shutil.copytree(two_workers[0], tmp_path / str(operation)))
        try:
            breaker.left = operation
            merge_dead_worker(directory, pid)
        except Broken:
            merge_dead_worker(directory, pid)
        else:
            break
        finally:
            breaker.left = -1
        assert _counts(render(directory)) == before
        assert not [path for path in directory.iterdir() if path.suffix in (".part", ".merging")]
    assert operation >= 12, "two locks, the gauges, and five for each file that is added up"


def test_scrapes_during_merges_are_exact(two_workers: tuple[Path, list[int]], tmp_path: Path) -> None:
    directory = tmp_path / "many"
    directory.mkdir()
    workers = range(100_000, 100_040)
    for pid in workers:
        for path in two_workers[0].glob(f"*_{two_workers[1][0]}.db"):
            shutil.copy(path, directory / path.name.replace(str(two_workers[1][0]), str(pid)))
    sums, done = [], threading.Event()

    def scrape() -> None:
        while not done.is_set():
            sums.append(_sum(render(directory), "berth_requests_total"))

    threads = [threading.Thread(target=scrape) for _ in range(2)]
    for thread in threads:
        thread.start()
    unmerged = [*workers]
    try:
        while unmerged:
            with suppress(TimeoutError):  # scrapes hold the lock on a busy machine; the server tries again, too
                merge_dead_worker(directory, unmerged[0])
                unmerged.pop(0)
            time.sleep(0.005)
    finally:
        done.set()
        for thread in threads:
            thread.join()
    assert len(sums) >= 5
    assert set(sums) == {3.0 * len(workers)}


def test_files_of_workers_killed_at_any_moment_can_be_read(two_workers: tuple[Path, list[int]], tmp_path: Path) -> None:
    directory = Path(shutil.copytree(two_workers[0], tmp_path / "copy"))
    before = _counts(render(directory))
    for number, content in enumerate((b"", bytes(65536), b"\x08\0\0\0" + bytes(65532))):
        for kind in ("counter", "histogram", "gauge_livesum"):
            (directory / f"{kind}_{200_000 + number}.db").write_bytes(content)
    # The length of a key that was never written to its end.
    (directory / "counter_200009.db").write_bytes(b"\x18\0\0\0\0\0\0\0\xff\0\0\0" + bytes(65524))
    merge_dead_worker(directory, 200_009)
    assert _counts(render(directory)) == before
    for number in range(3):
        merge_dead_worker(directory, 200_000 + number)
    assert _counts(render(directory)) == before
    assert not list(directory.glob("*_20000*"))


@settings(deadline=None)
@given(st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), st.floats(allow_nan=False)))
def test_merged_files_are_prometheus_clients_own(values: dict[str, float]) -> None:
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory, "counter_dead.db")
        path.write_bytes(_encode_values(values))
        read = MmapedDict.read_all_values_from_file(str(path))
        assert {key: value for key, value, _, _ in read} == values


def test_a_process_that_was_stopped_in_a_scrape_does_not_stop_a_merge_for_ever(
    two_workers: tuple[Path, list[int]], tmp_path: Path
) -> None:
    directory = Path(shutil.copytree(two_workers[0], tmp_path / "copy"))
    with (directory / "lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_SH)
        render(directory)
        with pytest.raises(TimeoutError, match="was held for 2 s"):
            merge_dead_worker(directory, two_workers[1][0])
    merge_dead_worker(directory, two_workers[1][0])


def test_http_metrics_of_two_workers_are_summed_by_route(http_workers: tuple[Path, list[int]], tmp_path: Path) -> None:
    directory = Path(shutil.copytree(http_workers[0], tmp_path / "copy"))
    for gone in (None, *http_workers[1]):
        if gone is not None:
            merge_dead_worker(directory, gone)
        text = render(directory)
        assert _sum(text, "flask_http_request_duration_seconds_count") == 240
        assert _sum(text, "flask_http_request_total") == 240
        routes = set(re.findall(r'url_rule="([^"]*)"', text.decode()))
        assert routes == {*(f"/route-{number}/<name>" for number in range(20)), "unmatched"}
        assert "MADEUP" not in text.decode()


def test_a_scrape_takes_less_than_50_ms(http_workers: tuple[Path, list[int]], tmp_path: Path) -> None:
    directory = Path(shutil.copytree(http_workers[0], tmp_path / "copy"))
    for _ in range(2):
        _run_worker(directory, WORKER, 3, 2)
    times = []
    for _ in range(5):
        # CPU time, so that a busy machine does not count.
        began = time.thread_time()
        render(directory)
        times.append(time.thread_time() - began)
    assert min(times) < 0.05, json.dumps(times)


def test_metrics_files_have_no_holes_and_grow_whole(tmp_path: Path) -> None:
    file = tmp_path / "counter_1.db"
    values = AllocatedDict(str(file))
    assert file.stat().st_blocks * 512 >= file.stat().st_size == 65536
    for number in range(2000):
        values.write_value(f"key-{number:04}" + "x" * 50, float(number), 0.0)
    assert file.stat().st_blocks * 512 >= file.stat().st_size > 65536
    values.close()
    read = {key[:8]: value for key, value, _, _ in MmapedDict.read_all_values_from_file(str(file))}
    assert read == {f"key-{number:04}": float(number) for number in range(2000)}
