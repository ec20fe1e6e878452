"""How gunicorn runs Berth: settings, the worker class that shares connections out fairly, and hooks.

`berth serve` resolves every setting and hands it over in the environment; nothing is decided here.

The worker is gunicorn's ThreadWorker with four changes, each tested in tests/live/test_gunicorn_conf.py against
the exact gunicorn version that pyproject.toml pins:

1.  A worker whose threads are all busy takes no new connection; another worker, or the backlog, has it.
2.  Reading headers, reading a body and sending an answer are bounded in time, so no client holds a thread for ever.
3.  What gunicorn refuses by itself is answered in Berth's one JSON error shape.
4.  Waiting for a client to close its end of a finished connection happens in the poller, not in the main loop.
"""

import contextlib
import json
import os
import re
import resource
import select
import selectors
import shutil
import socket
import sys
import time
import uuid
from collections import deque
from concurrent.futures import Future
from http import HTTPStatus
from pathlib import Path
from typing import Any

from gunicorn import util
from gunicorn.arbiter import Arbiter
from gunicorn.glogging import Logger
from gunicorn.http import errors
from gunicorn.http.unreader import SocketUnreader
from gunicorn.workers.gthread import _DEFER, TConn, ThreadWorker

from berth.metrics import merge_dead_worker

# A new connection that says nothing for this long waits in the poller instead of on a thread.
FIRST_BYTE_SECONDS = 0.2
# From a request's first byte to the end of its headers.
HEADER_SECONDS = 5.0
# For the rest of a body that nobody read (a refusal); then the connection closes instead of holding a thread.
DRAIN_SECONDS = 0.2
# For its body, and again for sending the answer.
EXCHANGE_SECONDS = float(os.environ.get("BERTH_REQUEST_TIMEOUT_SECONDS", "30"))
# How long a closed connection may wait for the client's side of the close.
LINGER_SECONDS = 2.0
# File descriptors that are not connections: libraries, models, pipes, logs.
RESERVED_FILES = 200
FAILED = "the server failed; its log tells why under this request_id"

SLOT = os.environ.get("BERTH_SLOT", "")
RUN_DIR = os.environ.get("BERTH_RUN_DIR", "")
METRICS_DIR = os.environ.get("PROMETHEUS_MULTIPROC_DIR", "")
LOG_FORMATTER = "TextFormatter" if os.environ.get("BERTH_LOG_FORMAT") == "text" else "JsonFormatter"
HOST = os.environ.get("BERTH_HOST", "0.0.0.0")  # noqa: S104 - a container must answer from outside
OPEN_FILES = resource.getrlimit(resource.RLIMIT_NOFILE)[0]

bind = f"{f'[{HOST}]' if ':' in HOST else HOST}:{os.environ.get('BERTH_PORT', '8000')}"
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
limit_request_line = 8190
limit_request_fields = 100
limit_request_field_size = 8190

loglevel = os.environ.get("BERTH_LOG_LEVEL", "info")
# Over gunicorn's own defaults, which have a handler `console` for standard output with the formatter `generic`.
logconfig_dict = {
    "loggers": {"gunicorn.error": {"level": loglevel.upper(), "handlers": ["console"], "propagate": False}},
    "formatters": {"generic": {"()": f"berth.logs.{LOG_FORMATTER}"}},
}


class ErrorLogger(Logger):
    """gunicorn's log without its access lines: with a `logconfig_dict` it makes their fields for nobody (40 us)."""

    def access(self, resp: Any, req: Any, environ: Any, request_time: Any) -> None:
        """One line per request is the application's."""


logger_class = ErrorLogger


class HeadersTimeout(errors.ParseException):
    """The client stopped in the middle of its headers."""


class BrokenBody(errors.ParseException, ValueError):
    """The body's chunks are not what HTTP says; an application catches it as ValueError."""


