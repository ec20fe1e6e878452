"""One server process tree at a time: start it, wait for its first correct response, weigh it, end all of it."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

_START_SECONDS = 60.0
_SETTLE_SECONDS, _LOOK_SECONDS, _BUSY_SHARE = 10.0, 0.25, 0.1
_STOP_SECONDS = 5.0
_MIB = 1024


class ServerFailed(Exception):
    """The server ended, never responded, or returned something else; the message says which."""


@dataclass(frozen=True)
class Weight:
    """Memory in MiB: shared pages counted once over the whole tree, and what the heaviest processes show."""

    processes: int
    total_pss: float
    worker_pss: float
    worker_rss: float


def free_port() -> int:
    """A port without a listener, and none at the next one, where MLServer has its gRPC."""
    while True:
        with socket.socket() as probe, socket.socket() as behind:
            probe.bind(("127.0.0.1", 0))
            port = int(probe.getsockname()[1])
            if behind.connect_ex(("127.0.0.1", port + 1)):
                return port


def post(port: int, path: str, body: bytes, headers: Mapping[str, str] | None = None) -> tuple[int, bytes]:
    """One request on a connection of its own. Raises httpx.HTTPError."""
    sent = {"Content-Type": "application/json", **(headers or {})}
    answer = httpx.post(f"http://127.0.0.1:{port}{path}", content=body, headers=sent, timeout=20, trust_env=False)
    return answer.status_code, answer.content


@dataclass(frozen=True)
class Process:
    """What identifies a process: numbers are used again, with another start."""

    pid: int
    parent: int = field(compare=False)  # becomes 1 when the parent ends first
    session: int
    started: str


def _processes() -> list[Process]:
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            fields = stat.read_text("utf-8", "replace").rpartition(")")[2].split()
            found.append(Process(int(stat.parent.name), int(fields[1]), int(fields[3]), fields[19]))
    return found


def tree_of(pid: int) -> set[Process]:
    """The process, all below it, and what else is of its session."""
    everyone = _processes()
    tree = {one for one in everyone if pid in (one.pid, one.session)}
    while below := {one for one in everyone if one.parent in {each.pid for each in tree}} - tree:
        tree |= below
    return tree


def _memory(pid: int) -> tuple[float, float]:
    """(PSS, RSS) in MiB; zeros for a process that has ended."""
    values = {"Pss": 0.0, "Rss": 0.0}
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]:
            name, _, rest = line.partition(":")
            if name in values:
                values[name] = int(rest.split()[0]) / _MIB
    return values["Pss"], values["Rss"]


def cpu_seconds(pid: int) -> float:
    """What a process has computed since it began, all its threads together; 0 of one that has ended."""
    with contextlib.suppress(OSError):
        fields = Path(f"/proc/{pid}/stat").read_text("utf-8", "replace").rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return 0.0


class Server:
    """A running server on 127.0.0.1."""

    def __init__(self, process: subprocess.Popen[bytes], port: int, log: Path) -> None:
        self._process = process
        self._log = log
        self.port = port
        self.ready_seconds = 0.0

    def check_alive(self) -> None:
        """Raises ServerFailed with the end of its output."""
        if self._process.poll() is not None:
            lines = self._log.read_text("utf-8", "replace").strip().splitlines()
            raise ServerFailed(f"it ended with {self._process.returncode}: {' | '.join(lines[-3:])[-400:]}")

    def weigh(self) -> Weight:
        """What the tree takes now."""
        processes = [_memory(one.pid) for one in tree_of(self._process.pid)]
        return Weight(
            sum(pss > 0 for pss, _ in processes),
            sum(pss for pss, _ in processes),
            max(pss for pss, _ in processes),
            max(rss for _, rss in processes),
        )

    def cpu_seconds(self) -> float:
        """What the tree has computed since it began."""
        return sum(cpu_seconds(one.pid) for one in tree_of(self._process.pid))

    def settle(self) -> None:
        """Wait until it no longer computes: the other workers are still starting when the first one responds."""
        deadline = time.monotonic() + _SETTLE_SECONDS
        while time.monotonic() < deadline:
            before = self.cpu_seconds()
            time.sleep(_LOOK_SECONDS)
            if self.cpu_seconds() - before < _LOOK_SECONDS * _BUSY_SHARE:
                return

    def stop(self) -> None:
        """End the whole tree: gently first."""
        tree = tree_of(self._process.pid)
        self._process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(_STOP_SECONDS)
        for left in (tree | tree_of(self._process.pid)) & set(_processes()):
            with contextlib.suppress(ProcessLookupError):
                os.kill(left.pid, signal.SIGKILL)
        self._process.wait()


def _answers(server: Server, path: str, body: bytes, headers: Mapping[str, str]) -> bool:
    try:
        return post(server.port, path, body, headers)[0] == 200
    except httpx.HTTPError:
        return False


@contextlib.contextmanager
def running(
    command: Sequence[str],
    environ: Mapping[str, str],
    port: int,
    ask: tuple[str, bytes, Mapping[str, str]],
    folder: Path,
) -> Iterator[Server]:
    """The server once it has responded to `ask` (path, body, headers) with 200. Raises ServerFailed."""
    log = folder / "server.log"
    with log.open("wb") as output:
        began = time.monotonic()
        process = subprocess.Popen(
            command, env=dict(environ), cwd=folder, stdout=output, stderr=output, start_new_session=True
        )
    server = Server(process, port, log)
    try:
        while not _answers(server, *ask):
            server.check_alive()
            if time.monotonic() - began > _START_SECONDS:
                raise ServerFailed(f"no response within {_START_SECONDS:g} s")
            time.sleep(0.02)
        server.ready_seconds = time.monotonic() - began
        server.settle()
        yield server
    finally:
        server.stop()


def decode(body: bytes) -> Any:
    """A response as Python; what it begins with when it is not JSON. Raises ServerFailed."""
    try:
        return json.loads(body)
    except ValueError as error:
        raise ServerFailed(f"the response is not JSON: {body[:100]!r}") from error
