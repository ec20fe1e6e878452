"""Faults of what is around the release: the image, a node for the gate, two upgrades at once."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Iterator

import pytest

from cluster.faults import Fault, Stopwatch
from cluster.kube import CHART, SMALL, Namespace, Release, Values, eventually, run
from cluster.load import load
from cluster.two_slots import QUICK, STAGE, SWITCH, stage_both


@pytest.fixture(scope="module")
def both(namespace: Namespace) -> Iterator[Release]:
    """A release with two pods in either slot; blue is live."""
    release = stage_both(namespace)
    yield release
    release.remove()


def test_an_image_that_cannot_be_pulled(both: Release) -> None:
    missing: Values = {"slots": {"blue": {"image": {"tag": "not-there"}}}}
    with load(both.namespace.client(), both.url) as counts:
        both.helm("upgrade", both.name, str(CHART), "--no-hooks", values=[STAGE, QUICK, SMALL, missing])
        time.sleep(15)
        watch = Stopwatch()
        both.upgrade(STAGE, QUICK)
        both.ready("blue")
        seconds = watch.seconds
    Fault("10", "the live slot's new image cannot be pulled", "0 failed").record(counts, seconds)
    assert counts["failed"] == 0, counts["faults"]


def test_two_upgrades_at_once_and_a_gate_that_is_deleted(both: Release) -> None:
    namespace = both.namespace
    switch = ["helm", "-n", namespace.name, "upgrade", both.name, str(CHART), "--timeout=60s", "-f", str(SWITCH)]
    switch += ["--set-json", _json(SMALL)]
    with load(namespace.client(), both.url) as counts:
        first = subprocess.Popen(switch, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        eventually(lambda: both.state() == "pending-upgrade", "the first is under way", 30)
        second = run(switch)
        assert second.returncode != 0
        assert "another operation" in second.stdout + second.stderr
        first.communicate(timeout=120)
        assert first.returncode == 0
        assert both.active_slot() == "green"
        # Back again, with the gate's pod deleted as soon as it is there.
        back = ["helm", "-n", namespace.name, "upgrade", both.name, str(CHART), "--timeout=60s", "-f", str(STAGE)]
        broken = subprocess.Popen([*back, "--set-json", _json(SMALL)], stdout=subprocess.PIPE, text=True)
        gate = f"batch.kubernetes.io/job-name={both.full}-gate"

        def asks() -> bool:
            return any(pod["status"]["phase"] in ("Pending", "Running") for pod in namespace.list("pods", gate))

        eventually(asks, "the gate's pod is there", 30)
        namespace.kubectl("delete", "pod", "-l", gate, "--force", "--grace-period=0")
        broken.communicate(timeout=120)
        if broken.returncode:
            assert both.active_slot() == "green"
        both.upgrade(STAGE, QUICK)
        assert both.active_slot() == "blue"
    Fault("16", "two upgrades at once; the gate's pod is deleted", "one refusal each; the next works").record(counts)
    assert counts["failed"] == 0, counts["faults"]


def test_no_node_for_the_gate(both: Release) -> None:
    nowhere: Values = {"slots": {"green": {"nodeSelector": {"disk": "none"}}}}
    short: Values = {"gate": {"timeoutSeconds": 1}}
    with load(both.namespace.client(), both.url) as counts:
        before = both.active_slot()
        command = ["upgrade", both.name, str(CHART), "--timeout=15s"]
        done = both.try_helm(*command, values=[SWITCH, QUICK, SMALL, short, nowhere])
        assert done.returncode != 0
        assert both.active_slot() == before == "blue"
        print(f"helm: {done.stderr}")
        both.upgrade(SWITCH, QUICK)
        assert both.active_slot() == "green"
        both.upgrade(STAGE, QUICK)
    Fault("16b", "no node admits the gate's pod", "refused at the timeout; the next works").record(counts)
    assert counts["failed"] == 0, counts["faults"]


def _json(values: Values) -> str:
    return json.dumps(values)
