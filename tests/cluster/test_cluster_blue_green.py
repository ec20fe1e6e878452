"""Stage, preview, switch, rollback, retire with the four example files: under load no request fails."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from cluster.kube import EXAMPLES, FLOWER, Client, Release, eventually

INSTALL, STAGE, SWITCH, RETIRE = (
    EXAMPLES / f"blue-green-{step}.yaml" for step in ("1-install", "2-stage", "3-switch", "4-retire")
)
LOADER = (Path(__file__).parent / "loader.py").read_text("utf-8")
RATE = 200


@contextmanager
def load(client: Client, url: str) -> Iterator[dict[str, Any]]:
    """Keep-alive load while the block runs; afterwards the dict says what became of the requests."""
    counts: dict[str, Any] = {}
    process = client.start(LOADER, f"{url}/predict", str(RATE), "8", json.dumps(FLOWER))
    try:
        yield counts
    finally:
        out, err = process.communicate("", timeout=60)
    assert process.returncode == 0, err
    counts |= json.loads(out)
    print(f"load: {counts}")


def test_the_four_files_under_load(release: Release) -> None:
    release.install(INSTALL)
    client = release.namespace.client()
    with load(client, release.url) as counts:
        time.sleep(2)
        release.upgrade(STAGE)
        release.ready("green")
        assert release.active_slot() == "blue"
        release.helm("test", release.name, "--filter", f"name={release.full}-test-green", "--timeout=90s")
        release.upgrade(SWITCH)
        assert release.active_slot() == "green"
        assert client.ask(f"{release.url}/predict", FLOWER).slot == "green"
        release.helm("rollback", release.name, "--timeout=120s")
        assert release.active_slot() == "blue"
        assert client.ask(f"{release.url}/predict", FLOWER).slot == "blue"
        release.upgrade(SWITCH)
        release.upgrade(RETIRE)
        eventually(lambda: not release.namespace.list("pods", "berth.dev/slot=blue"), "blue's pods go")
        time.sleep(2)
    assert counts["failed"] == 0, counts["faults"]
    assert counts["rate"] > 0.9 * RATE
    assert set(counts["slots"]) == {"blue", "green"}
