"""Cluster DNS is away: live traffic goes on, and nothing switches, for the gate trusts no silence."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from cluster.faults import Fault
from cluster.kube import Namespace, Release, run
from cluster.load import load
from cluster.two_slots import QUICK, SWITCH, stage_both


@pytest.fixture(scope="module")
def both(namespace: Namespace) -> Iterator[Release]:
    """A release with two pods in either slot; blue is live."""
    release = stage_both(namespace)
    yield release
    release.remove()


def scale_dns(replicas: int) -> None:
    """Take cluster DNS away, or bring it back."""
    run(["kubectl", "-n", "kube-system", "scale", "deployment/coredns", f"--replicas={replicas}"])
    wanted = "--for=condition=Available" if replicas else "--for=jsonpath={.status.replicas}=0"
    command = ["kubectl", "-n", "kube-system", "wait", "deployment/coredns", wanted, "--timeout=60s"]
    if replicas:
        assert run(command).returncode == 0


@pytest.fixture
def no_dns() -> Iterator[None]:
    """Cluster DNS is away while the test runs."""
    if run(["kubectl", "-n", "kube-system", "get", "deployment/coredns"]).returncode:
        pytest.skip("no coredns here that could be taken away")
    try:
        scale_dns(0)
        yield
    finally:
        scale_dns(1)


def test_dns_that_is_down(both: Release, no_dns: None) -> None:
    with load(both.namespace.client(), both.url) as counts:
        time.sleep(3)  # the pods of DNS end
        # A switch that also retires the live slot: what silence must never let through.
        told = both.refused(SWITCH, QUICK, {"slots": {"blue": {"mode": "absent"}}})
        time.sleep(2)
    sentence = next(line for line in told.replace("\\n", "\n").splitlines() if "REFUSED" in line)
    assert "DNS did not respond" in sentence
    assert both.active_slot() == "blue"
    assert len(both.pods("blue")) == 2
    Fault("9", "cluster DNS is down", "0 failed; the gate refuses and names DNS").record(counts)
    assert counts["failed"] == 0, counts["faults"]
