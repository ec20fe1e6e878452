"""An autoscaler that doubles and halves a slot under load, and an upgrade meanwhile."""

from __future__ import annotations

import time

import pytest

from cluster.faults import Fault, Stopwatch
from cluster.kube import EXAMPLES, Release, Values, eventually
from cluster.load import load

INSTALL = EXAMPLES / "blue-green-1-install.yaml"
AT_ONCE = {"stabilizationWindowSeconds": 0, "policies": [{"type": "Pods", "value": 4, "periodSeconds": 15}]}


def scaled(target: int) -> Values:
    """Two to four pods, by CPU in percent of the request."""
    behavior = {"scaleUp": AT_ONCE, "scaleDown": AT_ONCE}
    limits = {"enabled": True, "minReplicas": 2, "maxReplicas": 4, "cpuUtilization": target, "behavior": behavior}
    return {"slotDefaults": {"autoscaling": limits}}


def replicas(release: Release) -> int:
    """How many pods the autoscaler wants."""
    return int(release.namespace.get("deployment", f"{release.full}-blue")["spec"]["replicas"])


@pytest.mark.slow
def test_an_autoscaler_that_doubles_and_halves_a_slot(release: Release) -> None:
    if release.namespace.try_kubectl("get", "--raw", "/apis/metrics.k8s.io/v1beta1").returncode:
        pytest.skip("no metrics server: nothing to scale by")
    release.install(INSTALL, scaled(20))
    with load(release.namespace.client(), release.url) as counts:
        eventually(lambda: replicas(release) == 4, "the load doubles the slot", 120)
        release.ready("blue")
        watch = Stopwatch()
        # An upgrade does not touch the number; a higher target halves the slot, without less load.
        release.upgrade(INSTALL, scaled(20), {"commonLabels": {"changed": "yes"}})
        assert replicas(release) == 4
        release.upgrade(INSTALL, scaled(1000))
        eventually(lambda: replicas(release) == 2, "it is halved", 120)
        eventually(lambda: len(release.pods("blue")) == 2, "two pods are left", 60)
        seconds = watch.seconds
        time.sleep(5)
    fault = Fault("17", "an autoscaler doubles and halves the slot, 2 → 4 → 2", "0 failed; upgrades leave the number")
    fault.record(counts, seconds)
    assert counts["failed"] == 0, counts["faults"]
