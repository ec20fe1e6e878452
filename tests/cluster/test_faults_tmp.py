"""A pod whose /tmp has more than it may have: the kubelet evicts it, and its slot serves on."""

from __future__ import annotations

import pytest

from cluster.faults import Fault
from cluster.kube import EXAMPLES, Release, eventually
from cluster.load import CONNECTIONS
from cluster.two_pods import in_pod, measure

INSTALL = EXAMPLES / "blue-green-1-install.yaml"
# The kubelet looks at volumes once a minute.
_FILL = "open('/tmp/full', 'wb').write(bytes(32 << 20))"


@pytest.mark.slow
def test_a_tmp_that_is_full(release: Release) -> None:
    release.install(INSTALL, {"slotDefaults": {"tmpSize": "16Mi"}})

    def fill(pod: str) -> None:
        in_pod(release.namespace, pod, _FILL)
        gone = ["get", "pod", pod, "-o=jsonpath={.status.reason}{.status.message}"]
        seen: list[str] = []

        def evicted() -> bool:
            seen.append(release.namespace.try_kubectl(*gone).stdout)
            return seen[-1].startswith("Evicted")

        eventually(evicted, "the kubelet evicts the pod", 150)
        print(f"evicted: {seen[-1]}")
        assert "16Mi" in seen[-1]
        release.namespace.kubectl("delete", "pod", pod)  # what is left of it: its name and the reason

    fault = Fault("12b", "a pod's /tmp has more than `tmpSize`", "evicted; failed ≤ in flight on that pod")
    measure(release, fault, fill, CONNECTIONS)