class BoundedUnreader(SocketUnreader):
    """Reads a connection until a moment in time, however slowly the bytes trickle in."""

    def __init__(self, sock: socket.socket) -> None:
        super().__init__(sock)
        self._deadline = 0.0
        self._error: type[Exception] = HeadersTimeout

    def allow(self, seconds: float, error: type[Exception]) -> None:
        """Let reads go on for `seconds`; then they raise `error`."""
        self._deadline = time.monotonic() + seconds
        self._error = error

    def chunk(self, size_hint: int | None = None) -> bytes:
        wait = self._deadline - time.monotonic()
        if (bound := self.sock.gettimeout()) is not None:
            wait = min(wait, bound)
        poll = select.poll()
        poll.register(self.sock, select.POLLIN)
        if wait <= 0 or not poll.poll(wait * 1000):
            raise self._error("the client stopped sending in the middle of its request")
        return super().chunk(size_hint)


class CheckedReader:
    """A body's reader, of which an application needs to know no exception of gunicorn's."""

    def __init__(self, reader: Any) -> None:
        self._reader = reader

    def read(self, size: int) -> bytes:
        try:
            return self._reader.read(size)
        except errors.ParseException as error:
            raise BrokenBody(str(error)) from error


# What gunicorn raises: status, code and sentence; without one, its own. The first that fits counts.
REFUSALS: tuple[tuple[Any, int, str, str], ...] = (
    (HeadersTimeout, 408, "headers_timeout", f"the headers did not arrive within {HEADER_SECONDS:g} s"),
    (errors.LimitRequestLine, 414, "uri_too_long", f"the request line is longer than {limit_request_line} bytes"),
    (errors.LimitRequestHeaders, 431, "headers_too_large", "too many headers, or too long ones; send less"),
    (errors.UnsupportedTransferCoding, 501, "not_implemented", "of Transfer-Encoding only chunked is read"),
    (errors.ExpectationFailed, 417, "bad_request", "of Expect only 100-continue is known"),
    ((errors.InvalidResponseHeader, errors.InvalidResponseHeaderName), 500, "internal_error", FAILED),
    (errors.ParseException, 400, "bad_request", ""),
    (Exception, 500, "internal_error", FAILED),
)


def describe_error(exc: Exception) -> tuple[int, str, str]:
    """Status, code and sentence for what gunicorn or the application raised."""
    status, code, sentence = next(line[1:] for line in REFUSALS if isinstance(exc, line[0]))
    return status, code, sentence or str(exc)[:200]


def find_request_id(req: Any) -> str:
    """The client's own id if it is sane, else a new one."""
    for name, value in getattr(req, "headers", ()):
        if name == "X-REQUEST-ID" and re.fullmatch(r"[A-Za-z0-9._-]{1,128}", value):
            return value
    return uuid.uuid4().hex


def encode_error(status: int, code: str, message: str, request_id: str) -> bytes:
    """The whole answer, after which the connection closes."""
    body = json.dumps({"error": message, "code": code, "request_id": request_id}).encode()
    slot = f"X-Berth-Slot: {SLOT}\r\n" if SLOT else ""
    head = (
        f"HTTP/1.1 {status} {HTTPStatus(status).phrase}\r\nConnection: close\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\nX-Request-Id: {request_id}\r\n{slot}\r\n"
    )
    return head.encode("latin-1") + body


