"""Helm that is killed at random moments: the traffic stays on one slot, and one command repairs the release."""

from __future__ import annotations

import json
import os
import random
import subprocess
import time
from collections.abc import Iterator

import pytest

from cluster.faults import Fault
from cluster.kube import CHART, FLOWER, SMALL, Namespace, Release
from cluster.load import load
from cluster.two_slots import QUICK, STAGE, SWITCH, stage_both

# The contract has ten; fewer while something is tried.
KILLS = int(os.environ.get("TEST_KILLS", "10"))


@pytest.fixture(scope="module")
def both(namespace: Namespace) -> Iterator[Release]:
    """A release with two pods in either slot; blue is live."""
    release = stage_both(namespace)
    yield release
    release.remove()


@pytest.mark.slow
def test_helm_that_is_killed(both: Release) -> None:
    namespace, chance = both.namespace, random.Random(14)
    client = namespace.client()
    with load(client, both.url) as counts:
        for at in range(KILLS):
            values = SWITCH if both.active_slot() == "blue" else STAGE
            command = ["helm", "-n", namespace.name, "upgrade", both.name, str(CHART), "-f", str(values)]
            process = subprocess.Popen([*command, "--set-json", json.dumps(SMALL)], stdout=subprocess.DEVNULL)
            time.sleep(chance.uniform(0.5, 8.0))
            process.kill()
            process.wait()
            assert both.active_slot() in ("blue", "green"), at
            # What docs/operating.md says for the state that the release is in.
            if both.state().startswith("pending"):
                both.helm("rollback", both.name, "--timeout=120s")
            assert client.ask(f"{both.url}/predict", FLOWER).status == 200
        both.upgrade(STAGE, QUICK)
    assert both.active_slot() == "blue"
    what = f"helm is killed at {KILLS} random moments of switches"
    Fault("15", what, "0 failed; `helm rollback` repairs").record(counts)
    assert counts["failed"] == 0, counts["faults"]
