"""Steady load on a Service while a block runs, from a pod beside it, and the Service's history while it runs."""

from __future__ import annotations

import json
import subprocess
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from cluster.kube import FLOWER, Client, Namespace

LOADER = (Path(__file__).parent / "loader.py").read_text("utf-8")
# Requests a second, over this many connections, half of them kept alive.
RATE, CONNECTIONS, FRESH = 200, 8, 0.5
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
# A line for every change of who stands behind a Service.
_SLICES = (
    "{.metadata.labels.kubernetes\\.io/service-name}{range .endpoints[*]} {.targetRef.name}="
    '{.conditions.ready}/{.conditions.serving}/{.conditions.terminating}{end}{"\\n"}'
)


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


@contextmanager
def watched_slices(namespace: Namespace) -> Iterator[list[str]]:
    """What became of the namespace's EndpointSlices while the block ran: pod=ready/serving/terminating."""
    lines: list[str] = []
    command = ["kubectl", "-n", namespace.name, "get", "endpointslices", "--watch", f"-o=jsonpath={_SLICES}"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    try:
        yield lines
    finally:
        process.terminate()
        lines += process.communicate(timeout=10)[0].splitlines()


def _explain(namespace: Namespace, counts: dict[str, Any], slices: list[str]) -> str:
    """What a failure must be judged by: the faults by second, the events, who stood behind the Services."""
    events = namespace.try_kubectl("get", "events", "--sort-by=.lastTimestamp").stdout
    pods = namespace.try_kubectl("get", "pods", "-o", "wide").stdout
    history = "\n".join(slices[-200:])
    return f"faults: {json.dumps(counts['faults'], indent=1)}\nevents:\n{events}\npods:\n{pods}\nslices:\n{history}"


@contextmanager
def load(client: Client, url: str, fresh: float = FRESH, allowed: int = 0) -> Iterator[dict[str, Any]]:
    """Load while the block runs; afterwards the dict says what became of the requests (loader.py).

    Where more than `allowed` failed, what explains it is printed.
    """
    counts: dict[str, Any] = {}
    # By address: with fresh connections the look-ups of the name would be a load of their own, on cluster DNS.
    service = urlsplit(url).hostname or ""
    if "." not in service:  # a name of the client's namespace
        url = f"http://{client.namespace.get('service', service)['spec']['clusterIP']}"
    arguments = [f"{url}/predict", str(RATE), str(CONNECTIONS), json.dumps(FLOWER), str(fresh)]
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
