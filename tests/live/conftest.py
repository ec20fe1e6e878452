"""`serve` starts any server; `gunicorn` a small WSGI application under Berth's own gunicorn file; a slow model."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Protocol

import pytest

from live.berths import Serve, add_sleeper
from live.browser import Browser, find_browser
from live.gating import Lookup
from live.server import HOST, Server, free_port

CONF = Path(__file__).parents[2] / "image" / "gunicorn.conf.py"


class Gunicorn(Protocol):
    """How tests call the `gunicorn` fixture."""

    def __call__(
        self,
        app: str,
        workers: int = 1,
        threads: int = 2,
        options: Sequence[str] = (),
        constants: Mapping[str, object] = MappingProxyType({}),
    ) -> Server: ...


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Serve]:
    """serve(command, env, port): a running server that takes connections; stopped after the test."""
    servers: list[Server] = []

    def start(command: Sequence[str], env: Mapping[str, str], port: int) -> Server:
        server = Server(command, env, port, tmp_path / f"server-{len(servers)}.log")
        servers.append(server)
        server.wait_accepting()
        return server

    yield start
    for server in servers:
        server.stop()


@pytest.fixture(scope="session")
def sleeper_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with `sleeper`."""
    store = tmp_path_factory.mktemp("sleepers")
    add_sleeper(store, tmp_path_factory.mktemp("sleeper"))
    return store


@pytest.fixture
def lookup() -> Lookup:
    """DNS with one pod behind the headless name."""
    return Lookup()


@pytest.fixture(scope="module")
def browser(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """A browser for the module's server. It ends before the server, which would wait for its connections."""
    found = Browser(find_browser() or "", tmp_path_factory.mktemp("profile"))
    yield found
    found.close()


@pytest.fixture
def told() -> list[str]:
    """What the gate printed."""
    return []


@pytest.fixture
def run_dir(tmp_path: Path) -> Path:
    """A run directory as the start command makes it."""
    directory = tmp_path / "run"
    (directory / "metrics").mkdir(parents=True)
    (directory / "workers").mkdir()
    return directory


@pytest.fixture
def gunicorn(serve: Serve, tmp_path: Path, run_dir: Path) -> Gunicorn:
    """gunicorn("app", workers, threads): an application of live/apps.py; constants of the file may be shortened."""

    def start(
        app: str,
        workers: int = 1,
        threads: int = 2,
        options: Sequence[str] = (),
        constants: Mapping[str, object] = MappingProxyType({}),
    ) -> Server:
        port = free_port()
        conf = tmp_path / "gunicorn.conf.py"
        lines = [CONF.read_text("utf-8"), *(f"{name} = {value!r}" for name, value in constants.items())]
        conf.write_text("\n".join(lines), "utf-8")
        env = {
            "BERTH_HOST": HOST,
            "BERTH_PORT": str(port),
            "BERTH_WORKERS": str(workers),
            "BERTH_THREADS": str(threads),
            "BERTH_GRACEFUL_TIMEOUT_SECONDS": "3",
            "BERTH_RUN_DIR": str(run_dir),
            "BERTH_SLOT": "blue",
            "PROMETHEUS_MULTIPROC_DIR": str(run_dir / "metrics"),
            "PYTHONPATH": str(Path(__file__).parents[1]),
        }
        command = [sys.executable, "-m", "gunicorn", "-c", str(conf), *options, f"live.apps:{app}"]
        server = serve(command, env, port)
        server.wait_workers(workers)
        return server

    return start
