"""How gunicorn runs Berth: settings, the worker class (berth/worker), and hooks.

`berth serve` resolves every setting and hands it over in the environment; nothing is decided here.
"""

import contextlib
import os
import resource
import shutil
import sys
from pathlib import Path
from typing import Any

from gunicorn.arbiter import Arbiter
from gunicorn.glogging import Logger
from gunicorn.workers.gthread import ThreadWorker

from berth.telemetry.metrics.metric_files import merge_dead_worker
from berth.worker.fair_worker import FairThreadWorker
from berth.worker.refusals import MOST_LINE_BYTES

# File descriptors that are not connections: libraries, models, pipes, logs.
RESERVED_FILES = 200

RUN_DIR = os.environ.get("BERTH_RUN_DIR", "")
METRICS_DIR = os.environ.get("PROMETHEUS_MULTIPROC_DIR", "")
LOG_FORMATTER = "TextFormatter" if os.environ.get("BERTH_LOG_FORMAT") == "text" else "JsonFormatter"
HOST = os.environ.get("BERTH_HOST", "0.0.0.0")  # noqa: S104 - a container must answer from outside
OPEN_FILES = resource.getrlimit(resource.RLIMIT_NOFILE)[0]

bind = f"{f'[{HOST}]' if ':' in HOST and HOST[0] != '[' else HOST}:{os.environ.get('BERTH_PORT', '8000')}"
if HOST.startswith("unix:"):
    bind = HOST
workers = int(os.environ.get("BERTH_WORKERS", "1"))
threads = int(os.environ.get("BERTH_THREADS", "40"))
graceful_timeout = int(float(os.environ.get("BERTH_GRACEFUL_TIMEOUT_SECONDS", "25")))
# Connections of one worker, busy or idle; beyond it idle ones are closed and new ones wait in the backlog.
worker_connections = 10_000
if OPEN_FILES != resource.RLIM_INFINITY:
    worker_connections = max(threads + 1, min(worker_connections, OPEN_FILES - RESERVED_FILES))
# The heartbeat of a worker's main loop; it says nothing about predictions (see BERTH_STUCK_SECONDS).
timeout = 60
keepalive = 75
backlog = 2048
max_requests = 0
preload_app = False
control_socket_disable = True
worker_tmp_dir = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None  # noqa: S108
limit_request_line = MOST_LINE_BYTES
limit_request_fields = 100
limit_request_field_size = 8190

loglevel = os.environ.get("BERTH_LOG_LEVEL", "info")
# Over gunicorn's own defaults, which have a handler `console` for standard output with the formatter `generic`.
logconfig_dict = {
    "loggers": {"gunicorn.error": {"level": loglevel.upper(), "handlers": ["console"], "propagate": False}},
    "formatters": {"generic": {"()": f"berth.telemetry.logs.{LOG_FORMATTER}"}},
}


class ErrorLogger(Logger):
    """gunicorn's log without its access lines: with a `logconfig_dict` it makes their fields for nobody (40 us)."""

    def access(self, resp: Any, req: Any, environ: Any, request_time: Any) -> None:
        """One line per request is the application's."""


logger_class = ErrorLogger


class Worker(FairThreadWorker):
    """The worker with the bounds of this server."""

    exchange_seconds = float(os.environ.get("BERTH_REQUEST_TIMEOUT_SECONDS", "30"))
    slot = os.environ.get("BERTH_SLOT", "")


worker_class = Worker


def post_fork(server: Arbiter, worker: FairThreadWorker) -> None:
    """Let the worker see a SIGTERM that comes before it listens for one; else a stop waits for it in vain."""
    worker.arbiter_signals = server.SIG_QUEUE


def post_worker_init(worker: ThreadWorker) -> None:
    """Start loading models; a replacement worker takes no connection before it has them."""
    berth = getattr(worker.app.callable, "extensions", {}).get("berth")
    if berth is None:
        return

    def notify() -> None:
        worker.notify()
        if not worker.alive or worker.ppid != os.getppid():
            sys.exit(0)

    berth.start(respawned=bool(RUN_DIR) and Path(RUN_DIR, "all-ready").exists(), notify=notify)


# Dead workers whose metrics could not be merged yet: a scrape held the lock, or the disk was full.
_unmerged: set[int] = set()


def child_exit(server: Arbiter, worker: ThreadWorker) -> None:
    """Keep a dead worker's counts and drop what it said about itself. An exception here would end the server."""
    _unmerged.add(worker.pid)
    for pid in sorted(_unmerged - set(server.WORKERS)):
        try:
            if METRICS_DIR:
                merge_dead_worker(Path(METRICS_DIR), pid)
            _unmerged.discard(pid)
        except Exception:  # the server must go on
            server.log.exception("metrics of dead worker %s are not merged yet; they still count", pid)
    if RUN_DIR:
        for path in (Path(RUN_DIR, "workers", f"{worker.pid}.json"), Path(RUN_DIR, f"stuck-{worker.pid}")):
            with contextlib.suppress(OSError):
                path.unlink()


def on_exit(server: Any) -> None:
    """Remove the run directory, and the store of a single file, if `berth serve` made them for this server alone."""
    mark = Path(RUN_DIR, "made-here")
    if RUN_DIR and mark.exists():
        if store := mark.read_text("utf-8"):
            shutil.rmtree(store, ignore_errors=True)
        shutil.rmtree(RUN_DIR, ignore_errors=True)
