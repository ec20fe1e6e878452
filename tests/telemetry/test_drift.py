"""Drift: psi and its threshold against known values and by simulation; the ring and the watcher, exactly counted."""

from __future__ import annotations

import threading
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, generate_latest
from scipy.stats import chi2

from berth.models.profile import ColumnProfile, make_column, make_profile
from berth.telemetry.chi_squared import chi_squared_quantile
from berth.telemetry.drift.monitor import DriftMonitor
from berth.telemetry.drift.packing import BLOCK
from berth.telemetry.drift.psi import find_threshold, measure_psi
from berth.telemetry.drift.report import describe_features
from berth.telemetry.drift.ring import SLOTS, CountRing, sum_rings
from berth.telemetry.drift.watcher import (
    QUEUE,
    QUEUE_BYTES,
    FeatureCounts,
    Watched,
    Watcher,
    count_block,
    list_unusual,
    split_counts,
)
from berth.telemetry.metrics.drift_metrics import DriftCollector
from berth.tensors.arrays import TensorSpec
from collector import wait_for

SPECS = (TensorSpec("age", "FP64", (-1,)), TensorSpec("city", "BYTES", (-1,)))


@pytest.mark.parametrize("degrees", [1, 2, 3, 7, 12, 51])
@pytest.mark.parametrize("probability", [0.5, 0.99, 0.9997])
def test_the_quantile_is_scipys(degrees: int, probability: float) -> None:
    assert chi_squared_quantile(probability, degrees) == pytest.approx(chi2.ppf(probability, degrees), rel=1e-6)


def test_psi_by_hand() -> None:
    counts, shares = np.array([10, 30]), np.array([0.5, 0.5])
    p, q = np.array([10.5, 30.5]) / 41, np.array([0.5, 0.5])
    assert measure_psi(counts, shares, 100) == pytest.approx(float(((p - q) * np.log(p / q)).sum()))
    assert find_threshold(13, 10**6, 10**6, 30) == 0.1


def draw(rng: np.random.Generator, rows: int) -> dict[str, Any]:
    """30 columns of four kinds."""
    columns: dict[str, Any] = {f"normal {at}": rng.normal(size=rows) for at in range(10)}
    columns |= {f"skewed {at}": rng.exponential(size=rows) for at in range(7)}
    letters = np.array(list("abcdef"), object)
    shares = [0.4, 0.3, 0.15, 0.1, 0.04, 0.01]
    columns |= {f"letter {at}": letters[rng.choice(6, p=shares, size=rows)] for at in range(7)}
    return columns | {f"count {at}": rng.poisson(3, size=rows).astype(float) for at in range(6)}


def is_drifted(column: ColumnProfile, values: Any, columns: int = 30) -> bool:
    counts = np.bincount(column.find_bins(values), minlength=len(column.shares))
    return measure_psi(counts, np.array(column.shares), column.rows) > find_threshold(
        len(column.shares), len(values), column.rows, columns
    )


@pytest.mark.slow
@pytest.mark.parametrize("rows", [100, 200, 1000, 5000])
def test_false_alarms_are_rare(rows: int) -> None:
    """An alarm is a window above the threshold twice in a row (`for` one window): at most 1 % of 2,000."""
    rng = np.random.default_rng(rows)
    specs = [TensorSpec(name, "FP64", (-1,)) for name in draw(rng, 1)]
    profile = make_profile(specs, draw(rng, 2000), None, False)
    over: list[set[str]] = []
    for _ in range(2000):
        window = draw(rng, rows)
        over.append({column.name for column in profile.columns if is_drifted(column, window[column.name])})
    single = sum(map(bool, over)) / len(over)
    alarms = sum(bool(now & then) for now, then in pairwise(over)) / len(over)
    print(f"{rows} rows: {single:.4f} of windows above, {alarms:.4f} alarms")
    assert single <= 0.03
    assert alarms <= 0.01


