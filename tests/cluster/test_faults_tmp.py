"""A pod whose /tmp has more than it may have: the kubelet evicts it, and its slot serves on."""

from __future__ import annotations

import pytest

from cluster.faults import Fault
from cluster.kube import EXAMPLES, Release, eventually
from cluster.load import CONNECTIONS, RATE
from cluster.two_pods import in_pod, measure

INSTALL = EXAMPLES / "blue-green-1-install.yaml"
# The kubelet measures volumes once a minute.
_FILL = "open('/tmp/full', 'wb').write(bytes(32 << 20))"


@pytest.mark.slow
def test_a_tmp_that_is_full(release: Release) -> None:
    release.install(INSTALL, {"slotDefaults": {"tmpSize": "16Mi"}})
    namespace = release.namespace

    def fill(pod: str) -> None:
        in_pod(namespace, pod, _FILL)
        why = f"reason=Evicted,involvedObject.name={pod}"
        limit = 'EmptyDir volume "tmp" exceeds the limit "16Mi"'

        def evicted() -> bool:
            return any(limit in event["message"] for event in namespace.list("events", fields=why))

        eventually(evicted, "the kubelet evicts the pod", 150)
        # What is left of it: its name, as failed or, where the server has ended by itself in time, as succeeded.
        namespace.kubectl("delete", "pod", pod, "--ignore-not-found")

    # The kubelet does not wait for preStop here: connections to the pod fail until the Service has forgotten it.
    promise = "evicted; failed ≤ in flight on that pod; new connections to it fail until the Service forgets it"
    measure(release, Fault("12b", "a pod's /tmp has more than `tmpSize`", promise), fill, CONNECTIONS, refused=RATE)
