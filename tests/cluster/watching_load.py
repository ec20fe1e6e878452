"""Predictions with labels until standard input ends, each on a connection of its own, so that every pod has some.

    python watching_load.py URL ROWS SHIFT RIGHT

ROWS is a list of rows as JSON; SHIFT is added to the last value of each; RIGHT says whether the labels, which are sent
back with the receipts, are those that were predicted. Runs in a pod beside the release: it needs nothing but Python.
"""

from __future__ import annotations

import contextlib
import json
import random
import socket
import sys
import threading
import time
import urllib.request
from typing import Any
from urllib.parse import urlsplit

FIRST_SECONDS = 10.0


def await_first(url: str) -> None:
    """Wait for a first connection: for up to a second a Service that has just got its first pod refuses them."""
    there, end = urlsplit(url), time.monotonic() + FIRST_SECONDS
    while time.monotonic() < end:
        with contextlib.suppress(OSError), socket.create_connection((there.hostname or "", there.port or 80), 1):
            return
        time.sleep(0.05)


def post(url: str, document: object) -> tuple[Any, str]:
    """The response and its receipt."""
    request = urllib.request.Request(url, json.dumps(document).encode(), {"Content-Type": "application/json"})
    with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=10) as response:
        return json.load(response), response.headers["X-Berth-Receipt"]


def send(url: str, row: list[float], right: bool) -> None:
    """One prediction, and its label."""
    answer, receipt = post(f"{url}/predict", {"features": row})
    truth = answer["prediction"][0] if right else (answer["prediction"][0] + 1) % 3
    post(f"{url}/feedback", {"receipt": receipt, "truth": truth})


def main(url: str, rows: list[list[float]], shift: float, right: bool) -> None:
    """Send about twenty rows a second; print how many there were, and which failed."""
    ended = threading.Event()

    def wait_for_end() -> None:
        sys.stdin.read()
        ended.set()

    threading.Thread(target=wait_for_end, daemon=True).start()
    sent, faults = 0, list[str]()
    await_first(url)
    began = time.monotonic()
    while not ended.wait(0.04):
        *first, last = random.choice(rows)
        try:
            send(url, [*first, last + shift], right)
            sent += 1
        except OSError as error:
            faults.append(f"after {time.monotonic() - began:.2f} s: {error}")
    print(json.dumps({"sent": sent, "failed": len(faults), "faults": faults[:20]}))


if __name__ == "__main__":
    main(sys.argv[1], json.loads(sys.argv[2]), float(sys.argv[3]), sys.argv[4] == "right")
