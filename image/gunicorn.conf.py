"""How gunicorn runs Berth: settings, the worker class (berth/worker), and hooks.

`berth serve` resolves every setting and hands it over in the environment; what is missing there has the default of the
table in berth/settings.py, and what that leaves open is planned as the application plans it.
"""

import contextlib
import json
import os
import resource
import sys
from pathlib import Path
from typing import Any

from gunicorn.arbiter import Arbiter
from gunicorn.glogging import Logger
from gunicorn.workers.gthread import ThreadWorker

from berth.cpu import CpuPlan, thread_environment
from berth.cpu_settings import plan_settings, restore_auto, settle_plan
from berth.errors import SettingsError
from berth.serving.lifecycle import LOADING, discard_run_dir, write_worker_count
from berth.serving.notes import condemn_loading, forget_loading
from berth.settings import encode_settings, parse_settings
from berth.telemetry.metrics.metric_files import merge_dead_worker
from berth.worker.descriptors import reserve_descriptors
from berth.worker.fair_worker import FairThreadWorker
from berth.worker.refusals import MOST_LINE_BYTES
from berth.worker.resizing import ResizingArbiter

# File descriptors that are not connections: libraries, models, pipes, logs.
RESERVED_FILES = 200

try:
    SETTINGS = parse_settings(os.environ)
    PLAN = plan_settings(SETTINGS)
except SettingsError as error:
    sys.exit(f"Error: {error}")

RUN_DIR = SETTINGS.run_dir
METRICS_DIR = os.environ.get("PROMETHEUS_MULTIPROC_DIR", "")
LOG_FORMATTER = "TextFormatter" if SETTINGS.log_format == "text" else "JsonFormatter"
OPEN_FILES = resource.getrlimit(resource.RLIMIT_NOFILE)[0]

HOST = SETTINGS.host
bind = f"{f'[{HOST}]' if ':' in HOST and HOST[0] != '[' else HOST}:{SETTINGS.port}"
if HOST.startswith("unix:"):
    bind = HOST
workers = PLAN.workers
threads = PLAN.threads
graceful_timeout = int(SETTINGS.graceful_timeout_seconds)
# Connections of one worker, busy or idle; beyond it a new one takes the place of a silent or an idle one.
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
# The one that the worker's tests compare its own reading with; `auto` would take another where it is installed.
http_parser = "python"
# The worker's threads write to memory; the main thread sends.
sendfile = False
limit_request_line = MOST_LINE_BYTES
limit_request_fields = 100
limit_request_field_size = 8190

loglevel = SETTINGS.log_level
# Over gunicorn's own defaults, which have a handler `console` for standard output with the formatter `generic`.
logconfig_dict = {
    "loggers": {"gunicorn.error": {"level": loglevel.upper(), "handlers": ["console"], "propagate": False}},
    "formatters": {"generic": {"()": f"berth.telemetry.logs.{LOG_FORMATTER}"}},
}


class ErrorLogger(Logger):
    """gunicorn's log without its access lines: with a `logconfig_dict` it makes their fields for nothing (40 us)."""

    def access(self, resp: Any, req: Any, environ: Any, request_time: Any) -> None:
        """One line per request is the application's."""


logger_class = ErrorLogger


class Worker(FairThreadWorker):
    """The worker with the bounds of this server."""

    exchange_seconds = SETTINGS.request_timeout_seconds
    most_body_bytes = SETTINGS.max_body_bytes
    slot = SETTINGS.slot


worker_class = Worker

# With these exit codes a worker ends the whole server; gunicorn's own, 3 and 4, are codes that models' code ends with.
Arbiter.WORKER_BOOT_ERROR, Arbiter.APP_LOAD_ERROR = 113, 114


def apply_plan(plan: CpuPlan) -> None:
    """What workers that start from now on find in their environment, and what all count as all workers."""
    os.environ.update(encode_settings(settle_plan(SETTINGS, plan)) | thread_environment(plan.cpu_threads))
    if RUN_DIR:
        write_worker_count(Path(RUN_DIR), plan.workers)


def is_settled(pid: int) -> bool:
    """Whether a worker has loaded its models, or failed to."""
    if not RUN_DIR:
        return True
    try:
        states = json.loads(Path(RUN_DIR, "workers", f"{pid}.json").read_text("utf-8"))
    except (OSError, ValueError):
        return False
    return all(each["state"] != LOADING for each in states.values())


def on_starting(server: Arbiter) -> None:
    """Follow the CPU limit of the container: gunicorn has no setting for the arbiter's class."""
    server.__class__ = ResizingArbiter
    given = restore_auto(SETTINGS)
    # What was settled before the first look is no change, even where the limit has changed since.
    server.follow(plan_settings(SETTINGS), lambda: plan_settings(given), apply_plan, is_settled)


def post_fork(server: Arbiter, worker: FairThreadWorker) -> None:
    """Let the worker see a SIGTERM that comes before it listens for one; else a stop waits for it in vain."""
    worker.arbiter_signals = server.SIG_QUEUE
    reserve_descriptors(worker_connections)  # while it has no threads, which would have to wait for it


def post_worker_init(worker: ThreadWorker) -> None:
    """Start loading models; a replacement worker accepts no connection before it has them."""
    berth = getattr(worker.app.callable, "extensions", {}).get("berth")
    if berth is None:
        return

    def notify() -> None:
        worker.notify()
        if not worker.alive or worker.ppid != os.getppid():
            sys.exit(0)

    berth.start(respawned=bool(RUN_DIR) and Path(RUN_DIR, "all-ready").exists(), notify=notify)


def worker_exit(server: Arbiter, worker: FairThreadWorker) -> None:
    """A worker that ends because it should leaves no note: what it was loading did not kill it."""
    berth = getattr(getattr(worker, "wsgi", None), "extensions", {}).get("berth")
    if berth is not None and berth.rpc is not None and worker.pid == os.getpid():
        berth.rpc.stop(SETTINGS.graceful_timeout_seconds)
    if RUN_DIR and worker.pid == os.getpid():
        forget_loading(Path(RUN_DIR), worker.pid)


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
        with contextlib.suppress(OSError):
            if crashed := condemn_loading(Path(RUN_DIR), worker.pid):
                server.log.error("worker %s died while it loaded %s, which is not tried again", worker.pid, crashed)
        marks = [Path(RUN_DIR, f"{what}-{worker.pid}") for what in ("stuck", "blocked")]
        for path in (Path(RUN_DIR, "workers", f"{worker.pid}.json"), *marks):
            with contextlib.suppress(OSError):
                path.unlink()


def on_exit(server: Any) -> None:
    """Remove the run directory, and the store of a single file, if `berth serve` made them for this server alone."""
    if RUN_DIR:
        discard_run_dir(Path(RUN_DIR))
