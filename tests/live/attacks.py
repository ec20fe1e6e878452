"""Clients that misbehave, a few bytes at a time, and honest ones that measure what they notice of it.

Every attack is one thread that goes round its connections; one that the server closed is opened again.
"""

from __future__ import annotations

import http.client
import itertools
import json
import random
import resource
import select
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from dataclasses import dataclass, field

from live.berths import ask_on
from live.server import HOST, Server

STEP_SECONDS = 0.15
# So many connections are opened in one step, so that the attack is the connections and not the opening.
_OPENED_A_STEP = 150
# So many responses that nobody will read are made at once; more at a time would be overload, and refused.
_UNANSWERED = 8
ROW = {"features": [5.1, 3.5, 1.4, 0.2]}
_BODY = json.dumps(ROW).encode()
_HEAD = b"POST /predict HTTP/1.1\r\nHost: here\r\nContent-Type: application/json\r\n"
WHOLE = _HEAD + b"Content-Length: %d\r\n\r\n" % len(_BODY) + _BODY
_WIDE = json.dumps({"model": "wide", "features": [[1.5, 2.25]] * 16}).encode()
_LARGE = json.dumps({"model": "wide", "features": [[1.5, 2.25]] * 3500}).encode()
# What one connection sends, step by step; after the last it stays as it is.
Script = Callable[[], Iterator[bytes]]


def trickle(head: bytes, piece: bytes) -> Script:
    """A head at once, then a piece a step."""
    return lambda: itertools.chain([head], itertools.repeat(piece))


def garbage() -> Iterator[bytes]:
    """A request, and noise behind it, again and again."""
    noise = random.Random(0)
    while True:
        yield WHOLE + noise.randbytes(4000)


def pipelined() -> Iterator[bytes]:
    """Several requests at once, again and again."""
    return itertools.repeat(WHOLE * 3)


@dataclass(frozen=True)
class Attack:
    """How many connections follow which script; `reads` tells whether they read answers."""

    script: Script
    connections: int
    reads: bool = True


ATTACKS = {
    "trickling bodies": Attack(trickle(_HEAD + b"Content-Length: 100000\r\n\r\n", b" "), 45),
    "trickling bodies of second requests": Attack(trickle(WHOLE + _HEAD + b"Content-Length: 100000\r\n\r\n", b" "), 45),
    "trickling bodies of refused requests": Attack(
        trickle(b"POST /nowhere HTTP/1.1\r\nHost: here\r\nContent-Length: 100000000\r\n\r\n", b" "), 45
    ),
    "trickling chunks": Attack(trickle(_HEAD + b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\n \r\n"), 45),
    "trickling heads": Attack(trickle(_HEAD + b"A: ", b"a"), 50),
    "unread responses": Attack(
        lambda: iter([_HEAD + b"Content-Length: %d\r\n\r\n" % len(_LARGE) + _LARGE]), 40, reads=False
    ),
    "unread small responses": Attack(
        lambda: itertools.repeat((_HEAD + b"Content-Length: %d\r\n\r\n" % len(_WIDE) + _WIDE) * 2), 10, reads=False
    ),
    "silence": Attack(lambda: iter(()), 1500),
    "garbage behind requests": Attack(garbage, 20),
    "pipelined requests": Attack(pipelined, 20),
}


class _Attacker:
    def __init__(self, server: Server, attack: Attack, share: float) -> None:
        self._address = (HOST, server.port)
        self._attack = attack
        count = max(1, int(attack.connections * share))
        self._open: list[tuple[socket.socket, Iterator[bytes]] | None] = [None] * count
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        while not self._stop.wait(STEP_SECONDS):
            left = _OPENED_A_STEP if self._attack.reads else _UNANSWERED - self._unanswered()
            for place, one in enumerate(self._open):
                if one is None and left > 0:
                    self._open[place] = one = self._connect()
                    left -= 1
                if one is not None and not self._go_on(*one):
                    one[0].close()
                    self._open[place] = None

    def _unanswered(self) -> int:
        """How many connections have not got the first byte of a response yet; it is not read here either."""
        connections = [one[0] for one in self._open if one is not None]
        poller = select.poll()
        for connection in connections:
            poller.register(connection, select.POLLIN)
        return len(connections) - len(poller.poll(0))

    def _connect(self) -> tuple[socket.socket, Iterator[bytes]] | None:
        connection = socket.socket()
        if not self._attack.reads:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.settimeout(0.5)
        try:
            connection.connect(self._address)
        except OSError:
            connection.close()
            return None
        connection.setblocking(False)
        return connection, self._attack.script()

    def _go_on(self, connection: socket.socket, script: Iterator[bytes]) -> bool:
        """Whether the connection is still open after its next step."""
        try:
            connection.send(next(script, b""))
            return not self._attack.reads or bool(connection.recv(65536))
        except BlockingIOError:
            return True
        except OSError:
            return False

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *exc: object) -> None:
        self._stop.set()
        self._thread.join()
        for one in self._open:
            if one is not None:
                one[0].close()


@dataclass
class Times:
    """Seconds that honest requests of one kind took, and what went wrong."""

    seconds: list[float] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)

    def quantile(self, share: float) -> float:
        """The time that this share of the requests did not exceed."""
        return sorted(self.seconds)[min(len(self.seconds) - 1, int(share * len(self.seconds)))]

    def measure(self, ask: Callable[[], int]) -> None:
        """Note one request's time, or its failure."""
        began = time.monotonic()
        try:
            status = ask()
        except (OSError, http.client.HTTPException) as error:
            self.failures.append(repr(error))
        else:
            self.seconds.append(time.monotonic() - began)
            if status != 200:
                self.failures.append(str(status))

    def __str__(self) -> str:
        p50, p99 = self.quantile(0.5), self.quantile(0.99)
        return f"{len(self.seconds)} answered, {len(self.failures)} failed, p50 {p50:.3f} s, p99 {p99:.3f} s"


def _probe(server: Server, times: Times, stop: threading.Event) -> None:
    """/livez on a new connection each time, as kubelet does."""

    def ask() -> int:
        connection = http.client.HTTPConnection(HOST, server.port, timeout=20)
        with closing(connection):
            return ask_on(connection, "GET", "/livez")[0]

    while not stop.wait(0.03):
        times.measure(ask)


def _predict(server: Server, times: Times, stop: threading.Event, rows: int) -> None:
    """Predictions on a kept connection."""
    connection = http.client.HTTPConnection(HOST, server.port, timeout=20)
    document = {"features": [ROW["features"]] * rows}
    while not stop.wait(0.02):
        times.measure(lambda: ask_on(connection, "POST", "/predict", document)[0])
        if times.failures:
            with suppress(OSError):
                connection.close()
    connection.close()


def attack(server: Server, name: str, seconds: float, share: float) -> tuple[Times, Times]:
    """What /livez and honest predictions took while an attack went on."""
    probes, predictions, stop = Times(), Times(), threading.Event()
    threads = [threading.Thread(target=_probe, args=(server, probes, stop))]
    threads += [threading.Thread(target=_predict, args=(server, predictions, stop, rows)) for rows in (1, 1, 500)]
    with _Attacker(server, ATTACKS[name], share):
        for thread in threads:
            thread.start()
        time.sleep(seconds)
        stop.set()
        for thread in threads:
            thread.join()
    return probes, predictions


def allow_files() -> None:
    """Let this process, and the servers that it starts, open as many files as they may."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and soft < hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
