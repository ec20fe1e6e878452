"""Faults of what a pod may use: CPU that is added, taken away or cut, memory and the run directory used up."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from cluster.faults import Fault
from cluster.kube import EXAMPLES, Namespace, Release, Values
from cluster.load import CONNECTIONS
from cluster.two_pods import in_pod, measure, resize, restarts, wait_for_workers

INSTALL = EXAMPLES / "blue-green-1-install.yaml"
LIMITS: Values = {"slotDefaults": {"resources": {"limits": {"cpu": "1", "memory": "512Mi"}}}}
# More than the limit, touched; the kernel ends who has most.
_HOG = """
import subprocess, sys
hog = subprocess.run([sys.executable, "-c", "x = b'x' * (700 << 20)"])
print(hog.returncode)
"""
_FILL = """
import sys
if sys.argv[1] == "fill":
    with open("/dev/shm/full", "wb", 0) as file:
        try:
            while True:
                file.write(bytes(1 << 16))
        except OSError as error:
            print(error)
else:
    import os
    os.remove("/dev/shm/full")
"""
_COUNT = """
import urllib.request
text = urllib.request.urlopen("http://127.0.0.1:8000/metrics", timeout=5).read().decode()
lines = [line for line in text.splitlines() if line.startswith("berth_requests_total")]
print(sum(float(line.rpartition(" ")[2]) for line in lines))
"""


@pytest.fixture(scope="module")
def blue(namespace: Namespace) -> Iterator[Release]:
    """A release with two pods in its blue slot, whose workers follow their CPU limit of one."""
    release = Release(namespace, "iris")
    release.install(INSTALL, LIMITS)
    yield release
    release.remove()


def test_cpus_that_come_and_go(blue: Release) -> None:
    namespace = blue.namespace

    def follow(pod: str) -> None:
        wait_for_workers(namespace, pod, 1, 1)
        for cpu, workers in (("2", 2), ("1", 1)):
            resize(namespace, pod, cpu)
            print(f"{workers} workers after {wait_for_workers(namespace, pod, workers, 15):.1f} s")
            time.sleep(2)
        assert restarts(namespace, pod) == 0

    promise = "no restart, 0 failed, workers follow within 15 s"
    measure(blue, Fault("20", "a pod's CPU limit is changed in place, 1 → 2 → 1", promise), follow)


def test_a_cpu_that_is_cut(blue: Release) -> None:
    namespace = blue.namespace
    prober = namespace.client("prober")

    def cut(pod: str) -> None:
        resize(namespace, pod, "100m")
        try:
            address = namespace.get("pod", pod)["status"]["podIP"]
            for _ in range(4):
                time.sleep(4)
                assert prober.ask(f"http://{address}:8000/livez").status == 200
        finally:
            resize(namespace, pod, "1")
        assert restarts(namespace, pod) == 0

    fault = Fault("6", "a pod's CPU is cut to 100m for 16 s", "429 and 504 only; `/livez` 200; no restart")
    counts = measure(blue, fault, cut, allowed=10_000)
    assert set(counts["statuses"]) <= {"200", "429", "504"}


def test_a_container_that_is_out_of_memory(blue: Release) -> None:
    namespace = blue.namespace

    def eat(pod: str) -> None:
        before = restarts(namespace, pod)
        # Where the kernel ends the whole container (cgroup v2), this ends as well, and the container starts again.
        done = namespace.try_kubectl("exec", pod, "-c", "berth", "--", "python", "-c", _HOG)
        assert done.stdout.strip() == "-9" or done.returncode
        assert restarts(namespace, pod) <= before + 1

    promise = "one restart at most; the other pod serves; failed ≤ in flight on that pod"
    measure(blue, Fault("5", "a container is out of memory", promise), eat, CONNECTIONS)


def test_a_run_directory_that_is_full(blue: Release) -> None:
    namespace = blue.namespace

    def fill(pod: str) -> None:
        before = float(in_pod(namespace, pod, _COUNT))
        assert "No space left" in in_pod(namespace, pod, _FILL, "fill")
        try:
            time.sleep(5)
            assert float(in_pod(namespace, pod, _COUNT)) > before
        finally:
            in_pod(namespace, pod, _FILL, "empty")
        assert float(in_pod(namespace, pod, _COUNT)) > before

    measure(blue, Fault("12", "a pod's run directory is full for 5 s", "0 failed; metrics survive"), fill)
