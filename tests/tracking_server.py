"""A real `mlflow server` with SQLite, and what is logged in it by MLflow's own Python."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from live.server import free_port, wait_until
from other_venv import ROOT, other_venv

_LOG = ROOT / "tests" / "pulling" / "mlflow_log.py"


@dataclass(frozen=True)
class Tracking:
    """A running tracking server. `environ` is what the server and those who log in it have besides."""

    port: int
    python: Path
    environ: Mapping[str, str] = field(default_factory=dict)

    @property
    def url(self) -> str:
        """Where it answers."""
        return f"http://127.0.0.1:{self.port}"

    def log(self, *words: str) -> dict[str, str]:
        """Run mlflow_log.py with these words: run, id and version of what it logged."""
        environ = {**os.environ, "MLFLOW_TRACKING_URI": self.url, "MLFLOW_DISABLE_TELEMETRY": "true", **self.environ}
        done = subprocess.run([self.python, _LOG, *words], env=environ, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr[-2000:]
        line = next((line for line in done.stdout.splitlines() if line.startswith("{")), "{}")
        logged: dict[str, str] = json.loads(line)
        return logged


def _answers(url: str) -> bool:
    with suppress(OSError), urllib.request.urlopen(f"{url}/health", timeout=5) as response:
        return bool(response.status == 200)
    return False


@contextmanager
def running_tracking(folder: Path, artifacts: str, environ: Mapping[str, str] | None = None) -> Iterator[Tracking]:
    """A server whose database is in `folder` and which hands out its artifacts from `artifacts`, a path or a URI."""
    programs, port = other_venv("mlflow", ROOT / "bench" / "apps" / "mlflow.txt"), free_port()
    words = ["server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    words += ["--backend-store-uri", f"sqlite:///{folder}/db.sqlite", "--artifacts-destination", artifacts]
    more = {"MLFLOW_DISABLE_TELEMETRY": "true", "PATH": f"{programs}:{os.environ['PATH']}", **(environ or {})}
    with (folder / "log").open("wb") as log:
        command = [str(programs / "mlflow"), *words]
        process = subprocess.Popen(
            command, env={**os.environ, **more}, stdout=log, stderr=log, cwd=folder, start_new_session=True
        )
    tracking = Tracking(port, programs / "python", environ or {})
    try:
        wait_until(lambda: _answers(tracking.url), f"mlflow server; log: {folder / 'log'}", 180)
        yield tracking
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
