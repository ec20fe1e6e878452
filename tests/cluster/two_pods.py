"""A slot with two pods under load, a fault on one of them, and what is lost until both are well again."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

from cluster.faults import Fault, Stopwatch
from cluster.kube import Namespace, Object, Release, eventually
from cluster.load import load

# In a server's container: a signal for one of its workers, each of which has a file with its name; then the seconds
# until so many others have loaded their models.
_WORKERS = """
import json, os, pathlib, sys, time
def ready():
    found = set()
    for path in pathlib.Path("/dev/shm/berth/workers").glob("[0-9]*.json"):
        try:
            states = json.loads(path.read_text()).values()
        except (OSError, ValueError):
            continue
        if all(each["state"] == "ready" for each in states):
            found.add(int(path.stem))
    return found
number, count, most = int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])
victim, began = min(ready()), time.monotonic()
if number:
    os.kill(victim, number)
while len(ready() - {victim if number else 0}) != count:
    if time.monotonic() > began + most:
        sys.exit(f"not {count} workers within {most} s")
    time.sleep(0.05)
print(time.monotonic() - began)
"""


def wait_for_two(release: Release, slot: str = "blue") -> None:
    """Wait until two pods stand behind the active Service."""

    def two() -> bool:
        deployment = release.namespace.get("deployment", f"{release.full}-{slot}")
        return deployment["status"].get("availableReplicas") == 2 and len(release.pods(slot)) == 2

    eventually(two, "two pods are available")


def name_of(pod: Object) -> str:
    """A pod's name."""
    return str(pod["metadata"]["name"])


def in_pod(namespace: Namespace, pod: str, script: str, *arguments: str) -> str:
    """What a Python script prints in a server's container."""
    return namespace.kubectl("exec", pod, "-c", "berth", "--", "python", "-c", script, *arguments)


def replace_worker(namespace: Namespace, pod: str, number: int, seconds: float) -> float:
    """Send one of a pod's two workers a signal; the seconds until another one is in its place, within `seconds`."""
    return float(in_pod(namespace, pod, _WORKERS, str(number), "2", str(seconds)))


def wait_for_workers(namespace: Namespace, pod: str, count: int, seconds: float) -> float:
    """Wait until a pod has so many workers that are ready; the seconds that took."""
    return float(in_pod(namespace, pod, _WORKERS, "0", str(count), str(seconds)))


def evict(namespace: Namespace, pod: str) -> bool:
    """Ask for a pod's eviction, as a node drain does."""
    meta = f'{{"name": "{pod}", "namespace": "{namespace.name}"}}'
    body = f'{{"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {meta}}}'
    path = f"/api/v1/namespaces/{namespace.name}/pods/{pod}/eviction"
    return not namespace.try_kubectl("create", "--raw", path, "-f", "-", text=body).stderr


def restarts(namespace: Namespace, pod: str) -> int:
    """How often a pod's server has been started again."""
    return int(namespace.get("pod", pod)["status"]["containerStatuses"][0]["restartCount"])


def resize(namespace: Namespace, pod: str, cpu: str) -> None:
    """Change a running pod's CPU limit."""
    container = {"name": "berth", "resources": {"limits": {"cpu": cpu}}}
    patch = json.dumps({"spec": {"containers": [container]}})
    namespace.kubectl("patch", "pod", pod, "--subresource", "resize", "--patch", patch)


def measure(
    release: Release, fault: Fault, cause: Callable[[str], float | None], allowed: int = 0, refused: int = 0
) -> dict[str, Any]:
    """Load, the fault on one of two pods, and its end: when both are well again, or after the seconds `cause` returns.

    No more than `allowed` requests fail that a server had, and no more than `refused` others.
    """
    wait_for_two(release)
    victim = name_of(release.pods("blue")[0])
    with load(release.namespace.client(), release.url, allowed=allowed + refused) as counts:
        time.sleep(2)
        watch = Stopwatch()
        took = cause(victim)
        wait_for_two(release)
        seconds = watch.seconds if took is None else took
        time.sleep(2)
    fault.record(counts, seconds)
    assert counts["failed"] - counts["refused"] <= allowed, counts["faults"]
    assert counts["refused"] <= refused, counts["faults"]
    assert counts["sent"] > 800
    assert fault.within is None or seconds <= fault.within
    return counts
