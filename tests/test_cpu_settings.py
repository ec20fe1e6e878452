"""The plan for the CPUs: what the operator set stays, what is auto is planned anew from another limit."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from berth.cpu_settings import plan_settings, restore_auto, settle_plan, write_auto
from berth.settings import Settings


def test_what_is_auto_follows_another_limit_and_what_is_set_stays(tmp_path: Path) -> None:
    given = Settings(run_dir=str(tmp_path), cpu_threads=3)
    write_auto(tmp_path, given)
    settled = settle_plan(given, plan_settings(given, 4.0))
    assert (settled.workers, settled.cpu_threads, settled.threads) == (4, 3, 40)
    assert plan_settings(settled, 2.0).workers == 4  # as its processes find it in their environment
    again = plan_settings(restore_auto(settled), 2.0)
    assert (again.workers, again.cpu_threads) == (2, 3)


@pytest.mark.parametrize("run_dir", ["", "nowhere"])
def test_settings_that_nobody_settled_are_as_they_are(tmp_path: Path, run_dir: str) -> None:
    given = Settings(run_dir=str(tmp_path / run_dir) if run_dir else "", workers=2)
    assert restore_auto(given) == given == replace(given)
