"""The gate while cluster DNS is silent: a UDP socket that never answers, and the system's resolver pointed at one."""

from __future__ import annotations

import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from live.gating import BLUE, GREEN, Puppet, judge, switch, verify
from live.server import HOST

pytestmark = pytest.mark.live
# In a network of its own: 127.0.0.1:53 never answers, and is the only nameserver.
SILENT = """
import fcntl, pathlib, socket, struct, subprocess, sys
folder = pathlib.Path(sys.argv[1])
(folder / "resolv.conf").write_text("nameserver 127.0.0.1\\n")
subprocess.run(["mount", "--bind", folder / "resolv.conf", "/etc/resolv.conf"], check=True)
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
    fcntl.ioctl(control, 0x8914, struct.pack("16sH14x", b"lo", 1))  # SIOCSIFFLAGS, IFF_UP
silent = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
silent.bind(("127.0.0.1", 53))
sys.exit(subprocess.run([sys.executable, "-m", "berth", *sys.argv[2:]]).returncode)
"""
UNSHARE = ["unshare", "--map-root-user", "--mount", "--net"]


class SilentDns:
    """A resolver whose server is a real UDP socket: no answer until `awake`, then this machine's address."""

    def __init__(self) -> None:
        self._server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._server.bind((HOST, 0))
        self._thread = threading.Thread(target=self._serve)
        self._stop = threading.Event()
        self.awake = threading.Event()
        self._thread.start()

    def _serve(self) -> None:
        self._server.settimeout(0.05)
        while not self._stop.is_set():
            try:
                _, asker = self._server.recvfrom(512)
            except TimeoutError:
                continue
            if self.awake.is_set():
                self._server.sendto(HOST.encode(), asker)

    def __call__(self, host: str) -> Sequence[str]:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as question:
            question.sendto(host.encode(), self._server.getsockname())
            question.settimeout(5)
            return [question.recv(512).decode()]

    def stop(self) -> None:
        """End it."""
        self._stop.set()
        self._thread.join()
        self._server.close()


@pytest.fixture
def dns() -> Iterator[SilentDns]:
    """DNS that is silent until the test wakes it."""
    dns = SilentDns()
    yield dns
    dns.stop()


@pytest.fixture
def slot() -> Iterator[Callable[[str, str], str]]:
    """slot(NAME, FINGERPRINT): the address of a healthy slot."""
    puppets: list[Puppet] = []

    def start(name: str, fingerprint: str) -> str:
        document: dict[str, Any] = {"slot": name, "fingerprint": fingerprint, "prediction": [0]}
        puppets.append(Puppet(lambda path: (200, document)))
        return puppets[-1].url

    yield start
    for puppet in puppets:
        puppet.stop()


def test_silent_dns_is_no_outage(dns: SilentDns, slot: Callable[[str, str], str], told: list[str]) -> None:
    """With an outage the rule about the slot that traffic leaves would be skipped."""
    plan = replace(switch(slot("blue", BLUE), slot("green", GREEN)), request={"features": [1]}, other_mode="absent")
    passed, sentence = judge(replace(plan, timeout_seconds=2), dns, told)
    assert not passed
    assert sentence.startswith("DNS did not respond for GET http://target.shop.svc")
    assert "stage first" not in sentence
    assert "unknown which slot is live" in sentence


def test_dns_that_comes_back_is_asked_again(dns: SilentDns, slot: Callable[[str, str], str], told: list[str]) -> None:
    plan = replace(switch(slot("blue", BLUE), slot("green", GREEN)), request={"features": [1]}, timeout_seconds=40)
    timer = threading.Timer(0.5, dns.awake.set)
    timer.start()
    passed, sentence = judge(replace(plan, other_mode="absent"), dns, told)
    timer.join()
    assert not passed
    assert "slots.blue.mode is absent" in sentence
    assert "DNS did not respond" in told[0]
    assert judge(plan, dns, told)[0]


@pytest.mark.parametrize("kind", ["switch", "verify"])
def test_dns_that_falls_silent_on_the_way_is_named(
    kind: str, dns: SilentDns, slot: Callable[[str, str], str], told: list[str]
) -> None:
    """Every rule after the first needs the name again: none takes the silence for a slot that is not there."""
    dns.awake.set()
    looked = [0]

    def fading(host: str) -> Sequence[str]:
        looked[0] += 1
        if looked[0] > 3:
            dns.awake.clear()
        return dns(host)

    if kind == "verify":
        passed, sentence = verify(slot("green", GREEN), fading, told, timeout_seconds=2, request={"features": [1]})
    else:
        plan = replace(switch(slot("blue", BLUE), slot("green", GREEN)), request={"features": [1]}, timeout_seconds=2)
        passed, sentence = judge(plan, fading, told)
    assert not passed
    assert "DNS did not respond" in sentence
    assert "restore cluster DNS" in sentence


def test_the_command_with_a_resolver_that_gets_no_answer(tmp_path: Path) -> None:
    if subprocess.run([*UNSHARE, "true"], capture_output=True, check=False).returncode:
        pytest.skip("no namespaces here")
    arguments = ["gate", "--release=iris", "--active-url=http://iris-berth.shop.svc", "--target-slot=green"]
    arguments += ["--target-url=http://iris-berth-green.shop.svc", f"--fingerprint={GREEN}", "--other-mode=absent"]
    arguments += ["--headless-host=pods.shop.svc", "--timeout-seconds=3"]
    began = time.monotonic()
    command = [*UNSHARE, sys.executable, "-c", SILENT, str(tmp_path), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 1, done.stdout + done.stderr
    last = done.stdout.splitlines()[-1]
    assert last.startswith("berth gate: REFUSED: DNS did not respond for GET http://iris-berth.shop.svc/info")
    assert "no response within" in last
    assert time.monotonic() - began < 30
