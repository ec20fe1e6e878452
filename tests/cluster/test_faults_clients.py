"""Faults of those who talk with a release: clients that misuse connections, a payload and trace sink that hangs."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from cluster.faults import Fault
from cluster.kube import EXAMPLES, REPOSITORY, TAG, Namespace, Release, Values, restricted_container, restricted_pod
from cluster.load import load
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
# Asks for the metrics again and again, and reads nothing of what comes, until standard input ends.
_SCRAPER = """
import socket, sys, threading, time
def scrape():
    while True:
        try:
            with socket.create_connection((sys.argv[1], 80), 5) as sock:
                sock.sendall(b"GET /metrics HTTP/1.1\\r\\nHost: x\\r\\n\\r\\n")
                time.sleep(5)
        except OSError:
            time.sleep(0.05)
for _ in range(10):
    threading.Thread(target=scrape, daemon=True).start()
sys.stdin.read()
"""
# A thousand idle connections, heads that never end, and connections that are reset after half a request.
_ATTACK = """
import os, socket, struct, sys, threading, time
os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
host, until = sys.argv[1], time.monotonic() + float(sys.argv[2])
idle = []
def connect():
    return socket.create_connection((host, 80), 5)
def hold():
    while time.monotonic() < until and len(idle) < 1000:
        try:
            idle.append(connect())
        except OSError:
            time.sleep(0.05)
def trickle():
    while time.monotonic() < until:
        try:
            with connect() as sock:
                sock.sendall(b"POST /predict HTTP/1.1\\r\\nHost: x\\r\\n")
                while time.monotonic() < until:
                    sock.sendall(b"X-A: b\\r\\n")
                    time.sleep(0.5)
        except OSError:
            time.sleep(0.05)
resets = 0
def reset():
    global resets
    while time.monotonic() < until:
        try:
            sock = connect()
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            sock.sendall(b"POST /predict HTTP/1.1\\r\\nHost: x\\r\\nContent-Length: 100\\r\\n\\r\\n{")
            sock.close()
            resets += 1
        except OSError:
            pass
        time.sleep(0.01)
threads = [threading.Thread(target=each) for each in [hold] + 50 * [trickle] + 2 * [reset]]
[each.start() for each in threads]
[each.join() for each in threads]
print(len(idle), resets)
"""


@pytest.fixture(scope="module")
def blue(namespace: Namespace) -> Iterator[Release]:
    """A release with two pods in its blue slot, which send payloads and traces to a sink."""
    release = Release(namespace, "iris")
    sink = restricted_container("sink", f"{REPOSITORY}:{TAG}", ["python", "-c", _SINK])
    service = {"selector": {"app": "sink"}, "ports": [{"port": 9000}]}
    namespace.apply(
        restricted_pod("sink", [sink], {"app": "sink"}),
        {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "sink"}, "spec": service},
    )
    namespace.kubectl("wait", "pod/sink", "--for=condition=Ready", "--timeout=60s")
    release.install(INSTALL, SINK)
    yield release
    release.remove()


@contextmanager
def hanging(namespace: Namespace) -> Iterator[None]:
    """The sink takes connections and does not respond while the block runs."""
    namespace.kubectl("exec", "sink", "--", "touch", "/tmp/hang")
    try:
        yield
    finally:
        namespace.kubectl("exec", "sink", "--", "rm", "/tmp/hang")


def test_sinks_and_a_scraper_that_hang(blue: Release) -> None:
    wait_for_two(blue)
    client = blue.namespace.client()
    with load(client, blue.url) as healthy:
        time.sleep(8)
    with hanging(blue.namespace):
        scraper = blue.namespace.client("attacker", cpu="1m").start(_SCRAPER, blue.full)
        time.sleep(4)  # on a small node the start of a program is what is measured otherwise
        with load(client, blue.url) as counts:
            time.sleep(12)
        scraper.communicate("", timeout=30)
    assert scraper.returncode == 0
    p99 = f"{healthy['p99_ms']} ms before, {counts['p99_ms']} ms with it"
    Fault("13", f"payload sink, trace collector and Prometheus hang (p99 {p99})", "0 failed").record(counts)
    assert counts["failed"] == 0, counts["faults"]
    assert all(restarts(blue.namespace, name_of(pod)) == 0 for pod in blue.pods("blue"))


def test_clients_that_misuse_connections(blue: Release) -> None:
    wait_for_two(blue)
    # The attacker has what CPU the others leave: on a small node its own work would be measured otherwise.
    client, attacker = blue.namespace.client(), blue.namespace.client("attacker", cpu="1m")
    with load(client, blue.url) as healthy:
        time.sleep(8)
    attack = attacker.start(_ATTACK, blue.full, "20")
    time.sleep(5)  # until the connections are open; the start of a program takes much of a small node
    with load(client, blue.url) as counts:
        time.sleep(12)
    held, resets = attack.communicate("", timeout=60)[0].split()
    print(f"held {held}, reset {resets}")
    assert int(held) > 900
    assert int(resets) > 100
    p99 = f"{healthy['p99_ms']} ms before, {counts['p99_ms']} ms with them"
    what = f"1,000 idle connections, 50 slow heads, {int(resets):,} resets (p99 {p99})"
    Fault("19", what, "0 failed").record(counts)
    assert counts["failed"] == 0, counts["faults"]
    assert all(restarts(blue.namespace, name_of(pod)) == 0 for pod in blue.pods("blue"))
