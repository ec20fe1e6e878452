"""Faults of pods and processes under load: what is lost, and how soon all is well again."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator

import pytest

from cluster.faults import Fault
from cluster.kube import EXAMPLES, Namespace, Release, eventually, run
from cluster.load import CONNECTIONS, RATE
from cluster.two_pods import evict, measure, name_of, replace_worker, restarts, wait_for_two

INSTALL = EXAMPLES / "blue-green-1-install.yaml"
# On the node: the oldest process of a pod that is gunicorn's, which its container began with.
_KILL_FIRST = """
for pid in $(grep -ls '{uid}\\|{other}' /proc/[0-9]*/cgroup | cut -d/ -f3 | sort -n); do
    if tr '\\0' ' ' </proc/$pid/cmdline | grep -q 'berth\\|gunicorn'; then kill -9 $pid && echo $pid; exit; fi
done
"""
_COUNTED = re.compile(r'^berth_requests_total\{.*status="200".*\} (\S+)$', re.MULTILINE)


@pytest.fixture(scope="module")
def blue(namespace: Namespace) -> Iterator[Release]:
    """A release with two pods in its blue slot, two workers each."""
    release = Release(namespace, "iris")
    release.install(INSTALL, {"slotDefaults": {"config": {"workers": 2}}})
    yield release
    release.remove()


def test_a_deleted_pod(blue: Release) -> None:
    def delete(pod: str) -> None:
        blue.namespace.kubectl("delete", "pod", pod, "--wait=true", "--timeout=60s")

    measure(blue, Fault("1", "a pod is deleted", "0 failed"), delete)


def test_an_evicted_pod(blue: Release) -> None:
    def drain(pod: str) -> None:
        other = next(name_of(each) for each in blue.pods("blue") if name_of(each) != pod)
        eventually(lambda: evict(blue.namespace, pod), "the budget lets it go")
        assert not evict(blue.namespace, other), "both pods may go at once"

    measure(blue, Fault("1b", "a pod is evicted, as by a node drain", "0 failed; one pod at a time"), drain)


def test_a_container_that_is_killed(blue: Release) -> None:
    enter = os.environ.get("TEST_NODE_EXEC")
    if not enter:
        pytest.skip("TEST_NODE_EXEC is unset: no way to a process of the node")

    def kill(pod: str) -> None:
        uid = blue.namespace.get("pod", pod)["metadata"]["uid"]
        done = run([enter, "sh", "-c", _KILL_FIRST.format(uid=uid, other=uid.replace("-", "_"))])
        assert done.stdout.strip(), done.stderr
        eventually(lambda: restarts(blue.namespace, pod) > 0, "the container has restarted", 60)

    # The node refuses new connections to the pod until then: two seconds' worth, as half of them are for this pod.
    refused = "new connections to it are refused until the kubelet notices"
    promise = f"failed ≤ in flight on that pod; {refused}; both ready in 20 s"
    measure(blue, Fault("2", "a container is SIGKILLed", promise, within=20), kill, CONNECTIONS, refused=RATE)


def successes(release: Release) -> int:
    """The predictions with status 200 that the pods of a release have counted."""
    client = release.namespace.client()
    urls = [f"http://{pod['status']['podIP']}:8000/metrics" for pod in release.pods("blue")]
    return int(sum(float(count) for url in urls for count in _COUNTED.findall(client.ask(url).text)))


def test_a_worker_that_is_killed(blue: Release) -> None:
    wait_for_two(blue)
    before = successes(blue)
    promise = "failed ≤ in flight on that worker; back in 5 s; counters exact"
    fault = Fault("3", "a worker is SIGKILLed", promise, within=5)
    counts = measure(blue, fault, lambda pod: replace_worker(blue.namespace, pod, 9, 30), CONNECTIONS)
    # Of a request that was in flight on the worker, it may have counted a response that no client has.
    counted = successes(blue) - before
    assert 0 <= counted - counts["statuses"]["200"] <= counts["failed"], (counted, counts["statuses"])