@pytest.mark.slow
def test_what_must_be_found_is_found() -> None:
    rng = np.random.default_rng(5)
    number = make_column("x", rng.normal(size=1000))
    letters = make_column("y", np.array(list("abcd"), object)[rng.integers(0, 4, 1000)])
    assert number is not None
    assert letters is not None
    shifted = sum(is_drifted(number, rng.normal(0.5, size=500)) for _ in range(500))
    assert shifted >= 0.9 * 500
    assert all(is_drifted(number, 100 * rng.normal(size=500)) for _ in range(200))
    gaps = [np.where(rng.random(500) < 0.1, np.nan, rng.normal(size=500)) for _ in range(200)]
    assert all(is_drifted(number, values) for values in gaps)
    new = [np.array(list("abcde"), object)[rng.choice(5, p=[0.2] * 5, size=500)] for _ in range(200)]
    assert all(is_drifted(letters, values) for values in new)


def test_a_ring_forgets_what_is_older_than_the_window(tmp_path: Path) -> None:
    at = [1_000_000.0]
    ring = CountRing(tmp_path / "1.counts", [2, 3], 60, now=lambda: at[0])
    ring.add(0, np.array([1, 2]))
    at[0] += 30 * 60
    ring.add(0, np.array([10, 20]))
    ring.add(1, np.array([1, 1, 1]))
    assert [each.tolist() for each in sum_rings(tmp_path, [2, 3], 60, at[0])] == [[11, 22], [1, 1, 1]]
    assert [each.tolist() for each in sum_rings(tmp_path, [2, 3], 60, at[0] + 31 * 60)] == [[10, 20], [1, 1, 1]]
    assert [each.tolist() for each in sum_rings(tmp_path, [2, 3], 60, at[0] + 61 * 60)] == [[0, 0], [0, 0, 0]]
    at[0] += 60 * 60 * 10
    ring.add(1, np.array([5, 5, 5]))  # a slot that is used again is empty first
    assert [each.tolist() for each in sum_rings(tmp_path, [2, 3], 60, at[0])] == [[0, 0], [5, 5, 5]]


def test_rings_of_all_workers_are_summed(tmp_path: Path) -> None:
    for pid in range(4):
        CountRing(tmp_path / f"{pid}.counts", [2], 60).add(0, np.array([1, pid]))
    (tmp_path / "5.counts").write_bytes(b"")  # a worker that has just begun

    assert sum_rings(tmp_path, [2], 60, time.time())[0].tolist() == [4, 6]
    assert SLOTS == 12


def watched(**more: Any) -> Watched:
    rng = np.random.default_rng(0)
    rows = {"age": rng.normal(40, 10, 500), "city": np.array(["Kiel", "Rom"], object)[rng.integers(0, 2, 500)]}
    return Watched(SPECS, make_profile(SPECS, rows, np.arange(500) % 2, True), **more)


def request(rows: int) -> tuple[dict[str, Any], dict[str, Any]]:
    return {"age": np.full(rows, 40.0), "city": np.array(["Rom"] * rows, object)}, {"prediction": np.ones(rows)}


