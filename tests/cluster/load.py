"""Steady load on a Service while a block runs, from a pod beside it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from cluster.kube import FLOWER, Client

LOADER = (Path(__file__).parent / "loader.py").read_text("utf-8")
# Requests a second, over this many kept-alive connections.
RATE, CONNECTIONS = 200, 8


@contextmanager
def load(client: Client, url: str) -> Iterator[dict[str, Any]]:
    """Keep-alive load while the block runs; afterwards the dict says what became of the requests (loader.py)."""
    counts: dict[str, Any] = {}
    process = client.start(LOADER, f"{url}/predict", str(RATE), str(CONNECTIONS), json.dumps(FLOWER))
    try:
        yield counts
    finally:
        out, err = process.communicate("", timeout=60)
    assert process.returncode == 0, err
    counts |= json.loads(out)
    print(f"load: {counts}")
