"""The newcomer's path of docs/monitoring.md: its commands, as they are written there, against a real server."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from collector import wait_for
from live.berths import ask, running_ready
from live.server import Server

pytestmark = pytest.mark.live
ROOT = Path(__file__).parents[2]
ADDRESS = "http://localhost:8000"


def pasted(start: str, server: Server) -> str:
    """The command of the page that starts so, for this machine's Python and this server's address."""
    text = (ROOT / "docs" / "monitoring.md").read_text("utf-8")
    block = text[text.index(f"\n    .venv/bin/{start}") :].split("\n\n")[0]
    lines = [line.removeprefix("    ") for line in block.strip("\n").splitlines()]
    assert ADDRESS in block
    command = "\n".join(lines).replace(ADDRESS, server.url)
    return command.replace(".venv/bin/", f"{Path(sys.executable).parent}/", 1)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """What `make run` serves: the sample models of the recipe."""
    folder = tmp_path_factory.mktemp("newcomer")
    recipe = ROOT / "model_store" / "recipes" / "iris.py"
    subprocess.run([sys.executable, str(recipe), "--store", str(folder / "store")], check=True, capture_output=True)
    with running_ready(folder / "store", folder, workers=1) as running:
        yield running


def run_pasted(command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False)


def test_the_shifted_feature_is_found(server: Server) -> None:
    before = run_pasted(pasted("berth drift", server))
    assert before.returncode == 0
    assert "fewer than 100 rows" in before.stdout
    sent = run_pasted(pasted("python -c", server))
    assert (sent.returncode, sent.stderr) == (0, "")

    def find_top() -> tuple[str, bool | None]:
        top = ask(server, "GET", "/drift")[1]["models"][0]["features"][0]
        return top["name"], top["drifted"]

    wait_for(lambda: find_top()[1] is not None)  # rows are counted within half a second
    assert find_top() == ("petal width (cm)", True)
    after = run_pasted(pasted("berth drift", server))
    assert after.returncode == 1
    assert "drifted: petal width (cm), prediction\n" in after.stdout
