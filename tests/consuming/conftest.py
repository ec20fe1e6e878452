"""Consumers as child processes, and brokers for them."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

import pytest

from consuming.brokers import KafkaCluster, RedisProcess
from live.berths import ask
from live.server import HOST, Server, free_port, wait_until


class StartConsumer(Protocol):
    """How tests call the `consume` fixture."""

    def __call__(self, *arguments: str, ready: bool = True, **settings: object) -> Server: ...


@pytest.fixture
def consume(tmp_path: Path, store: Path) -> Iterator[StartConsumer]:
    """consume("redis://…", "--to", …): a running `berth consume` of iris@1, ready; settings in lower case."""
    running: list[Server] = []

    def start(*arguments: str, ready: bool = True, **settings: object) -> Server:
        port, number = free_port(), len(running)
        environ = {
            "BERTH_HOST": HOST,
            "BERTH_PORT": str(port),
            "BERTH_MODEL_STORE": str(store),
            "BERTH_MODELS": "iris@1",
        }
        environ |= {
            "BERTH_LOG_FORMAT": "json",
            "BERTH_RUN_DIR": str(tmp_path / f"run-{number}"),
            "PATH": os.environ["PATH"],
        }
        environ |= {f"BERTH_{name.upper()}": str(value) for name, value in settings.items()}
        command = [sys.executable, "-m", "berth", "consume", *arguments]
        server = Server(command, environ, port, tmp_path / f"consumer-{number}.log")
        running.append(server)
        if ready:
            server.wait_accepting()
            wait_until(lambda: ask(server, "GET", "/readyz")[0] == 200, f"readiness; log:\n{server.log()}")
        return server

    yield start
    for server in running:
        server.stop()


@pytest.fixture(scope="module")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisProcess]:
    """A redis-server for the tests of a file; each has streams of its own names."""
    server = RedisProcess(tmp_path_factory.mktemp("redis"))
    yield server
    server.close()


@pytest.fixture
def kafka() -> Iterator[KafkaCluster]:
    """A cluster with `rows` (6 partitions), `scores` and `dead`."""
    cluster = KafkaCluster({"rows": 6, "scores": 3, "dead": 1})
    yield cluster
    cluster.close()
