"""An autoscaler doubles and halves a slot under load, by CPU and by requests in flight, and an upgrade meanwhile."""

from __future__ import annotations

import time
from typing import Any

import pytest

from cluster.faults import Fault, Stopwatch
from cluster.kube import EXAMPLES, Release, Values, eventually
from cluster.load import load

INSTALL = EXAMPLES / "blue-green-1-install.yaml"
AT_ONCE = {"stabilizationWindowSeconds": 0, "policies": [{"type": "Pods", "value": 4, "periodSeconds": 15}]}
# Each request waits 70 ms for others: of 200 a second, 14 are in flight. The metric is that of a moment: with six, one
# moment in seven had so few that the autoscaler took a pod away.
BATCHING: Values = {
    "slotDefaults": {"config": {"batchMaxRows": 64, "batchWaitMs": 70}, "scrapeAnnotations": True},
}
CONNECTIONS = 16


def scaled(**targets: int) -> Values:
    """Two to four pods, by one metric."""
    behavior = {"scaleUp": AT_ONCE, "scaleDown": AT_ONCE}
    limits: dict[str, Any] = {"enabled": True, "minReplicas": 2, "maxReplicas": 4, "behavior": behavior}
    return {"slotDefaults": {"autoscaling": {**limits, "cpuUtilization": 0, **targets}}}


def replicas(release: Release) -> int:
    """How many pods the autoscaler wants."""
    return int(release.namespace.get("deployment", f"{release.full}-blue")["spec"]["replicas"])


def double_and_halve(release: Release, fault: Fault, values: Values, low: Values, high: Values) -> None:
    """Load that doubles the slot while the target is low; an upgrade; and a high target, which halves it."""
    release.install(INSTALL, values, low)
    with load(release.namespace.client(), release.url, connections=CONNECTIONS) as counts:
        eventually(lambda: replicas(release) == 4, "the load doubles the slot", 150)
        release.ready("blue")
        watch = Stopwatch()
        # An upgrade does not touch the number; a higher target halves the slot, without less load.
        release.upgrade(INSTALL, values, low, {"commonLabels": {"changed": "yes"}})
        assert replicas(release) == 4
        release.upgrade(INSTALL, values, high)
        eventually(lambda: replicas(release) == 2, "it is halved", 120)
        eventually(lambda: len(release.pods("blue")) == 2, "two pods are left", 60)
        seconds = watch.seconds
        time.sleep(5)
    fault.record(counts, seconds)
    assert counts["failed"] == 0, counts["faults"]


@pytest.mark.slow
def test_an_autoscaler_that_doubles_and_halves_a_slot(release: Release) -> None:
    if release.namespace.try_kubectl("get", "--raw", "/apis/metrics.k8s.io/v1beta1").returncode:
        pytest.skip("no metrics server: nothing to scale by")
    what = "an autoscaler doubles and halves the slot by CPU, 2 → 4 → 2"
    fault = Fault("17", what, "0 failed; upgrades leave the number")
    double_and_halve(release, fault, {}, scaled(cpuUtilization=20), scaled(cpuUtilization=1000))


@pytest.mark.slow
def test_an_autoscaler_that_follows_requests_in_flight(release: Release) -> None:
    if release.namespace.try_kubectl("get", "--raw", "/apis/custom.metrics.k8s.io/v1beta2").returncode:
        pytest.skip("no custom metrics: nothing to scale by")
    fault = Fault("17b", "the same by `berth_inflight`", "0 failed; upgrades leave the number")
    double_and_halve(release, fault, BATCHING, scaled(inflight=1), scaled(inflight=20))
