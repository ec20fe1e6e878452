"""Pods that go: gracefully under load, by force, and by eviction within the budget."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from cluster.kube import EXAMPLES, FLOWER, Namespace, Object, Release, eventually
from cluster.load import load

INSTALL = EXAMPLES / "blue-green-1-install.yaml"


@pytest.fixture(scope="module")
def blue(namespace: Namespace) -> Iterator[Release]:
    """A release with two pods in its blue slot."""
    release = Release(namespace, "iris")
    release.install(INSTALL)
    yield release
    release.remove()


def name_of(pod: Object) -> str:
    """A pod's name."""
    return str(pod["metadata"]["name"])


def wait_for_two(release: Release) -> None:
    """Wait until two pods stand behind the active Service."""

    def two() -> bool:
        deployment = release.namespace.get("deployment", f"{release.full}-blue")
        return deployment["status"].get("availableReplicas") == 2 and len(release.pods("blue")) == 2

    eventually(two, "two pods are available")


def evict(namespace: Namespace, pod: str) -> str:
    """Ask for a pod's eviction, as a node drain does: empty, or why not."""
    meta = f'{{"name": "{pod}", "namespace": "{namespace.name}"}}'
    body = f'{{"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {meta}}}'
    path = f"/api/v1/namespaces/{namespace.name}/pods/{pod}/eviction"
    return namespace.try_kubectl("create", "--raw", path, "-f", "-", text=body).stderr


def test_a_pod_that_is_deleted_takes_no_request_with_it(blue: Release) -> None:
    wait_for_two(blue)
    with load(blue.namespace.client(), blue.url) as counts:
        time.sleep(1)
        victim = name_of(blue.pods("blue")[0])
        blue.namespace.kubectl("delete", "pod", victim, "--wait=true", "--timeout=60s")
        wait_for_two(blue)
    assert counts["failed"] == 0, counts["faults"]
    assert counts["sent"] > 1000


def test_a_pod_that_is_killed_is_replaced_and_the_other_serves(blue: Release) -> None:
    wait_for_two(blue)
    client = blue.namespace.client()
    blue.namespace.kubectl("delete", "pod", name_of(blue.pods("blue")[0]), "--force", "--grace-period=0")
    eventually(lambda: client.ask(f"{blue.url}/predict", FLOWER).status == 200, "the other pod answers", 10)
    wait_for_two(blue)


def test_a_drain_takes_one_pod_at_a_time(blue: Release) -> None:
    wait_for_two(blue)
    one, other = (name_of(pod) for pod in blue.pods("blue"))
    assert evict(blue.namespace, one) == ""
    assert "disruption budget" in evict(blue.namespace, other)
    wait_for_two(blue)
    eventually(lambda: evict(blue.namespace, other) == "", "the second may go when the first is replaced")
    wait_for_two(blue)
