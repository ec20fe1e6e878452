"""The corpus of bad requests against a real server: the same answers, no traceback, no growing memory."""

from __future__ import annotations

import http.client
from collections.abc import Iterator
from pathlib import Path

import pytest

from bad_requests import FILES, BadRequest, read_bad_requests
from live.berths import Serve, ask, start_ready
from live.server import HOST, Server

PASSES = 3
MOST_GROWTH_BYTES = 10_000_000

pytestmark = pytest.mark.live


def send_all(server: Server, requests: list[BadRequest]) -> Iterator[str]:
    """The faults of the answers; connections are kept until the server closes them."""
    connection = http.client.HTTPConnection(HOST, server.port, timeout=30)
    for bad in requests:
        connection.request(bad.method, bad.route, bad.body, dict(bad.headers))
        answer = connection.getresponse()
        faults = bad.faults(answer.status, answer.getheader("X-Request-Id"), answer.read())
        yield from (f"{bad.name}: {fault}" for fault in faults)
        if answer.will_close:
            connection.close()
    connection.close()


def resident_bytes(pids: set[int]) -> int:
    """The memory that processes really use now."""
    lines = [line for pid in pids for line in Path(f"/proc/{pid}/status").read_text("ascii").splitlines()]
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmRSS:"))


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is read from /proc")
def test_the_corpus_leaves_no_trace(serve: Serve, store: Path, run_dir: Path) -> None:
    server = start_ready(serve, store, run_dir, workers=1, models="iris@1,iris@2,people,prices")
    workers = server.workers()
    requests = [bad for file in FILES for bad in read_bad_requests(file)]
    assert "\n".join(send_all(server, requests)) == ""
    before = resident_bytes(workers)
    for _ in range(PASSES - 1):
        assert "\n".join(send_all(server, requests)) == ""
    grown = resident_bytes(workers) - before
    assert server.workers() == workers
    assert ask(server, "POST", "/predict", {"features": [5.1, 3.5, 1.4, 0.2]})[1]["prediction"] == [0]
    assert "Traceback" not in server.log()
    assert [line for line in server.log_lines() if line.get("status", 0) >= 500 or "exception" in line] == []
    assert len([line for line in server.log_lines() if "route" in line]) >= PASSES * len(requests)
    assert grown < MOST_GROWTH_BYTES
