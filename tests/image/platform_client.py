"""Sends requests from inside a container, with the standard library alone.

Usage: python -c CODE PORT HEALTH REQUESTS: waits until GET HEALTH returns 200, then sends what the JSON list REQUESTS
has, each as [method, path, body, headers], and prints the JSON list of [status, headers, body].
"""

from __future__ import annotations

import contextlib
import http.client
import json
import sys
import time
from typing import Any

_PATIENCE_SECONDS = 60.0


def send(port: int, method: str, path: str, body: str | None, headers: dict[str, str]) -> list[Any]:
    """One request on a connection of its own."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        connection.request(method, path, body, headers)
        response = connection.getresponse()
        return [
            response.status,
            {name.lower(): value for name, value in response.getheaders()},
            response.read().decode(),
        ]
    finally:
        connection.close()


def main(port: int, health: str, requests: list[Any]) -> None:
    """Wait, send and print."""
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError):
            if send(port, "GET", health, None, {})[0] == 200:
                break
        time.sleep(0.05)
    else:
        sys.exit(f"GET {health} at port {port} did not return 200 within {_PATIENCE_SECONDS:g} s")
    print(json.dumps([send(port, *request) for request in requests]))


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2], json.loads(sys.argv[3]))
