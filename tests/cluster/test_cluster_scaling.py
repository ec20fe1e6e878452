"""An autoscaler owns the number of pods: it goes up and down with the load, and an upgrade leaves it alone."""

from __future__ import annotations

import time

import pytest

from cluster.kube import EXAMPLES, Release, Values, eventually
from cluster.load import load

QUICKSTART = EXAMPLES / "quickstart.yaml"
AT_ONCE = {"stabilizationWindowSeconds": 0, "policies": [{"type": "Pods", "value": 4, "periodSeconds": 15}]}
SCALED: Values = {
    "slotDefaults": {
        "autoscaling": {
            "enabled": True,
            "minReplicas": 1,
            "maxReplicas": 2,
            "cpuUtilization": 100,
            "behavior": {"scaleUp": AT_ONCE, "scaleDown": AT_ONCE},
        }
    }
}


def replicas(release: Release) -> int:
    """How many pods the autoscaler wants."""
    return int(release.namespace.get("deployment", f"{release.full}-blue")["spec"]["replicas"])


@pytest.mark.slow
def test_an_upgrade_leaves_scaled_replicas_alone(release: Release) -> None:
    if release.namespace.try_kubectl("get", "--raw", "/apis/metrics.k8s.io/v1beta1").returncode:
        pytest.skip("no metrics server: nothing to scale by")
    release.install(QUICKSTART, SCALED)
    assert replicas(release) == 1
    with load(release.namespace.client(), release.url) as counts:
        eventually(lambda: replicas(release) == 2, "the load scales the slot up", 120)
        release.upgrade(QUICKSTART, SCALED, {"commonLabels": {"changed": "yes"}})
        for _ in range(5):
            assert replicas(release) == 2
            time.sleep(0.5)
    assert counts["failed"] == 0, counts["faults"]
    eventually(lambda: replicas(release) == 1, "without load it scales down", 150)
