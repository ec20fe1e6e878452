"""Experiments over several workers and servers: one assignment, shared counts, and counts that outlive a server."""

from __future__ import annotations

import http.client
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from collector import wait_for
from live.berths import Serve, ask, start_ready
from live.server import HOST, Server
from web.test_experiments import SECRET, SPLIT, arms_store, write

__all__ = ["arms_store"]
pytestmark = [pytest.mark.live, pytest.mark.slow]
ROW = {"features": [1.0, 7.0]}


def predict(server: Server, users: int) -> tuple[list[str], list[str]]:
    """The arm and the receipt of each user; the connection changes, so that every worker takes part."""
    arms, receipts = [], []
    for first in range(0, users, 50):
        connection = http.client.HTTPConnection(HOST, server.port, timeout=30)
        for number in range(first, min(first + 50, users)):
            fields = {"Content-Type": "application/json", "X-User-Id": f"user-{number}"}
            connection.request("POST", "/predict", json.dumps(ROW), fields)
            response = connection.getresponse()
            response.read()
            arms.append(response.headers["X-Berth-Arm"])
            receipts.append(response.headers["X-Berth-Receipt"])
        connection.close()
    return arms, receipts


def rewards(server: Server) -> list[float]:
    found: list[dict[str, Any]] = ask(server, "GET", "/experiments")[1]["experiments"][0]["arms"]
    return [arm["rewards"] for arm in found]


def test_servers_agree_and_remember(serve: Serve, arms_store: Path, tmp_path: Path) -> None:
    """Two servers with the same file: the same arms; a killed one's rewards stay with the other."""
    (tmp_path / "secret").write_text(SECRET, "utf-8")
    file = write(tmp_path / "experiments.json", SPLIT)
    settings = {"models": "churn@1,churn@2", "experiment_file": file, "feedback_key_file": tmp_path / "secret"}
    first = start_ready(serve, arms_store, tmp_path / "first", workers=1, **settings)
    peers = f"{HOST}:{first.port}"
    servers = [first, start_ready(serve, arms_store, tmp_path / "second", workers=2, peers=peers, **settings)]
    (one, receipts), (two, _) = (predict(server, 400) for server in servers)
    assert one == two
    assert 150 < one.count("churn@1") < 250
    items = [{"receipt": text, "reward": 1} for text in receipts]
    for start in range(0, 400, 20):
        assert ask(servers[0], "POST", "/feedback", items[start : start + 20])[0] == 200
    expected = [one.count("churn@1"), one.count("churn@2")]
    wait_for(lambda: rewards(servers[1]) == expected, 20)
    command = [sys.executable, "-m", "berth", "experiment", "report", *(server.url for server in servers)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 3, done.stdout + done.stderr
    assert "keep going: nothing is decided yet" in done.stdout
    for pid in (first.pid, *first.workers()):
        os.kill(pid, signal.SIGKILL)
    assert rewards(servers[1]) == expected
