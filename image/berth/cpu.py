"""How many CPUs this process may use, and how workers and threads share them out.

A container sees all of its host's CPUs; what it may use is the minimum of its cgroups' quotas and its affinity.
"""

from __future__ import annotations

import math
import os
import platform
from dataclasses import dataclass
from pathlib import Path

from berth.cgroups import levels_of, parse_cgroup_paths, read_text, v2_levels
from berth.errors import SettingsError

# A burst of this many predictions is never refused, however small the machine.
LEAST_INFLIGHT = 32
# Waiting predictions per computing one, where a worker computes more than a few at once.
INFLIGHT_PER_SLOT = 4
# Threads that predictions never take: probes, metrics and refusals run on these.
HEADROOM = 8
# Everything that sizes a thread pool when it is first imported.
THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "BLIS_NUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "NUMEXPR_MAX_THREADS",
    "VECLIB_MAXIMUM_THREADS",
)


@dataclass(frozen=True, slots=True)
class CpuBudget:
    """CPUs that may be used, and where the number comes from (for the log)."""

    limit: float
    source: str


@dataclass(frozen=True, slots=True)
class CpuPlan:
    """How one server shares its CPUs out; all but `workers` and `limit` are per worker."""

    limit: float
    workers: int
    cpu_threads: int
    compute_slots: int
    max_inflight: int
    threads: int


def parse_cpu_max(text: str) -> float | None:
    """CPUs in a cgroup v2 `cpu.max`, as in `150000 100000`; None where it says `max` or nothing sensible."""
    words = text.split()
    if not words or not words[0].isdigit():
        return None
    period = int(words[1]) if len(words) > 1 and words[1].isdigit() else 100_000
    return int(words[0]) / period if period else None


def parse_cfs_quota(quota: str, period: str) -> float | None:
    """CPUs in cgroup v1's `cpu.cfs_quota_us` and `cpu.cfs_period_us`; None where the quota is -1 (no limit)."""
    if not quota.strip().isdigit() or not period.strip().isdigit() or not int(period):
        return None
    return int(quota) / int(period)


def _quotas_v2(root: Path, paths: dict[str, str]) -> list[float]:
    found = [parse_cpu_max(read_text(level / "cpu.max")) for level in v2_levels(root, paths)]
    return [quota for quota in found if quota is not None]


def _quotas_v1(root: Path, paths: dict[str, str]) -> list[float]:
    mounts = (root / "cpu", root / "cpu,cpuacct", root / "cpuacct,cpu")
    levels = [level for mount in mounts for level in levels_of(mount, paths.get("cpu", ""))]
    found = [
        parse_cfs_quota(read_text(level / "cpu.cfs_quota_us"), read_text(level / "cpu.cfs_period_us"))
        for level in levels
    ]
    return [quota for quota in found if quota is not None]


def _visible_cpus() -> tuple[float, str]:
    if hasattr(os, "sched_getaffinity"):
        return float(len(os.sched_getaffinity(0))), "affinity"
    # macOS has neither affinity nor cgroups.
    return float(os.cpu_count() or 1), f"os.cpu_count (no cgroups on {platform.system()})"


def read_cpu_budget(
    root: Path = Path("/sys/fs/cgroup"),
    membership: Path = Path("/proc/self/cgroup"),
    visible: tuple[float, str] | None = None,
) -> CpuBudget:
    """The minimum of the cgroups' quotas (v2 and v1, every level) and the CPUs the scheduler lets us use."""
    paths = parse_cgroup_paths(read_text(membership))
    candidates = [visible or _visible_cpus()]
    candidates += [(quota, "cgroup v2 cpu.max") for quota in _quotas_v2(root, paths)]
    candidates += [(quota, "cgroup v1 cpu.cfs_quota_us") for quota in _quotas_v1(root, paths)]
    limit, source = min(candidates)
    return CpuBudget(limit, source)


def count_gpus(devices: Path = Path("/dev")) -> int:
    """NVIDIA devices that this container was given, without asking a library.

    /proc/driver/nvidia is the host's even in a container that got no GPU, so only device nodes count.
    """
    return sum(1 for _ in devices.glob("nvidia[0-9]*"))


def plan_cpu(
    limit: float,
    workers: int | None = None,
    cpu_threads: int | None = None,
    max_inflight: int | None = None,
    threads: int | None = None,
    gpus: int = 0,
    compute_slots: int | None = None,
) -> CpuPlan:
    """Fill in what was not set by hand, so that workers x cpu_threads <= CPUs and probes always find a thread.

    Raises SettingsError where `threads` and `max_inflight` are set so that predictions could take every thread.
    """
    if workers is None:
        workers = 1 if gpus else max(1, math.floor(limit))
    if cpu_threads is None:
        cpu_threads = max(1, math.floor(limit / workers))
    if compute_slots is None:
        compute_slots = cpu_threads
    if max_inflight is None:
        automatic = max(LEAST_INFLIGHT, INFLIGHT_PER_SLOT * compute_slots)
        max_inflight = automatic if threads is None else max(1, min(automatic, threads - HEADROOM))
    if threads is None:
        threads = max_inflight + HEADROOM
    if threads <= max_inflight:
        raise SettingsError(
            f"BERTH_THREADS={threads} must be greater than BERTH_MAX_INFLIGHT={max_inflight}, "
            f"or probes wait behind predictions; leave it auto, or set {max_inflight + HEADROOM}"
        )
    return CpuPlan(limit, workers, cpu_threads, compute_slots, max_inflight, threads)


def thread_environment(cpu_threads: int) -> dict[str, str]:
    """Variables that hold numerical libraries to `cpu_threads`; they are read once, when a library is imported."""
    return dict.fromkeys(THREAD_VARIABLES, str(cpu_threads))
