"""Stage, preview, switch, rollback, retire with the four example files: under load no request fails."""

from __future__ import annotations

import time

from cluster.kube import EXAMPLES, FLOWER, Release, eventually
from cluster.load import RATE, load

INSTALL, STAGE, SWITCH, RETIRE = (
    EXAMPLES / f"blue-green-{step}.yaml" for step in ("1-install", "2-stage", "3-switch", "4-retire")
)


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
    assert counts["rate"] > 0.8 * RATE
    assert set(counts["slots"]) == {"blue", "green"}
