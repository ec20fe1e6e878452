"""Load at a steady rate until a file is there; prints what became of each request as JSON.

    python loader.py URL RATE CONNECTIONS BODY FRESH STOP

Runs in a pod beside the release, so it needs nothing but Python. A request fails when its answer is not 200, when none
comes within ten seconds, or when its connection breaks under it; nothing is tried again. Connections that the server
ends with `Connection: close` are opened anew, as every HTTP client does, and after a hundred requests in any case; a
share FRESH of them (0 to 1) is closed after each request. It ends when the file STOP is there; a file beside it, which
ends in `.samples`, has a line for each request then: when it began (monotonic) and the seconds that it took.

A fault is stamped with the time at which its request began.
`refused` counts the failed requests that no model has seen: they got no connection, or 503.
"""

from __future__ import annotations

import collections
import http.client
import json
import os
import pathlib
import re
import sys
import threading
import time
from urllib.parse import urlsplit

REQUESTS_PER_CONNECTION = 100
# A test that has broken off leaves no load behind.
MOST_SECONDS = 900
REFUSED = re.compile("no connection|status 503")


class Load:
    """Threads with a connection each; the counts are theirs together."""

    def __init__(self, url: str, rate: float, connections: int, body: str, fresh: float) -> None:
        self._url, self._body = urlsplit(url), body.encode()
        self._pause = connections / rate
        self._fresh = round(fresh * connections)
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._slots: collections.Counter[str] = collections.Counter()
        self._faults: collections.Counter[str] = collections.Counter()
        self._statuses: collections.Counter[str] = collections.Counter()
        self._samples: list[tuple[float, float]] = []
        self._threads = [threading.Thread(target=self._run, args=(at,)) for at in range(connections)]

    def _ask(self, line: http.client.HTTPConnection) -> tuple[int, str]:
        """Status and slot. Raises OSError or HTTPException."""
        if line.sock is None:
            try:
                line.connect()
            except OSError as error:
                raise ConnectionError(f"no connection: {type(error).__name__}: {error}") from error
        line.request("POST", self._url.path or "/predict", self._body, {"Content-Type": "application/json"})
        answer = line.getresponse()
        answer.read()
        return answer.status, answer.headers.get("X-Berth-Slot", "?")

    def _once(self, line: http.client.HTTPConnection) -> None:
        began, stamp = time.monotonic(), time.strftime("%H:%M:%S")
        try:
            status, slot = self._ask(line)
            fault = "" if status == 200 else f"status {status}"
        except (OSError, http.client.HTTPException) as error:
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
        line = http.client.HTTPConnection(self._url.hostname or "", self._url.port or 80, timeout=10)
        each = 1 if at < self._fresh else REQUESTS_PER_CONNECTION
        asked, due = 0, time.monotonic() + at * self._pause / len(self._threads)
        while not self._stop.wait(max(0.0, due - time.monotonic())):
            self._once(line)
            due += self._pause
            asked += 1
            if asked % each == 0:
                line.close()
        line.close()

    def run(self, stop: str) -> dict[str, object]:
        """Ask until the file `stop` is there; the counts."""
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
