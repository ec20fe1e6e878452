"""A worker that does nothing: the others of its pod serve, until the heartbeat has it replaced."""

from __future__ import annotations

import pytest

from cluster.faults import Fault
from cluster.kube import EXAMPLES, Release
from cluster.load import CONNECTIONS
from cluster.two_pods import measure, replace_worker

INSTALL = EXAMPLES / "blue-green-1-install.yaml"


@pytest.mark.slow
def test_a_worker_that_is_stopped(release: Release) -> None:
    release.install(INSTALL, {"slotDefaults": {"config": {"workers": 2}}})
    promise = "the other workers serve; failed ≤ its connections"
    fault = Fault("4", "a worker is SIGSTOPped", promise)
    measure(release, fault, lambda pod: replace_worker(release.namespace, pod, 19, 100), 2 * CONNECTIONS)
