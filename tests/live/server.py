"""A real server as a child process: started on a free port, its log kept, nothing of it left behind."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

HOST = "127.0.0.1"
# A test that waits longer than this has failed.
PATIENCE_SECONDS = 60.0


def free_port() -> int:
    """A port that nobody listened on a moment ago."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


def wait_until(condition: Callable[[], Any], what: str, seconds: float = PATIENCE_SECONDS) -> Any:
    """The first true value of `condition`."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        value = condition()
        if value:
            return value
        time.sleep(0.01)
    raise AssertionError(f"waited {seconds:g} s for {what}")


class Server:
    """One server: a command that listens on `port`, in a process group of its own."""

    def __init__(self, command: Sequence[str], env: Mapping[str, str], port: int, log: Path) -> None:
        self.port = port
        self.log_file = log
        clean = {name: value for name, value in os.environ.items() if not name.startswith(("BERTH_", "PROMETHEUS_"))}
        with log.open("wb") as output:
            self._process = subprocess.Popen(
                command, env={**clean, **env}, stdout=output, stderr=subprocess.STDOUT, start_new_session=True
            )
        self.pid = self._process.pid

    @property
    def url(self) -> str:
        """Where it answers."""
        return f"http://{HOST}:{self.port}"

    def connect(self, timeout: float = 5.0) -> socket.socket:
        """A new connection to it."""
        return socket.create_connection((HOST, self.port), timeout)

    def _accepts(self) -> bool:
        if self._process.poll() is not None:
            raise AssertionError(f"the server ended with {self._process.returncode}:\n{self.log()}")
        try:
            self.connect(1.0).close()
        except OSError:
            return False
        return True

    def wait_accepting(self) -> None:
        """Wait until it takes connections."""
        wait_until(self._accepts, f"port {self.port}; log:\n{self.log()}")

    def log(self) -> str:
        """All it has printed so far."""
        return self.log_file.read_text("utf-8", "replace")

    def log_lines(self) -> list[dict[str, Any]]:
        """The JSON lines it has printed so far."""
        return [json.loads(line) for line in self.log().splitlines() if line.startswith("{")]

    def workers(self) -> set[int]:
        """Process ids of gunicorn's workers that are alive, as its log tells them."""
        booted = {int(pid) for pid in re.findall(r"Booting worker with pid: (\d+)", self.log())}
        return {pid for pid in booted if _is_alive(pid)}

    def wait_workers(self, count: int) -> set[int]:
        """The workers, once there are `count`."""
        found: set[int] = wait_until(lambda: len(self.workers()) == count and self.workers(), f"{count} workers")
        return found

    def signal(self, number: int) -> None:
        """Send a signal to the first process."""
        self._process.send_signal(number)

    def wait(self, seconds: float = PATIENCE_SECONDS) -> int:
        """Its exit status, once it has ended by itself."""
        return self._process.wait(seconds)

    def stop(self) -> None:
        """End its process group at once; a test about its end asks politely, and waits, itself."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        self._process.wait()


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
