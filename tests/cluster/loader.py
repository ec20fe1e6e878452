"""Load at a steady rate until a file is there; prints what became of each request as JSON.

    python loader.py URL RATE CONNECTIONS BODY FRESH STOP

Runs in a pod beside the release, so it needs nothing but Python. A request fails when its answer is not 200, when none
comes within ten seconds, or when its connection breaks under it; nothing is tried again. Connections that the server
ends with `Connection: close` are opened anew, as every HTTP client does, and after a hundred requests in any case; a
share FRESH of them (0 to 1) is closed after each request. It ends when the file STOP is there; a file beside it, which
ends in `.samples`, has a line for each request then: when it began (monotonic) and the seconds that it took.

It begins when a first connection is accepted, over which nothing is sent, or after ten seconds without any: for up to
a second the proxies of the nodes refuse connections to a Service that has just got its first pod.

A fault is stamped with the time at which its request began.
`refused` counts the failed requests that no model has seen: they got no connection, or 503.
"""

from __future__ import annotations

import collections
import contextlib
import json
import os
import pathlib
import re
import socket
import sys
import threading
import time
from urllib.parse import urlsplit

REQUESTS_PER_CONNECTION = 100
# A test that has broken off leaves no load behind.
MOST_SECONDS = 900
FIRST_SECONDS = 10.0
REFUSED = re.compile("no connection|status 503")


class Line:
    """One connection. By hand: http.client needs twice the CPU, and a small node has none to spare."""

    def __init__(self, url: str, body: bytes) -> None:
        there = urlsplit(url)
        self._address = (there.hostname or "", there.port or 80)
        head = f"POST {there.path or '/predict'} HTTP/1.1\r\nHost: {there.netloc}\r\nContent-Type: application/json\r\n"
        self._request = f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body
        self._sock: socket.socket | None = None

    def ask(self) -> tuple[int, str]:
        """Status and slot of one request. Raises OSError."""
        if self._sock is None:
            self._sock = self._connect()
        self._sock.sendall(self._request)
        received = b""
        while (end := received.find(b"\r\n\r\n")) < 0:
            received += self._receive(received)
        head = received[:end].decode("latin-1")
        lines = (line.partition(":") for line in head.split("\r\n")[1:])
        fields = {name.lower(): value.strip() for name, _, value in lines}
        while len(received) < end + 4 + int(fields["content-length"]):
            received += self._receive(received)
        if fields.get("connection", "").lower() == "close":
            self.close()
        return int(head.split(" ", 2)[1]), fields.get("x-berth-slot", "?")

    def _connect(self) -> socket.socket:
        family, kind, protocol, _, address = socket.getaddrinfo(*self._address, type=socket.SOCK_STREAM)[0]
        sock = socket.socket(family, kind, protocol)
        sock.settimeout(10)
        try:
            sock.connect(address)
        except OSError as error:
            # Silence is rare, and each is looked for: by its port the node's connection tracking has the pod.
            port = f" from port {sock.getsockname()[1]}" if isinstance(error, TimeoutError) else ""
            sock.close()
            raise ConnectionError(f"no connection{port}: {type(error).__name__}: {error}") from error
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return sock

    def _receive(self, before: bytes) -> bytes:
        assert self._sock is not None
        data = self._sock.recv(65536)
        if not data:
            raise ConnectionResetError(f"the connection ended after {len(before)} bytes of the response")
        return data

    def close(self) -> None:
        """The next request opens another one."""
        if self._sock is not None:
            self._sock.close()
        self._sock = None


class Load:
    """Threads with a connection each; the counts are theirs together."""

    def __init__(self, url: str, rate: float, connections: int, body: str, fresh: float) -> None:
        self._url, self._body = url, body.encode()
        self._pause = connections / rate
        self._fresh = round(fresh * connections)
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._slots: collections.Counter[str] = collections.Counter()
        self._faults: collections.Counter[str] = collections.Counter()
        self._statuses: collections.Counter[str] = collections.Counter()
        self._samples: list[tuple[float, float]] = []
        self._threads = [threading.Thread(target=self._run, args=(at,)) for at in range(connections)]

    def _once(self, line: Line) -> None:
        began, stamp = time.monotonic(), time.strftime("%H:%M:%S")
        try:
            status, slot = line.ask()
            fault = "" if status == 200 else f"status {status}"
        except (OSError, LookupError, ValueError) as error:  # no response, or none that HTTP has
            status, slot, fault = 0, "", f"{type(error).__name__}: {error}"
            line.close()
        with self._lock:
            self._samples.append((began, time.monotonic() - began))
            self._statuses[str(status)] += 1
            if fault:
                self._faults[f"{stamp} {fault}"] += 1
            else:
                self._slots[slot] += 1

    def _run(self, at: int) -> None:
        line = Line(self._url, self._body)
        each = 1 if at < self._fresh else REQUESTS_PER_CONNECTION
        asked, due = 0, time.monotonic() + at * self._pause / len(self._threads)
        while not self._stop.wait(max(0.0, due - time.monotonic())):
            self._once(line)
            due += self._pause
            asked += 1
            if asked % each == 0:
                line.close()
        line.close()

    def _await_first(self) -> None:
        there, end = urlsplit(self._url), time.monotonic() + FIRST_SECONDS
        while time.monotonic() < end:
            with contextlib.suppress(OSError), socket.create_connection((there.hostname or "", there.port or 80), 1):
                return
            time.sleep(0.05)

    def run(self, stop: str) -> dict[str, object]:
        """Ask until the file `stop` is there; the counts."""
        self._await_first()
        began = time.monotonic()
        for thread in self._threads:
            thread.start()
        while not os.path.exists(stop) and time.monotonic() < began + MOST_SECONDS:
            time.sleep(0.1)
        self._stop.set()
        for thread in self._threads:
            thread.join()
        lines = (f"{at:.6f} {took:.6f}\n" for at, took in self._samples)
        pathlib.Path(stop).with_suffix(".samples").write_text("".join(lines))
        return self._count(time.monotonic() - began)

    def _count(self, seconds: float) -> dict[str, object]:
        took = sorted(took for _, took in self._samples)
        return {
            "sent": len(took),
            "failed": sum(self._faults.values()),
            "refused": sum(count for fault, count in self._faults.items() if REFUSED.search(fault)),
            "faults": dict(self._faults),
            "statuses": dict(self._statuses),
            "slots": dict(self._slots),
            "seconds": round(seconds, 1),
            "rate": round(len(took) / seconds, 1),
            "p99_ms": round(1000 * took[len(took) * 99 // 100], 1),
            "slowest_ms": round(1000 * took[-1], 1),
        }


if __name__ == "__main__":
    load = Load(sys.argv[1], float(sys.argv[2]), int(sys.argv[3]), sys.argv[4], float(sys.argv[5]))
    print(json.dumps(load.run(sys.argv[6])))
