"""Berth alone, with settings of its own: started, ready, weighed, ended."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
from servers import free_port

_START_SECONDS = 60.0


def _is_ready(port: int) -> bool:
    try:
        return httpx.get(f"http://127.0.0.1:{port}/readyz", timeout=5, trust_env=False).status_code == 200
    except httpx.HTTPError:
        return False


@contextmanager
def serving(store: Path, log: Path, **settings: object) -> Iterator[tuple[int, int]]:
    """`berth serve` over a store until the block ends: process id and port, once every worker is ready.

    Keywords are settings in lower case, and other variables of the environment in upper case. Raises RuntimeError for a
    server that does not become ready.
    """
    port = free_port()
    named = {name if name.isupper() else f"BERTH_{name.upper()}": str(value) for name, value in settings.items()}
    own = {"BERTH_PORT": str(port), **named}
    clean = {name: value for name, value in os.environ.items() if not name.startswith("BERTH_")}
    with log.open("wb") as output:
        command = [sys.executable, "-m", "berth", "serve", str(store)]
        process = subprocess.Popen(command, env=clean | own, stdout=output)
    deadline = time.monotonic() + _START_SECONDS
    try:
        while not _is_ready(port):
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"the server did not become ready:\n{log.read_text('utf-8', 'replace')[-2000:]}")
            time.sleep(0.05)
        yield process.pid, port
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(60)


def list_workers(pid: int) -> list[int]:
    """The process ids of a server's workers."""
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text("ascii").split()]


def memory_mib(pid: int) -> list[float]:
    """Resident memory of the server's workers."""
    pages = [int(Path(f"/proc/{worker}/statm").read_text("ascii").split()[1]) for worker in list_workers(pid)]
    return [page * os.sysconf("SC_PAGE_SIZE") / (1 << 20) for page in pages]
