"""Handshakes that stay half open: a pod's kernel holds them, and its clients notice nothing."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from cluster.faults import Fault
from cluster.kube import EXAMPLES, Release, run
from cluster.load import load
from cluster.two_pods import in_pod, name_of, wait_for_two

INSTALL = EXAMPLES / "blue-green-1-install.yaml"
ENTER = os.environ.get("TEST_NODE_EXEC", "")
# Addresses of nobody (RFC 5737), for which the node drops what is sent back.
NOWHERE = "198.51.100.0/24"
# On the node: the first packet of a handshake from one of them, 500 times a second.
_SEND = """
import random, socket, struct, sys, time
def checksum(data):
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    total = (total >> 16) + (total & 0xFFFF)
    return ~(total + (total >> 16)) & 0xFFFF
raw = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)
to, until = socket.inet_aton(sys.argv[1]), time.monotonic() + float(sys.argv[2])
while time.monotonic() < until:
    source = bytes([198, 51, 100, random.randrange(1, 255)])
    head = [random.randrange(1024, 65536), 8000, random.getrandbits(32), 0, 5 << 12 | 2, 65535, 0, 0]
    tcp = struct.pack("!HHIIHHHH", *head)
    head[6] = checksum(source + to + struct.pack("!HH", 6, len(tcp)) + tcp)
    ip = struct.pack("!BBHHHBBH", 69, 0, 40, 0, 0, 64, 6, 0) + source + to
    raw.sendto(ip + struct.pack("!HHIIHHHH", *head), (sys.argv[1], 0))
    time.sleep(0.002)
"""
# In a server's container: the connections in the state SYN-RECV.
_COUNT = """
lines = [line.split() for line in open("/proc/net/tcp").readlines()[1:]]
print(sum(line[3] == "03" for line in lines))
"""

pytestmark = pytest.mark.skipif(not ENTER, reason="TEST_NODE_EXEC is unset: nowhere to send raw packets from")


@contextmanager
def unanswered() -> Iterator[None]:
    """What is sent to the addresses of nobody is dropped, without a word, while the block runs."""
    assert run([ENTER, "ip", "route", "replace", "blackhole", NOWHERE]).returncode == 0
    try:
        yield
    finally:
        run([ENTER, "ip", "route", "delete", "blackhole", NOWHERE])


def test_handshakes_that_stay_half_open(release: Release) -> None:
    release.install(INSTALL)
    wait_for_two(release)
    pod = release.pods("blue")[0]
    address, namespace = pod["status"]["podIP"], release.namespace
    with load(namespace.client(), release.url) as counts, unanswered():
        time.sleep(2)
        sent = run([ENTER, "python3", "-c", _SEND, address, "10"])
        assert sent.returncode == 0, sent.stderr
        held = int(in_pod(namespace, name_of(pod), _COUNT))
    print(f"half open: {held}")
    assert held > 100
    Fault("19b", f"{held:,} connections to a pod are half open", "0 failed").record(counts)
    assert counts["failed"] == 0, counts["faults"]
