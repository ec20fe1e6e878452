"""bench/run, the comparison with the peers: what it says of figures, and one short run of the real thing."""

from __future__ import annotations

import importlib
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

BENCH = Path(__file__).parents[2] / "bench"
Import = Callable[[str], Any]


@pytest.fixture
def tool(monkeypatch: pytest.MonkeyPatch) -> Import:
    """tool("results_page"): a module of bench/, which is no package."""
    monkeypatch.syspath_prepend(str(BENCH))
    return importlib.import_module


def figures(tool: Import, rates: dict[str, list[float]]) -> Any:
    """Figures of the case lr-1 in which each server had these rates."""
    made = tool("figures")
    found = made.Figures(made.Plan(4.0, 1.0, 3, 16), {"date": "2026-01-02", "machine": "M", "system": "S"})
    found.cells["lr-1"] = {
        name: made.Cell([tool("wrk").Seen(1, rate, 1.0, 2.0, 0, 0) for rate in rounds], [0.5])
        for name, rounds in rates.items()
    }
    return found


def test_promises_are_held_against_the_best_peer_and_the_floor(tool: Import) -> None:
    found = figures(tool, {"berth": [900, 1200, 1000], "floor": [2100], "fastapi": [800], "article": [500]})
    best, floor = tool("promises").check_promises(found)
    assert (best.against, best.reached, best.fine) == ("fastapi", "1.25 ×", False)
    assert (floor.against, floor.reached, floor.fine) == ("floor", "0.48 ×", False)
    found = figures(tool, {"berth": [1040], "floor": [2080], "fastapi": [800]})
    assert [kept.fine for kept in tool("promises").check_promises(found)] == [True, True]


def test_a_load_with_errors_counts_for_nothing(tool: Import) -> None:
    found = figures(tool, {"berth": [1000], "fastapi": [5000], "article": [500]})
    found.cells["lr-1"]["fastapi"].problem = "7 responses were errors"
    (best,) = tool("promises").check_promises(found)
    assert (best.against, best.reached) == ("article", "2.00 ×")
    page = tool("results_page").describe(found, None)
    assert "- FastAPI + uvicorn, lr-1: 7 responses were errors" in page
    assert "| FastAPI + uvicorn | failed |" in page


def test_the_page_tells_the_noise_and_the_run_before(tool: Import, tmp_path: Path) -> None:
    found = figures(tool, {"berth": [900, 1000, 1100], "article": [500, 500, 500]})
    found.write(tmp_path / "before.json")
    assert json.loads((tmp_path / "before.json").read_text())["cells"]["lr-1"]["berth"]["rate"] == 1000
    found = figures(tool, {"berth": [950, 1050, 1150]})
    page = tool("results_page").describe(found, tmp_path / "before.json")
    assert "moved by ± 10% in the median and ± 10% at most" in page
    assert "of 2026-01-02, was 5% away in the median and 5% at most" in page


def test_the_picture_is_svg_with_a_bar_for_each_server(tool: Import) -> None:
    found = figures(tool, {"berth": [1000], "article": [500], "fastapi": []})
    root = ElementTree.fromstring(tool("picture").draw(found))
    words = [text.text for text in root.iter("{http://www.w3.org/2000/svg}text")]
    assert {"Berth", "1,000", "tutorial app (Flask)", "500"} <= set(words)
    assert "FastAPI + uvicorn" not in words


def test_names_choose_cases_and_peers() -> None:
    def listed(*patterns: str) -> list[str]:
        command = [sys.executable, str(BENCH / "run"), "--list", *(f"--only={pattern}" for pattern in patterns)]
        return subprocess.run(command, check=False, capture_output=True, text=True).stdout.split()

    assert listed("lr-64/berth", "*/floor") == ["lr-1/floor", "lr-64/berth"]
    assert "mlp-1/kserve" not in listed("mlp-1")
    assert listed("mlp-1")[0] == "mlp-1/berth"


@pytest.mark.live
@pytest.mark.alone
@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("wrk"), reason="wrk is not on PATH")
def test_a_quick_run_measures_and_leaves_nothing_behind() -> None:
    command = [sys.executable, str(BENCH / "run"), "--quick", "--only", "lr-1/berth", "--only", "lr-1/floor"]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    cells = json.loads((BENCH / ".results" / "part.json").read_text())["cells"]["lr-1"]
    assert cells["berth"]["rate"] > 100
    assert cells["floor"]["rate"] > 100
    assert cells["berth"]["paced"]["rate"] == pytest.approx(cells["berth"]["paced_rate"], rel=0.2)
    stores = [path.read_bytes() for path in Path("/proc").glob("[0-9]*/cmdline") if path.parent.exists()]
    assert not [line for line in stores if b"floor_app" in line or str(BENCH / ".models" / "store").encode() in line]
