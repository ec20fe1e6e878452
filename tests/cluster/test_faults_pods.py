"""Faults of pods and processes under load: what is lost, and how soon all is well again."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator

import pytest

from cluster.faults import Fault, Stopwatch
from cluster.kube import EXAMPLES, Namespace, Object, Release, eventually, run
from cluster.load import CONNECTIONS, RATE, load

INSTALL = EXAMPLES / "blue-green-1-install.yaml"
# In a server's container: a signal for one of its workers, named by the file that each of them has.
_SIGNAL = """
import os, pathlib, sys
workers = sorted(int(path.stem) for path in pathlib.Path("/dev/shm/berth/workers").glob("[0-9]*.json"))
if len(sys.argv) > 1:
    os.kill(workers[0], int(sys.argv[1]))
print(*workers)
"""

# On the node: the oldest process of a pod that is gunicorn's, which its container began with.
_KILL_FIRST = """
for pid in $(grep -ls '{uid}\\|{other}' /proc/[0-9]*/cgroup | cut -d/ -f3 | sort -n); do
    if tr '\\0' ' ' </proc/$pid/cmdline | grep -q 'berth\\|gunicorn'; then kill -9 $pid && echo $pid; exit; fi
done
"""


@pytest.fixture(scope="module")
def blue(namespace: Namespace) -> Iterator[Release]:
    """A release with two pods in its blue slot, two workers each."""
    release = Release(namespace, "iris")
    release.install(INSTALL, {"slotDefaults": {"config": {"workers": 2}}})
    yield release
    release.remove()


def wait_for_two(release: Release) -> None:
    """Wait until two pods stand behind the active Service."""

    def two() -> bool:
        deployment = release.namespace.get("deployment", f"{release.full}-blue")
        return deployment["status"].get("availableReplicas") == 2 and len(release.pods("blue")) == 2

    eventually(two, "two pods are available")


def name_of(pod: Object) -> str:
    """A pod's name."""
    return str(pod["metadata"]["name"])


def signal(namespace: Namespace, pod: str, number: int | None = None) -> list[str]:
    """Send a worker of a pod a signal; the workers' process ids."""
    given = [] if number is None else [str(number)]
    return namespace.kubectl("exec", pod, "-c", "berth", "--", "python", "-c", _SIGNAL, *given).split()


def evict(namespace: Namespace, pod: str) -> bool:
    """Ask for a pod's eviction, as a node drain does."""
    meta = f'{{"name": "{pod}", "namespace": "{namespace.name}"}}'
    body = f'{{"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {meta}}}'
    path = f"/api/v1/namespaces/{namespace.name}/pods/{pod}/eviction"
    return not namespace.try_kubectl("create", "--raw", path, "-f", "-", text=body).stderr


def measure(blue: Release, fault: Fault, cause: Callable[[str], None], allowed: int = 0) -> None:
    """Load, the fault on one of two pods, and its end; no more than `allowed` requests fail."""
    wait_for_two(blue)
    victim = name_of(blue.pods("blue")[0])
    with load(blue.namespace.client(), blue.url, allowed=allowed) as counts:
        time.sleep(2)
        watch = Stopwatch()
        cause(victim)
        wait_for_two(blue)
        seconds = watch.seconds
        time.sleep(2)
    fault.record(counts, seconds)
    assert counts["failed"] <= allowed, counts["faults"]
    assert counts["sent"] > 800


def test_a_deleted_pod(blue: Release) -> None:
    def delete(pod: str) -> None:
        blue.namespace.kubectl("delete", "pod", pod, "--wait=true", "--timeout=60s")

    measure(blue, Fault("1", "a pod is deleted", "0 failed"), delete)


def test_an_evicted_pod(blue: Release) -> None:
    def drain(pod: str) -> None:
        eventually(lambda: evict(blue.namespace, pod), "the budget lets it go")

    measure(blue, Fault("1b", "a pod is evicted, as by a node drain", "0 failed"), drain)


def test_a_container_that_is_killed(blue: Release) -> None:
    enter = os.environ.get("TEST_NODE_EXEC")
    if not enter:
        pytest.skip("TEST_NODE_EXEC is unset: no way to a process of the node")

    def kill(pod: str) -> None:
        uid = blue.namespace.get("pod", pod)["metadata"]["uid"]
        done = run([enter, "sh", "-c", _KILL_FIRST.format(uid=uid, other=uid.replace("-", "_"))])
        assert done.stdout.strip(), done.stderr
        eventually(lambda: _restarts(blue, pod) > 0, "the container has restarted", 60)

    # The node refuses new connections to the pod until the kubelet has noticed: a second's worth at most.
    promise = "failed ≤ in flight on that pod, and new connections to it for 1 s"
    measure(blue, Fault("2", "a container is SIGKILLed", promise), kill, RATE)


def _restarts(blue: Release, pod: str) -> int:
    status = blue.namespace.get("pod", pod)["status"]
    return int(status["containerStatuses"][0]["restartCount"])


def test_a_worker_that_is_killed(blue: Release) -> None:
    def kill(pod: str) -> None:
        before = signal(blue.namespace, pod, 9)

        def replaced() -> bool:
            now = signal(blue.namespace, pod)
            return len(now) == 2 and now != before

        eventually(replaced, "the worker is replaced", 30)

    measure(blue, Fault("3", "a worker is SIGKILLed", "failed ≤ in flight on that worker"), kill, CONNECTIONS)


@pytest.mark.slow
def test_a_worker_that_is_stopped(blue: Release) -> None:
    def stop(pod: str) -> None:
        before = signal(blue.namespace, pod, 19)

        def replaced() -> bool:
            now = signal(blue.namespace, pod)
            return len(now) == 2 and before[0] not in now

        eventually(replaced, "the heartbeat has replaced the worker", 100)

    promise = "the other workers serve; failed ≤ its connections"
    measure(blue, Fault("4", "a worker is SIGSTOPped", promise), stop, 2 * CONNECTIONS)
