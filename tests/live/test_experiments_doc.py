"""The newcomer's path of docs/experiments.md: its commands, as they are written there, end in the right verdict."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from live.berths import ask, running_ready
from live.server import Server

pytestmark = [pytest.mark.live, pytest.mark.slow]
ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs" / "experiments.md").read_text("utf-8")
ADDRESS = "http://localhost:8000"


def run_pasted(start: str, server: Server) -> subprocess.CompletedProcess[str]:
    """The command of the page that starts so, for this machine's Python and this server's address."""
    (line,) = set(re.findall(rf"^    \.venv/bin/({re.escape(start)}.*)$", TEXT, re.MULTILINE))
    command = f"{Path(sys.executable).parent}/{line.replace(ADDRESS, server.url)}"
    return subprocess.run(["bash", "-c", command], cwd=ROOT, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """What `make run` serves: the sample models of the recipe, with the page's file."""
    folder = tmp_path_factory.mktemp("newcomer")
    recipe = ROOT / "model_store" / "recipes" / "iris.py"
    subprocess.run([sys.executable, str(recipe), "--store", str(folder / "store")], check=True, capture_output=True)
    (folder / "key").write_text("k" * 44, "utf-8")
    (file,) = re.findall(r"BERTH_EXPERIMENT_FILE=(docs/\S+)", TEXT)
    settings = {"experiment_file": ROOT / file, "feedback_key_file": folder / "key"}
    with running_ready(folder / "store", folder, workers=2, **settings) as running:
        yield running


def test_the_better_arm_is_found(server: Server) -> None:
    before = run_pasted("berth experiment report", server)
    assert (before.returncode, before.stdout.splitlines()[-1]) == (3, "keep going: nothing is decided yet")
    sent = run_pasted("python docs/examples/simulate_users.py", server)
    assert (sent.returncode, sent.stderr) == (0, "")
    assert sent.stdout.startswith("4000 users, ")
    after = run_pasted("berth experiment report", server)
    assert after.returncode == 0, after.stdout + after.stderr
    assert after.stdout.splitlines()[-1].startswith("iris-forest@1 is better by 0.")
    (report,) = ask(server, "GET", "/experiments")[1]["experiments"]
    assert sum(arm["requests"] for arm in report["arms"]) == 4000
    assert sum(arm["units"] for arm in report["arms"]) == pytest.approx(4000, rel=0.02)
    assert report["split_p"] > 0.001