def test_every_row_is_counted_once(tmp_path: Path) -> None:
    model = watched()
    watcher = Watcher([model], CountRing(tmp_path / "1.counts", [model.size], 60), 10**6)

    def send() -> None:
        for rows in (1, 2, 3):
            watcher.offers(0)(*request(rows), rows)

    threads = [threading.Thread(target=send) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    watcher.count_waiting()

    rows, counts = split_counts(model.profile, sum_rings(tmp_path, [model.size], 60, time.time())[0])
    assert rows == 120
    assert [int(each.bins.sum()) for each in counts] == [120, 120, 120]


def test_beyond_the_limit_rows_are_dropped_and_counted(tmp_path: Path) -> None:
    dropped: list[int] = []
    model = watched(on_drop=dropped.append)
    watcher = Watcher([model], CountRing(tmp_path / "1.counts", [model.size], 60), 100)
    watcher._queue.append((0, *request(1000), 1000))
    watcher.count_waiting()
    assert sum(dropped) == 900
    for _ in range(QUEUE + 5):
        watcher.offers(0)(*request(1), 1)
    assert sum(dropped) == 905


def test_the_queue_is_bounded_by_its_bytes(tmp_path: Path) -> None:
    dropped: list[int] = []
    model = watched(on_drop=dropped.append)
    watcher = Watcher([model], CountRing(tmp_path / "1.counts", [model.size], 60), 10**9)
    rows = QUEUE_BYTES // 24  # two columns and a prediction
    for _ in range(3):
        watcher.offers(0)(*request(rows // 2), rows // 2)
    assert dropped == [rows // 2]
    watcher.count_waiting()
    watcher.offers(0)(*request(2 * rows), 2 * rows)  # too large for the bound, but alone
    watcher.offers(0)(*request(1), 1)
    assert dropped == [rows // 2, 1]


@pytest.mark.parametrize(("rows", "requests"), [(1, 513), (40_000, 2)])
def test_much_that_waits_is_counted_at_once(tmp_path: Path, rows: int, requests: int) -> None:
    model = watched()
    watcher = Watcher([model], CountRing(tmp_path / "1.counts", [model.size], 60), 10**9)
    woken = []
    for _ in range(requests):
        watcher.offers(0)(*request(rows), rows)
        woken.append(watcher._many.is_set())
    assert woken == [False] * (requests - 1) + [True]


def test_requests_of_other_dtypes_are_counted_too(tmp_path: Path) -> None:
    model = watched()
    watcher = Watcher([model], CountRing(tmp_path / "1.counts", [model.size], 60), 10**6)
    tensors, outputs = request(2)
    watcher.offers(0)(tensors, outputs, 2)
    watcher.offers(0)(tensors, {"prediction": np.ones(2, np.int64)}, 2)
    watcher.offers(0)(tensors, {}, 2)
    watcher.count_waiting()
    rows, counts = split_counts(model.profile, sum_rings(tmp_path, [model.size], 60, time.time())[0])
    assert rows == 6
    assert [int(each.bins.sum()) for each in counts] == [6, 6, 4]


def test_unusual_values_are_counted_by_kind(tmp_path: Path) -> None:
    seen: list[tuple[str, str, int]] = []
    model = watched(on_unusual=lambda *what: seen.append(what))
    tensors = {"age": np.array([40.0, 10_000.0, np.nan]), "city": np.array(["Rom", "Oslo", None], object)}
    counts = count_block(model, tensors, {}, 3)
    assert counts[0] == 3
    assert sorted(seen) == [
        ("age", "above", 1), ("age", "missing", 1), ("city", "missing", 1), ("city", "unknown", 1),
    ]  # fmt: skip


def test_a_report_begins_with_what_drifted_most() -> None:
    model = watched()
    tensors = {"age": np.full(200, 9000.0), "city": np.array(["Rom", "Kiel"] * 100, object)}
    rows, counts = split_counts(model.profile, count_block(model, tensors, {"prediction": np.arange(200) % 2}, 200))
    features = describe_features(model.profile, counts)
    assert rows == 200
    assert features[0]["name"] == "age"
    assert [feature["drifted"] for feature in features] == [True, False, False]
    assert features[0]["unusual"] == {"above": 200}
    assert sum(features[0]["observed"]) == 200
    few = describe_features(model.profile, [FeatureCounts(counts[0].bins // 3, {}), *counts[1:]])
    assert next(feature for feature in few if feature["name"] == "age")["psi"] is None


def test_a_row_says_what_is_unusual_about_it() -> None:
    tensors = {"age": np.array([40.0, 10_000.0, np.nan]), "city": np.array(["Rom", "Oslo", None], object)}
    assert list_unusual(watched(), tensors, 3) == [
        [],
        [
            {"feature": "age", "kind": "above", "value": 10_000.0},
            {"feature": "city", "kind": "unknown", "value": "Oslo"},
        ],
        [{"feature": "age", "kind": "missing", "value": None}, {"feature": "city", "kind": "missing", "value": None}],
    ]


def test_a_monitor_reports_what_every_worker_counted(tmp_path: Path) -> None:
    key = ("churn", "3")
    monitors = [DriftMonitor(tmp_path / "drift", {key: watched()}, 60, 10**6) for _ in range(2)]
    assert monitors[0].report()[0]["rows"] == 0  # nothing was started
    monitors[0].start()
    monitors[0].offers[key](*request(150), 150)
    assert ("other", "1") not in monitors[0].offers
    wait_for(lambda: monitors[1].report()[0]["rows"] == 150)
    document = monitors[1].report()[0]
    assert (document["model"], document["version"], document["window_seconds"]) == ("churn", "3", 3600)
    registry = CollectorRegistry()
    registry.register(DriftCollector(monitors[1].report, "blue"))
    lines = generate_latest(registry).decode().splitlines()
    assert 'berth_drift_rows{model="churn",slot="blue",version="3"} 150.0' in lines
    assert sum(line.startswith("berth_drift_psi{") for line in lines) == 3
    drifted = sum(feature["drifted"] for feature in document["features"])
    assert f'berth_drift_features{{model="churn",slot="blue",state="drifted",version="3"}} {float(drifted)}' in lines


def test_without_room_for_its_counts_nothing_breaks(tmp_path: Path) -> None:
    (tmp_path / "drift").write_text("no folder")
    monitor = DriftMonitor(tmp_path / "drift", {("churn", "3"): watched()}, 60, 10**6)
    monitor.start()
    assert monitor.offers == {}
    assert monitor.report()[0]["rows"] == 0


MATRIX = [TensorSpec("x", "FP32", (-1, 3))]


def watched_matrix(**more: Any) -> Watched:
    rows = {"x": np.random.default_rng(1).normal(0, 1, (500, 3)).astype(np.float32)}
    return Watched(MATRIX, make_profile(MATRIX, rows, np.arange(500) % 2, True), **more)


def send_matrix(watcher: Watcher, rows: int, dtype: Any = np.float32, predicted: Any = np.int64) -> None:
    watcher.offers(0)({"x": np.ones((rows, 3), dtype)}, {"prediction": np.ones(rows, predicted)}, rows)


def counted_rows(folder: Path, model: Watched) -> int:
    return split_counts(model.profile, sum_rings(folder, [model.size], 60, time.time())[0])[0]


@given(sizes=st.lists(st.integers(1, 200), max_size=12), odd=st.integers(0, 11))
def test_packed_rows_are_counted_as_others(
    tmp_path_factory: pytest.TempPathFactory, sizes: list[int], odd: int
) -> None:
    rng, model = np.random.default_rng(sum(sizes)), watched_matrix()
    totals = []
    for step in (1, 2):  # the second time as views, which come with another stride
        folder = tmp_path_factory.mktemp("counts")
        watcher = Watcher([model], CountRing(folder / "1.counts", [model.size], 60), 10**9)
        expected = np.zeros(model.size, np.int64)
        for at, rows in enumerate(sizes):
            tensors = {"x": rng.normal(0, 3, (rows * step, 3)).astype(np.float64 if at == odd else np.float32)[::step]}
            answers = {"prediction": rng.integers(0, 2, rows * step)[::step]}
            watcher.offers(0)(tensors, answers, rows)
            expected += count_block(model, tensors, answers, rows)
        watcher.count_waiting()
        totals.append(sum_rings(folder, [model.size], 60, time.time())[0].tolist() == expected.tolist())
    assert totals == [True, True]


def test_a_full_block_is_counted_by_the_request_that_fills_it(tmp_path: Path) -> None:
    model = watched_matrix()
    watcher = Watcher([model], CountRing(tmp_path / "1.counts", [model.size], 60), 10**9)
    for _ in range(BLOCK):
        send_matrix(watcher, 1)
    assert counted_rows(tmp_path, model) == 0
    send_matrix(watcher, 1)
    assert counted_rows(tmp_path, model) == BLOCK + 1


def test_no_request_waits_while_another_thread_counts(tmp_path: Path) -> None:
    dropped: list[int] = []
    model = watched_matrix(on_drop=dropped.append)
    watcher = Watcher([model], CountRing(tmp_path / "1.counts", [model.size], 60), 10**9)
    with watcher._counting:
        for _ in range(2 * BLOCK + QUEUE + 3):
            send_matrix(watcher, 1)
    watcher.count_waiting()
    assert (counted_rows(tmp_path, model), sum(dropped)) == (2 * BLOCK + QUEUE, 3)


def test_predictions_of_another_dtype_are_not_packed(tmp_path: Path) -> None:
    model = watched_matrix()
    watcher = Watcher([model], CountRing(tmp_path / "1.counts", [model.size], 60), 10**9)
    for predicted in (np.int64, np.float64, np.int64, object):
        send_matrix(watcher, 2, predicted=predicted)
    send_matrix(watcher, 2, dtype=np.float64)
    watcher.offers(0)({"x": np.ones((2, 3), np.float32)}, {}, 2)
    watcher.count_waiting()
    assert counted_rows(tmp_path, model) == 12


def test_the_thread_leaves_a_growing_block_and_counts_all_others(tmp_path: Path) -> None:
    models = [watched_matrix(), watched_matrix()]
    ring = CountRing(tmp_path / "1.counts", [model.size for model in models], 60)
    watcher = Watcher(models, ring, 10**9)
    for _ in range(BLOCK // 2):
        watcher.offers(0)({"x": np.ones((1, 3), np.float32)}, {"prediction": np.ones(1, np.int64)}, 1)
    watcher.offers(1)({"x": np.ones((1, 3), np.float32)}, {"prediction": np.ones(1, np.int64)}, 1)

    def rows() -> list[int]:
        watcher.look()
        sums = sum_rings(tmp_path, [model.size for model in models], 60, time.time())
        return [split_counts(model.profile, each)[0] for model, each in zip(models, sums, strict=True)]

    assert rows() == [0, 1]
    assert rows() == [BLOCK // 2, 1]  # no more came


def test_after_a_second_with_too_much_small_requests_are_passed_over_and_counted_as_dropped(tmp_path: Path) -> None:
    dropped, now, steps = list[int](), [0.0], []
    model = watched_matrix(on_drop=dropped.append)
    ring = CountRing(tmp_path / "1.counts", [model.size], 60)
    watcher = Watcher([model], ring, 500, lambda: now[0])
    for rows in (1000, 1000, 10):
        for _ in range(rows):
            send_matrix(watcher, 1)
        watcher.count_waiting()
        now[0] += 1
        watcher.look()
        steps.append(watcher._packed[0].step)
    assert steps == [3, 3, 1]  # what is passed over counts as well
    assert counted_rows(tmp_path, model) + sum(dropped) == 2010
    assert 740 < counted_rows(tmp_path, model) < 940  # 500, 333 (a standard deviation of 15) and 3


def test_every_kth_row_over_all_requests_is_counted(tmp_path: Path) -> None:
    dropped: list[int] = []
    model = watched(on_drop=dropped.append)
    watcher = Watcher([model], CountRing(tmp_path / "1.counts", [model.size], 60), 10)
    for start in (0, 7, 20):
        size = {0: 7, 7: 13, 20: 10}[start]
        tensors = {"age": np.arange(start, start + size, dtype=float), "city": np.array(["Rom"] * size, object)}
        watcher._queue.append((0, tensors, {"prediction": np.ones(size)}, size))
    watcher.count_waiting()
    rows, counts = split_counts(model.profile, sum_rings(tmp_path, [model.size], 60, time.time())[0])
    wanted = np.bincount(model.profile.columns[0].find_bins(np.arange(0.0, 30.0, 3)), minlength=len(counts[0].bins))
    assert (rows, sum(dropped)) == (10, 20)
    assert counts[0].bins.tolist() == wanted.tolist()
    watcher._queue.append((0, *request(5), 5))  # the second's rows are used up
    watcher.count_waiting()
    assert sum(dropped) in (20, 25)  # 20 where the second has just ended
