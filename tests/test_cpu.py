"""The CPU budget over cgroup trees on disk, and the plan made from it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from berth.cgroups import parse_cgroup_paths
from berth.cpu import (
    HEADROOM,
    LEAST_INFLIGHT,
    count_gpus,
    parse_cfs_quota,
    parse_cpu_max,
    plan_cpu,
    read_cpu_budget,
    thread_environment,
)
from berth.errors import SettingsError

VISIBLE = (8.0, "affinity")


def _write_tree(root: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, "ascii")


TREES: dict[str, tuple[dict[str, str], str, float, str]] = {
    "no cgroups": ({}, "", 8, "affinity"),
    "v2, no limit": ({"cpu.max": "max 100000\n"}, "0::/\n", 8, "affinity"),
    "v2, a container": ({"cpu.max": "150000 100000\n"}, "0::/\n", 1.5, "cgroup v2 cpu.max"),
    "v2, without a period": ({"cpu.max": "150000\n"}, "0::/\n", 1.5, "cgroup v2 cpu.max"),
    "v2, more than there is": ({"cpu.max": "3200000 100000\n"}, "0::/\n", 8, "affinity"),
    "v2, a systemd unit": (
        {"system.slice/berth.service/cpu.max": "200000 100000\n"},
        "0::/system.slice/berth.service\n",
        2,
        "cgroup v2 cpu.max",
    ),
    "v2, the parent allows less": (
        {"pod.slice/cpu.max": "50000 100000\n", "pod.slice/box/cpu.max": "200000 100000\n"},
        "0::/pod.slice/box\n",
        0.5,
        "cgroup v2 cpu.max",
    ),
    "v2, a sibling is nobody's business": (
        {"other/cpu.max": "50000 100000\n", "ours/cpu.max": "max 100000\n"},
        "0::/ours\n",
        8,
        "affinity",
    ),
    "v2, the path is the host's": (
        {"cpu.max": "300000 100000\n"},
        "0::/../../kubepods/pod1/box\n",
        3,
        "cgroup v2 cpu.max",
    ),
    "v1": (
        {"cpu/cpu.cfs_quota_us": "250000\n", "cpu/cpu.cfs_period_us": "100000\n"},
        "4:cpu,cpuacct:/\n1:name=systemd:/\n",
        2.5,
        "cgroup v1 cpu.cfs_quota_us",
    ),
    "v1, no limit": (
        {"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"},
        "4:cpu:/\n",
        8,
        "affinity",
    ),
    "v1, nested": (
        {
            "cpu,cpuacct/docker/box/cpu.cfs_quota_us": "100000\n",
            "cpu,cpuacct/docker/box/cpu.cfs_period_us": "50000\n",
        },
        "7:cpu,cpuacct:/docker/box\n",
        2,
        "cgroup v1 cpu.cfs_quota_us",
    ),
    "v1, the path is the host's": (
        {"cpu/cpu.cfs_quota_us": "100000\n", "cpu/cpu.cfs_period_us": "100000\n"},
        "4:cpu:/docker/0123\n",
        1,
        "cgroup v1 cpu.cfs_quota_us",
    ),
    "both": (
        {
            "unified/cpu.max": "300000 100000\n",
            "cpu/cpu.cfs_quota_us": "400000\n",
            "cpu/cpu.cfs_period_us": "100000\n",
        },
        "4:cpu:/\n0::/\n",
        3,
        "cgroup v2 cpu.max",
    ),
    "nonsense": ({"cpu.max": "plenty\n", "cpu/cpu.cfs_quota_us": "\n"}, "garbage\n", 8, "affinity"),
}


@pytest.mark.parametrize("name", TREES)
def test_budget(name: str, tmp_path: Path) -> None:
    files, membership, limit, source = TREES[name]
    _write_tree(tmp_path / "fs", files)
    (tmp_path / "cgroup").write_text(membership, "ascii")
    budget = read_cpu_budget(tmp_path / "fs", tmp_path / "cgroup", VISIBLE)
    assert (budget.limit, budget.source) == (limit, source)


def test_budget_of_this_machine_is_possible() -> None:
    assert 0 < read_cpu_budget().limit <= (os.cpu_count() or 1)


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system has no affinity")
def test_affinity_counts(tmp_path: Path) -> None:
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(before)})
    try:
        assert read_cpu_budget(tmp_path, tmp_path / "none").limit == 1
    finally:
        os.sched_setaffinity(0, before)


def test_parsers() -> None:
    assert parse_cpu_max("") is None
    assert parse_cpu_max("100 0") is None
    assert parse_cfs_quota("100000", "0") is None
    assert parse_cgroup_paths("4:cpu,cpuacct:/a/b\n0::/c:d\n") == {"cpu": "a/b", "cpuacct": "a/b", "": "c:d"}


@pytest.mark.parametrize(
    ("limit", "gpus", "workers", "cpu_threads"),
    [(0.25, 0, 1, 1), (1, 0, 1, 1), (1.9, 0, 1, 1), (2, 0, 2, 1), (7.5, 0, 7, 1), (16, 1, 1, 16), (3.5, 2, 1, 3)],
)
def test_plan(limit: float, gpus: int, workers: int, cpu_threads: int) -> None:
    plan = plan_cpu(limit, gpus=gpus)
    assert (plan.workers, plan.cpu_threads) == (workers, cpu_threads)
    assert plan.threads == plan.max_inflight + HEADROOM


@given(limit=st.floats(0.01, 512), workers=st.none() | st.integers(1, 64), gpus=st.integers(0, 8))
def test_plan_keeps_its_promises(limit: float, workers: int | None, gpus: int) -> None:
    plan = plan_cpu(limit, workers, gpus=gpus)
    assert plan.workers >= 1
    assert plan.compute_slots >= 1
    assert plan.max_inflight >= max(LEAST_INFLIGHT, plan.compute_slots)
    # One thread each is the least there can be.
    assert plan.workers * plan.cpu_threads <= max(limit, plan.workers)


def test_plan_takes_what_is_set_by_hand() -> None:
    plan = plan_cpu(4, workers=3, cpu_threads=2, max_inflight=5, threads=9)
    assert (plan.workers, plan.cpu_threads, plan.max_inflight, plan.threads) == (3, 2, 5, 9)
    assert plan_cpu(4, threads=20).max_inflight == 20 - HEADROOM
    assert plan_cpu(4, threads=2).max_inflight == 1


def test_plan_refuses_threads_that_leave_none_for_probes() -> None:
    with pytest.raises(SettingsError, match="BERTH_THREADS=32 must be greater than BERTH_MAX_INFLIGHT=32"):
        plan_cpu(4, max_inflight=32, threads=32)


def test_gpus_are_counted_by_their_device_nodes(tmp_path: Path) -> None:
    assert count_gpus(tmp_path / "none") == 0
    for name in ("nvidia0", "nvidia11", "nvidiactl", "nvidia-uvm", "null"):
        (tmp_path / name).touch()
    assert count_gpus(tmp_path) == 2


def test_thread_environment_names_every_library() -> None:
    environment = thread_environment(3)
    assert {"OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "VECLIB_MAXIMUM_THREADS"} <= set(environment)
    assert set(environment.values()) == {"3"}
