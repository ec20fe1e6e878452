"""Faults of those who talk with a release: clients that misuse connections, a payload and trace sink that hangs."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from cluster.faults import Fault
from cluster.kube import (
    EXAMPLES,
    REPOSITORY,
    TAG,
    Client,
    Namespace,
    Release,
    Values,
    restricted_container,
    restricted_pod,
)
from cluster.latency import compare
from cluster.load import end_detached, load, start_detached
from cluster.turns import node_programs
from cluster.two_pods import name_of, restarts, wait_for_two

INSTALL = EXAMPLES / "blue-green-1-install.yaml"
# Takes what is posted; from the file `hang` on it accepts connections and says nothing.
_SINK = """
import http.server, os, socketserver, time
class Sink(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        while os.path.exists("/tmp/hang"):
            time.sleep(0.1)
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()
    def log_message(self, *arguments):
        pass
class Server(socketserver.ThreadingMixIn, http.server.HTTPServer):
    daemon_threads = True
Server(("", 9000), Sink).serve_forever()
"""
SINK: Values = {
    "slotDefaults": {
        "config": {"payloadLog": "http://sink:9000/?sample=1"},
        "extraEnv": [{"name": "OTEL_EXPORTER_OTLP_ENDPOINT", "value": "http://sink:9000"}],
    },
}
# In the sink's pod, in periods: it hangs, and so does who scrapes the metrics, which reads nothing of what comes.
# Without the fault both do what they should, as the fault is that they hang, not that they are there.
_HANG = """
import json, pathlib, socket, sys, time
host, periods, seconds = sys.argv[1], int(sys.argv[2]), float(sys.argv[3])
hang, quiet, attacked = pathlib.Path("/tmp/hang"), [], []
def scrape():
    socks = [socket.create_connection((host, 80), 5) for _ in range(10)]
    for sock in socks:
        sock.sendall(b"GET /metrics HTTP/1.1\\r\\nHost: x\\r\\nConnection: close\\r\\n\\r\\n")
    return socks
for _ in range(periods):
    time.sleep(1)  # what the sink has missed is sent by then
    begin = time.monotonic()
    for sock in scrape():
        while sock.recv(65536):
            pass
    time.sleep(begin + seconds - time.monotonic())
    middle = time.monotonic()
    hang.touch()
    scrapers = scrape()
    time.sleep(middle + seconds - time.monotonic())
    quiet.append((begin, middle))
    attacked.append((middle, time.monotonic()))
    del scrapers
    hang.unlink()
print(json.dumps({"quiet": quiet, "attacked": attacked}))
"""
_ATTACK = (Path(__file__).parent / "attack.py").read_text("utf-8")
# Of as many seconds without the fault, and of as many with it; short, so that what else the machine does is in both.
PERIODS, SECONDS = 8, 4


@pytest.fixture(scope="module")
def blue(namespace: Namespace) -> Iterator[Release]:
    """A release with two pods in its blue slot, which send payloads and traces to a sink."""
    release = Release(namespace, "iris")
    sink = restricted_container("sink", f"{REPOSITORY}:{TAG}", ["python", "-c", _SINK])
    service = {"selector": {"app": "sink"}, "ports": [{"port": 9000}]}
    with node_programs():
        namespace.apply(
            restricted_pod("sink", [sink], {"app": "sink"}),
            {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "sink"}, "spec": service},
        )
        namespace.kubectl("wait", "pod/sink", "--for=condition=Ready", "--timeout=60s")
        release.install(INSTALL, SINK)
    yield release
    with node_programs():
        release.remove()


def measure_in_turns(release: Release, program: str, pod: Client) -> tuple[dict[str, Any], dict[str, Any]]:
    """Load while a program misbehaves in periods: what became of the requests, and what the program prints.

    Meanwhile neither the API server nor the kubelet is needed.
    """
    with ExitStack() as ends:
        with node_programs():
            wait_for_two(release)
            client = release.namespace.client()
            counts = ends.enter_context(load(client, release.url))
            running = start_detached(pod, program, release.full, str(PERIODS), str(SECONDS))
        time.sleep(PERIODS * (2 * SECONDS + 1.5))
        with node_programs():
            periods = json.loads(end_detached(pod, running))
            ends.close()
            counts["p99"] = compare(client, counts, periods)
    return counts, periods


def check_no_loss(release: Release, counts: dict[str, Any]) -> None:
    """No request has failed, and no server has started again."""
    assert counts["failed"] == 0, counts["faults"]
    with node_programs():
        assert all(restarts(release.namespace, name_of(pod)) == 0 for pod in release.pods("blue"))


def test_sinks_and_a_scraper_that_hang(blue: Release) -> None:
    counts, _ = measure_in_turns(blue, _HANG, Client(blue.namespace, "sink"))
    what = f"payload sink, trace collector and Prometheus hang ({counts['p99']} it)"
    Fault("13", what, "0 failed; p99 ≤ 1.05 ×").record(counts)
    check_no_loss(blue, counts)


def test_clients_that_misuse_connections(blue: Release) -> None:
    # The attacker has what CPU the others leave: on a small node its own work would be measured otherwise.
    with node_programs():
        attacker = blue.namespace.client("attacker", cpu="1m")
    counts, attack = measure_in_turns(blue, _ATTACK, attacker)
    assert attack["held"] >= 1000
    assert attack["resets"] > 1000
    what = f"1,000 idle connections, 50 slow heads, {attack['resets']:,} resets ({counts['p99']} them)"
    Fault("19", what, "0 failed; p99 ≤ 1.2 ×").record(counts)
    check_no_loss(blue, counts)
    # On a node without CPU to spare the attack costs what anything else would: it is reported, and judged elsewhere.
    assert counts["p99"].before > 10 or counts["p99"].ratio <= 1.2, counts["p99"]