class FairThreadWorker(ThreadWorker):
    """A ThreadWorker that accepts a connection only when it has a thread for it."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._closing: deque[TConn] = deque()
        super().__init__(*args, **kwargs)

    @property
    def worker_connections(self) -> int:
        """The main loop accepts while it has fewer connections than this.

        Kept-alive, pending and closing ones take no thread, so all others may be as many as there are threads.
        """
        idle = len(self.keepalived_conns) + len(self.pending_conns) + len(self._closing)
        return min(self._most_connections, self.cfg.threads + idle)

    @worker_connections.setter
    def worker_connections(self, most: int) -> None:
        # ThreadWorker.__init__ assigns the setting of this name.
        self._most_connections = most

    def handle(self, conn: TConn) -> Any:
        if not conn.initialized:
            if not conn.data_ready and not conn.wait_for_data(FIRST_BYTE_SECONDS):
                return _DEFER
            conn.init()
            conn.parser.unreader = BoundedUnreader(conn.sock)
        conn.parser.unreader.allow(HEADER_SECONDS, HeadersTimeout)
        return super().handle(conn)

    def _keepalive_after(self, conn: TConn, keepalive: bool) -> bool:
        return keepalive and bool(conn.parser.finish_body(deadline=time.monotonic() + DRAIN_SECONDS))

    def handle_request(self, req: Any, conn: TConn) -> bool:
        # Python's sendall takes a socket's timeout as a bound on all of it.
        conn.sock.settimeout(EXCHANGE_SECONDS)
        conn.parser.unreader.allow(EXCHANGE_SECONDS, TimeoutError)
        req.body.reader = CheckedReader(req.body.reader)
        return super().handle_request(req, conn)

    def handle_error(self, req: Any, client: socket.socket, addr: Any, exc: Exception) -> None:
        status, code, message = describe_error(exc)
        request_id = find_request_id(req)
        fields = {"request_id": request_id, "status": status, "code": code, "client": addr[0] if addr else ""}
        if status == 500:
            self.log.exception("request failed outside of the application", extra={"fields": fields})
        else:
            self.log.warning("request refused by gunicorn: %r", message, extra={"fields": fields})
        try:
            util.write_nonblock(client, encode_error(status, code, message, request_id))
        except OSError as error:
            self.log.debug("could not send the error: %s", error)

    def finish_request(self, conn: TConn, fs: Future) -> None:
        if not fs.cancelled() and fs.exception() is None and not fs.result():
            self._close_gently(conn)
        else:
            super().finish_request(conn, fs)

    def _close_gently(self, conn: TConn) -> None:
        """Close our side and wait for the client's in the poller.

        Closing at once may reset the connection, and with it the answer, if the client has sent more than was read.
        ThreadWorker waits in the main loop: a client that does not close stops the whole worker for two seconds.
        """
        try:
            conn.sock.shutdown(socket.SHUT_WR)
            conn.sock.setblocking(False)
            conn.timeout = time.monotonic() + LINGER_SECONDS
            self.poller.register(conn.sock, selectors.EVENT_READ, lambda _: self._discard(conn))
        except OSError:
            self.nr_conns -= 1
            conn.close()
        else:
            self._closing.append(conn)
            self._discard(conn)

    def _discard(self, conn: TConn) -> None:
        try:
            if conn.sock.recv(65536):
                return
        except BlockingIOError:
            return
        except OSError:
            pass  # reset: the client is gone as well
        self._end_closing(conn)

    def _end_closing(self, conn: TConn) -> None:
        self._closing.remove(conn)
        self.poller.unregister(conn.sock)
        self.nr_conns -= 1
        conn.close()

    def murder_pending(self) -> None:
        super().murder_pending()
        while self._closing and self._closing[0].timeout <= time.monotonic():
            self._end_closing(self._closing[0])


worker_class = FairThreadWorker


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
        except Exception:
            server.log.exception("metrics of dead worker %s are not merged yet; they still count", pid)
    if RUN_DIR:
        for path in (Path(RUN_DIR, "workers", f"{worker.pid}.json"), Path(RUN_DIR, f"stuck-{worker.pid}")):
            with contextlib.suppress(OSError):
                path.unlink()


def on_exit(server: Any) -> None:
    """Take the run directory away, if `berth serve` made it for this server alone."""
    if RUN_DIR and Path(RUN_DIR, "made-here").exists():
        shutil.rmtree(RUN_DIR, ignore_errors=True)
