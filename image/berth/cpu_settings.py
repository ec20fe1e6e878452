"""The settings that share out the CPUs: what the operator set stays, what is auto follows the container's limit."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from berth.cpu import CpuPlan, count_gpus, plan_cpu, read_cpu_budget
from berth.settings import Settings

# What a plan decides where the operator did not.
_PLANNED = ("workers", "cpu_threads", "compute_slots", "max_inflight", "threads")
# In the run directory: those that were auto when the server started, one a line. Its processes get them settled.
AUTO_FILE = "auto"


def plan_settings(settings: Settings, limit: float | None = None) -> CpuPlan:
    """How one server shares its CPUs out; `limit` None is the container's now. Raises SettingsError."""
    return plan_cpu(
        read_cpu_budget().limit if limit is None else limit,
        settings.workers,
        settings.cpu_threads,
        settings.max_inflight,
        settings.threads,
        count_gpus(),
        settings.compute_slots,
    )


def settle_plan(settings: Settings, plan: CpuPlan) -> Settings:
    """The settings with the plan's numbers."""
    return replace(settings, **{name: getattr(plan, name) for name in _PLANNED})


def write_auto(run_dir: Path, settings: Settings) -> None:
    """Keep for `restore_auto` which settings are auto."""
    names = [name for name in _PLANNED if getattr(settings, name) is None]
    (run_dir / AUTO_FILE).write_text("".join(f"{name}\n" for name in names), "utf-8")


def restore_auto(settings: Settings) -> Settings:
    """Settled settings with those auto again that were so when the server started."""
    path = Path(settings.run_dir, AUTO_FILE)
    if not settings.run_dir or not path.exists():
        return settings  # started without `berth serve`: nothing is settled yet
    auto: dict[str, Any] = dict.fromkeys(path.read_text("utf-8").split())
    return replace(settings, **auto)
