"""Faults of the node's own programs: the API server, etcd, the kubelet and kube-proxy stop for a while."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from cluster.faults import Fault, Stopwatch
from cluster.kube import CHART, EXAMPLES, SMALL, Namespace, Release, eventually, run
from cluster.load import load
from cluster.turns import node_programs
from cluster.two_pods import wait_for_two

INSTALL = EXAMPLES / "blue-green-1-install.yaml"
ENTER = os.environ.get("TEST_NODE_EXEC", "")
# Without more, below the 40 s after which the controllers call a node lost that could not report, and take its pods
# out of Services; longer on a cluster whose controllers wait longer (--node-monitor-grace-period).
SECONDS = int(os.environ.get("TEST_STOP_SECONDS", "20"))
# The node's programs by the name of their file, which is what the kernel calls them.
_SIGNAL = """
for file in /proc/[0-9]*/comm; do
    pid=${{file%/comm}}
    if [ "$(cat $file 2>/dev/null)" = {name} ]; then kill -{signal} ${{pid#/proc/}} && echo $pid; fi
done
"""

pytestmark = pytest.mark.skipif(not ENTER, reason="TEST_NODE_EXEC is unset: no way to a process of the node")


@pytest.fixture(scope="module")
def blue(namespace: Namespace) -> Iterator[Release]:
    """A release with two pods in its blue slot."""
    release = Release(namespace, "iris")
    release.install(INSTALL)
    yield release
    release.remove()


@contextmanager
def stopped(*names: str) -> Iterator[None]:
    """Programs of the node do nothing while the block runs."""

    def send(signal: str) -> list[str]:
        scripts = {name: _SIGNAL.format(name=name, signal=signal) for name in names}
        return [name for name, script in scripts.items() if not run([ENTER, "sh", "-c", script]).stdout.strip()]

    try:
        if missing := send("STOP"):
            pytest.skip(f"no process {missing[0]} on the node")
        yield
    finally:
        send("CONT")


def try_upgrade(release: Release) -> str:
    """The last line that helm prints where it cannot reach the API server."""
    command = ["helm", "-n", release.namespace.name, "upgrade", release.name, str(CHART), "-f", str(INSTALL)]
    done = run(["timeout", "40", *command, "--timeout=10s"])
    assert done.returncode
    return (done.stdout + done.stderr).strip()


@pytest.mark.parametrize(
    ("number", "names"), [("7", ["kube-apiserver"]), ("7b", ["etcd"]), ("8", ["kubelet", "kube-proxy"])]
)
def test_programs_of_the_node_that_stop(blue: Release, number: str, names: list[str]) -> None:
    wait_for_two(blue)
    said = ""
    with load(blue.namespace.client(), blue.url) as counts:
        time.sleep(2)
        with node_programs():
            with stopped(*names):
                began = time.monotonic()
                if number == "7":
                    said = try_upgrade(blue)
                time.sleep(max(0.0, SECONDS - (time.monotonic() - began)))
            watch = Stopwatch()
            eventually(lambda: not run(["kubectl", "get", "--raw", "/readyz"], seconds=20).returncode, "the API", 60)
            wait_for_two(blue)
            seconds = watch.seconds
        time.sleep(2)
    promise = "0 failed; helm says so in one line" if said else "0 failed"
    what = f"{' and '.join(names)} stopped for {SECONDS} s"
    Fault(number, what, promise).record(counts, seconds)
    assert counts["failed"] == 0, counts["faults"]
    if said:
        print(f"helm: {said}")
        assert len(said.splitlines()) == 1, said
        # Whatever helm left behind, the next upgrade works.
        blue.helm("upgrade", blue.name, str(CHART), "--timeout=120s", values=[INSTALL, SMALL])
