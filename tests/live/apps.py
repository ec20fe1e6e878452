"""Small WSGI applications that show what the process around them does."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from berth.telemetry.metrics.metric_files import render
from berth.telemetry.metrics.registry import Metrics, ModelMetrics
from berth.worker.http1 import count_missing, encode_response, parse_request
from berth.worker.inline import InlineAnswer

Environ = dict[str, Any]
Start = Callable[[str, list[tuple[str, str]]], object]

_RUN_DIR = Path(os.environ.get("BERTH_RUN_DIR", "."))


def _answer(start: Start, body: bytes, status: str = "200 OK") -> list[bytes]:
    start(status, [("Content-Length", str(len(body))), ("Content-Type", "text/plain")])
    return [body]


def hold(environ: Environ, start: Start) -> Iterable[bytes]:
    """/pid: who answers. /hold/NAME: the same at once, then keep the thread until the file NAME is in the run dir."""
    pid = f"{os.getpid():>10}".encode()
    if environ["PATH_INFO"] == "/pid":
        return _answer(start, pid)

    def stream() -> Iterator[bytes]:
        yield pid
        while not (_RUN_DIR / environ["PATH_INFO"].removeprefix("/hold/")).exists():
            time.sleep(0.01)

    start("200 OK", [("Connection", "close")])
    return stream()


def read(environ: Environ, start: Start) -> Iterable[bytes]:
    """Tells how long the body was, or that it did not come."""
    try:
        return _answer(start, str(len(environ["wsgi.input"].read())).encode())
    except TimeoutError:
        return _answer(start, b"late", "408 Request Timeout")


def fail(environ: Environ, start: Start) -> Iterable[bytes]:
    """Breaks as no application should."""
    raise RuntimeError("the secret of /srv/app.py")


def large(environ: Environ, start: Start) -> Iterable[bytes]:
    """/large: more than the kernel buffers for a client that does not read; else a few bytes."""
    return _answer(start, b"x" * (64_000_000 if environ["PATH_INFO"] == "/large" else 2))


_lock = threading.Lock()
_metrics: ModelMetrics | None = None


def _own_metrics(directory: Path) -> ModelMetrics:
    global _metrics
    with _lock:
        if _metrics is None:
            _metrics = Metrics("blue", directory).bind("iris", "1")
            _metrics.set_ready(True)
            _metrics.set_inflight(1)
        return _metrics


def count(environ: Environ, start: Start) -> Iterable[bytes]:
    """Counts every request, and tells the sum over all workers at /metrics."""
    directory = Path(os.environ["PROMETHEUS_MULTIPROC_DIR"])
    metrics = _own_metrics(directory)
    if environ["PATH_INFO"] == "/metrics":
        return _answer(start, render(directory))
    metrics.observe_request("predict", 200, 0.001)
    return _answer(start, b"counted")


class _Here:
    """`hold`, and answers to POST /here as Berth's application gives them to the worker: from bytes to bytes."""

    def __init__(self) -> None:
        self.extensions = {"berth": self}
        self.express = self

    def start(self, respawned: bool, notify: Callable[[], None]) -> None:
        """There is nothing to load."""

    def answer_plain(self, data: bytes, client: str, waiting: int) -> InlineAnswer | None:
        """The thread that answers."""
        environ = parse_request(data, "POST", "/here", client) if data.startswith(b"POST /here ") else None
        if environ is None:
            return None
        if missing := count_missing(environ):
            return InlineAnswer(b"", whole_bytes=len(data) + missing)
        name = threading.current_thread().name.encode()
        return InlineAnswer(encode_response("200 OK", [("Content-Length", str(len(name)))], name))

    def __call__(self, environ: Environ, start: Start) -> Iterable[bytes]:
        return hold(environ, start)


here = _Here()


class _Loading:
    """An application with what Berth's keeps under extensions["berth"]."""

    def __init__(self) -> None:
        self.extensions = {"berth": self}
        self._respawned = "never started"

    def start(self, respawned: bool, notify: Callable[[], None]) -> None:
        """Block as a replacement does until its models are there."""
        self._respawned = f"respawned={respawned}"
        while respawned and not (_RUN_DIR / "loaded").exists():
            (_RUN_DIR / "loading").touch()
            notify()
            time.sleep(0.01)

    def __call__(self, environ: Environ, start: Start) -> Iterable[bytes]:
        return _answer(start, self._respawned.encode())


loading = _Loading()
