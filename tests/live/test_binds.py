"""Where a server listens: a Unix socket, all addresses, PORT; and that gunicorn's own variable has no effect."""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from live.server import HOST, Server, free_port, wait_until

pytestmark = pytest.mark.live
REQUEST = b"GET /readyz HTTP/1.1\r\nHost: berth\r\nConnection: close\r\n\r\n"


@contextmanager
def running(store: Path, folder: Path, port: int, **environ: str) -> Iterator[Server]:
    """`berth serve` with nothing set but the store and these variables."""
    known = {"BERTH_MODEL_STORE": str(store), "BERTH_ALLOW_CODE": "true", "BERTH_LOG_FORMAT": "json"}
    command = [sys.executable, "-m", "berth", "serve"]
    server = Server(command, {"PATH": os.environ["PATH"], **known, **environ}, port, folder / "log")
    try:
        yield server
    finally:
        server.stop()


def status_at(family: socket.AddressFamily, address: str | tuple[str, int]) -> int:
    """The status of /readyz over one connection; 0 where none is accepted."""
    with socket.socket(family) as connection:
        connection.settimeout(5)
        try:
            connection.connect(address)
            connection.sendall(REQUEST)
            line = connection.makefile("rb").readline()
        except OSError:
            return 0
    return int(line.split()[1]) if line else 0


def test_a_unix_socket_and_gunicorns_variable(sleeper_store: Path, tmp_path: Path) -> None:
    path = tmp_path / "s"
    settings = {"BERTH_HOST": f"unix:{path}", "BERTH_WORKERS": "2", "GUNICORN_CMD_ARGS": "--workers=1 --bind=:1"}
    with running(sleeper_store, tmp_path, 0, **settings) as server:
        wait_until(lambda: status_at(socket.AF_UNIX, str(path)) == 200, f"readiness at {path}", 60)
        server.wait_workers(2)
        assert [line for line in server.log_lines() if "GUNICORN_CMD_ARGS" in str(line) and line["level"] == "warning"]


@pytest.mark.skipif(not socket.has_dualstack_ipv6(), reason="this machine has no IPv6")
def test_both_families_and_the_platforms_port(sleeper_store: Path, tmp_path: Path) -> None:
    port = free_port()
    with running(sleeper_store, tmp_path, port, BERTH_HOST="[::]", PORT=str(port)):
        wait_until(lambda: status_at(socket.AF_INET6, ("::1", port)) == 200, f"readiness at port {port}", 60)
        assert status_at(socket.AF_INET, (HOST, port)) == 200
