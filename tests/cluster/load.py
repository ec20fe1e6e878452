"""Steady load on a Service while a block runs, from a pod beside it, and the Service's history while it runs."""

from __future__ import annotations

import json
import os
import re
import subprocess
import threading
import time
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from cluster.kube import FLOWER, Client, Namespace

LOADER = (Path(__file__).parent / "loader.py").read_text("utf-8")
# Requests a second, over this many connections, half of them kept alive.
RATE, CONNECTIONS, FRESH = 200, 8, 0.5
_PORT = re.compile(r"from port (\d+)")
# In the client's pod, and not at the end of a connection: the load goes on while no one can reach the pod.
_START = """
import subprocess, sys
name, *command = sys.argv[1:]
with open(f"{name}.out", "w") as out, open(f"{name}.errors", "w") as errors:
    command = [sys.executable, "-c", *command, f"{name}.stop"]
    subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=errors, start_new_session=True)
"""
_END = """
import pathlib, sys, time
out, errors, stop = (pathlib.Path(f"{sys.argv[1]}.{end}") for end in ("out", "errors", "stop"))
stop.touch()
until = time.monotonic() + 30
while not out.read_text().endswith("\\n") and time.monotonic() < until:
    time.sleep(0.1)
print(out.read_text() or f"no counts: {errors.read_text()}")
"""
# Whole objects, one a line: a path into the endpoints ends the command at the first slice that has none.
_OBJECTS = '-o=jsonpath={}{"\\n"}'


def start_detached(client: Client, script: str, *arguments: str) -> str:
    """Start a Python script in a client's pod that runs on while no one can reach the pod; the name of what it leaves.

    The script gets one more argument, a file: once that is there, it is to end.
    """
    name = f"/tmp/run-{uuid.uuid4().hex[:6]}"
    client.python(_START, name, script, *arguments)
    return name


def end_detached(client: Client, name: str) -> str:
    """End it, and what it has printed."""
    return client.python(_END, name)


def _describe_slice(line: str) -> str:
    """The time now, whose slice it is, and its pods as name=ready/serving/terminating."""
    found = json.loads(line)
    named = found["metadata"]  # without a name in what is said when the API server goes away
    service = (named.get("labels") or {}).get("kubernetes.io/service-name") or named.get("name") or found.get("message")
    pods = [
        f"{(each.get('targetRef') or {}).get('name')}="
        + "/".join(str(each["conditions"].get(name)).lower() for name in ("ready", "serving", "terminating"))
        for each in found.get("endpoints") or ()
    ]
    now = time.time()
    return f"{time.strftime('%H:%M:%S', time.gmtime(now))}.{int(now % 1 * 1000):03} {service} {' '.join(pods) or '-'}"


@contextmanager
def watched_slices(namespace: Namespace) -> Iterator[list[str]]:
    """What becomes of the namespace's EndpointSlices while the block runs, a line for every change."""
    lines: list[str] = []
    command = ["kubectl", "-n", namespace.name, "get", "endpointslices", "--watch", _OBJECTS]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:

        def read() -> None:
            lines.extend(map(_describe_slice, process.stdout or ()))

        reader = threading.Thread(target=read, daemon=True)
        reader.start()
        try:
            yield lines
        finally:
            process.terminate()
            reader.join(10)


def _find_tracked(faults: Iterable[str]) -> str:
    """What the node's connection tracking has of connections that got no answer: to which pod they went, and how far.

    It forgets them two minutes after their last packet.
    """
    enter = os.environ.get("TEST_NODE_EXEC")
    ports = [found[1] for fault in faults if (found := _PORT.search(fault))]
    if not ports or not enter:
        return "-"
    command = [enter, "grep", "-E", f"sport=({'|'.join(ports)}) ", "/proc/net/nf_conntrack"]
    return subprocess.run(command, capture_output=True, text=True, timeout=10, check=False).stdout or "forgotten"


def _explain(namespace: Namespace, counts: dict[str, Any], slices: list[str]) -> str:
    """What a failure must be judged by: the faults by second, the events, who stood behind the Services."""
    events = namespace.try_kubectl("get", "events", "--sort-by=.lastTimestamp").stdout
    pods = namespace.try_kubectl("get", "pods", "-o", "wide").stdout
    history = "\n".join(slices[-200:])
    tracked = _find_tracked(counts["faults"])
    found = {"events": events, "pods": pods, "tracked": tracked, "slices": history}
    texts = "\n".join(f"{name}:\n{text}" for name, text in found.items())
    return f"faults: {json.dumps(counts['faults'], indent=1)}\n{texts}"


@contextmanager
def load(
    client: Client, url: str, fresh: float = FRESH, allowed: int = 0, connections: int = CONNECTIONS
) -> Iterator[dict[str, Any]]:
    """Load while the block runs; afterwards the dict says what became of the requests (loader.py).

    Where more than `allowed` failed, what explains it is printed.
    """
    counts: dict[str, Any] = {}
    # By address: with fresh connections the look-ups of the name would be a load of their own, on cluster DNS.
    service = urlsplit(url).hostname or ""
    if "." not in service:  # a name of the client's namespace
        url = f"http://{client.namespace.get('service', service)['spec']['clusterIP']}"
    arguments = [f"{url}/predict", str(RATE), str(connections), json.dumps(FLOWER), str(fresh)]
    name = start_detached(client, LOADER, *arguments)
    with watched_slices(client.namespace) as slices:
        try:
            yield counts
        finally:
            out = end_detached(client, name)
            print(f"load: {out.strip()}")
    counts |= json.loads(out) | {"samples": f"{name}.samples"}
    if counts["failed"] > allowed:
        print(_explain(client.namespace, counts, slices))
