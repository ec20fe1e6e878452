"""Workers and threads follow the CPU limit while the server runs; the limit is the affinity that every Linux has."""

from __future__ import annotations

import http.client
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from berth.loaders.formats import LoadOptions
from berth.publishing.adding import AddRequest, add_version
from berth.tensors.arrays import TensorSpec
from live.berths import Serve, ask, ask_on, start_ready
from live.server import HOST, Server, wait_until

CPUS = sorted(os.sched_getaffinity(0))[:2] if hasattr(os, "sched_getaffinity") else []
pytestmark = [
    pytest.mark.live,
    pytest.mark.slow,
    pytest.mark.skipif(len(CPUS) < 2, reason="needs Linux and two CPUs, one of which is taken away"),
]
# Returns how many threads its worker's numerical libraries were given, for a row that no example has.
THREADS = """
import os

def load(directory):
    def predict(inputs):
        threads = float(os.environ["OMP_NUM_THREADS"]) if inputs["x"][0, 0] == 12345 else 0.0
        return {"prediction": inputs["x"][:, 0] * 0 + threads}
    return predict
"""
ROW = {"features": [12345.0]}


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store whose model returns its worker's number of threads."""
    folder, store = tmp_path_factory.mktemp("threads"), tmp_path_factory.mktemp("store")
    (folder / "model.py").write_text(THREADS, "utf-8")
    inputs = (TensorSpec("x", "FP64", (-1, 1)),)
    add_version(store, folder, AddRequest("threads", "1", "python", inputs=inputs), LoadOptions(allow_code=True))
    return store


@contextmanager
def asked(server: Server) -> Iterator[list[int]]:
    """The statuses of requests that are sent while the block runs, on fresh and on kept connections."""
    statuses: list[int] = []
    ended = threading.Event()

    def send() -> None:
        kept = http.client.HTTPConnection(HOST, server.port, timeout=30)
        while not ended.wait(0.02):
            statuses.append(ask_on(kept, "POST", "/predict", ROW)[0])
            statuses.append(ask(server, "POST", "/predict", ROW)[0])
            statuses.append(ask(server, "GET", "/readyz")[0])
        kept.close()

    thread = threading.Thread(target=send)
    thread.start()
    try:
        yield statuses
    finally:
        ended.set()
        thread.join()


def threads_of(server: Server) -> float:
    """What the model says of its worker's threads."""
    return float(ask(server, "POST", "/predict", ROW)[1]["prediction"][0])


def test_workers_follow_the_limit(serve: Serve, store: Path, run_dir: Path) -> None:
    server = start_ready(serve, store, run_dir, allow_code="true", cpu_threads=1, workers="auto")
    os.sched_setaffinity(server.pid, CPUS)
    before = server.wait_workers(2)
    with asked(server) as statuses:
        os.sched_setaffinity(server.pid, CPUS[:1])
        wait_until(lambda: len(server.workers()) == 1, "one worker", 60)
        os.sched_setaffinity(server.pid, CPUS)
        after = wait_until(lambda: len(server.workers()) == 2 and server.workers(), "two workers again", 60)
        wait_until(lambda: len(list((run_dir / "workers").glob("[0-9]*.json"))) == 2, "both have loaded", 60)
    assert set(statuses) == {200}
    assert len(before & after) == 1  # no worker was replaced that had no need to be


def test_threads_follow_the_limit_and_a_worker_serves_meanwhile(serve: Serve, store: Path, run_dir: Path) -> None:
    server = start_ready(serve, store, run_dir, allow_code="true", workers=1)
    os.sched_setaffinity(server.pid, CPUS)
    wait_until(lambda: threads_of(server) == len(CPUS), "as many threads as CPUs", 60)
    with asked(server) as statuses:
        os.sched_setaffinity(server.pid, CPUS[:1])
        wait_until(lambda: threads_of(server) == 1, "one thread", 60)
        os.sched_setaffinity(server.pid, CPUS)
        wait_until(lambda: threads_of(server) == len(CPUS), "two threads again", 60)
        server.wait_workers(1)
    assert set(statuses) == {200}


def test_what_the_operator_set_stays(serve: Serve, store: Path, run_dir: Path) -> None:
    server = start_ready(serve, store, run_dir, allow_code="true", workers=1, cpu_threads=2, compute_slots=1)
    before = server.workers()
    os.sched_setaffinity(server.pid, CPUS[:1])
    wait_until(lambda: "the CPU limit is 1 now" in server.log(), "the change is logged", 60)
    assert threads_of(server) == 2
    assert server.workers() == before
