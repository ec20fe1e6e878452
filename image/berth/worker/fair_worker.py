"""The gunicorn worker: threads that share connections out fairly, and answers given at once on the main one.

It is gunicorn's ThreadWorker with five changes, each tested against the exact gunicorn version that pyproject.toml
pins. ThreadWorker's main thread polls all connections that wait for a request; a request is read and answered by a
thread of its pool, which then hands the connection back.

1.  A worker whose threads are all busy takes no new connection; another worker, or the backlog, has it.
2.  Reading headers, reading a body and sending an answer are bounded in time, so no client holds a thread for ever.
3.  What gunicorn refuses by itself is answered in Berth's one JSON error shape.
4.  Waiting for a client to close its end of a finished connection happens in the poller, not in the main loop.
5.  A kept-alive connection's next request is answered by the main thread itself, if it has come whole and the
    application can answer without waiting (see inline.py). Everything else goes to the pool, as it came. What has
    arrived is read from all connections first: predictions that wait for their turn here are in flight as well.
"""

from __future__ import annotations

import selectors
import signal
import socket
import time
from collections import deque
from concurrent.futures import Future
from contextlib import suppress
from functools import cached_property
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any

from gunicorn import util
from gunicorn.workers.gthread import _DEFER, TConn, ThreadWorker

from berth.worker.reading import BoundedUnreader, CheckedReader, HeadersTimeout
from berth.worker.refusals import describe_error, encode_error, find_request_id

if TYPE_CHECKING:  # the arbiter imports this file, and needs nothing of the application
    from berth.worker.inline import InlineAnswer, InlineAnswers

# A new connection that says nothing for this long waits in the poller instead of on a thread; a kept one that has
# begun a request and says nothing more for this long gets a thread.
_FIRST_BYTE_SECONDS = 0.2
# For the rest of a body that nobody read (a refusal); then the connection closes instead of holding a thread.
_DRAIN_SECONDS = 0.2
# How long a closed connection may wait for the client's side of the close.
_LINGER_SECONDS = 2.0
# What one look at a connection takes from it; a request with a longer body goes to the pool.
_LOOK_BYTES = 16384
# A connection's place in the row of those that time out is brought up to date when it is so old.
_STALE_SECONDS = 1.0


class FairThreadWorker(ThreadWorker):  # type: ignore[misc]
    """A ThreadWorker that accepts a connection only when it has a thread for it."""

    # From a request's first byte to the end of its headers.
    header_seconds = 5.0
    # For its body, and again for sending the answer.
    exchange_seconds = 30.0
    # Told in the errors that the application never sees.
    slot = ""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._closing: deque[TConn] = deque()
        # Connections whose request has come in part, and since when (monotonic), the oldest first.
        self._begun: dict[TConn, float] = {}
        # What this turn of the main loop has read, whether it begins as a prediction does, and from which connection.
        self._arrived: deque[tuple[TConn, bytes, bool]] = deque()
        # The child's copy of what the arbiter has yet to handle; the settings' file hands it over after the fork.
        self.arbiter_signals: SimpleQueue[int] = SimpleQueue()
        super().__init__(*args, **kwargs)

    def init_signals(self) -> None:
        """Listen to signals; one that came since the fork went to the arbiter's handler, and is heard now."""
        super().init_signals()
        with suppress(Empty):
            while True:
                if self.arbiter_signals.get_nowait() == signal.SIGTERM:
                    self.alive = False

    @property
    def worker_connections(self) -> int:
        """The main loop accepts while it has fewer connections than this.

        Kept-alive, pending and closing ones take no thread, so all others may be as many as there are threads.
        """
        idle = len(self.keepalived_conns) + len(self.pending_conns) + len(self._closing)
        return int(min(self._most_connections, self.cfg.threads + idle))

    @worker_connections.setter
    def worker_connections(self, most: int) -> None:
        # ThreadWorker.__init__ assigns the setting of this name.
        self._most_connections = most

    def on_client_socket_readable(self, conn: TConn, client: socket.socket) -> None:
        """A kept-alive connection has something to read: its next request, or its end."""
        if data := self._receive(conn):
            assert self._inline is not None  # noqa: S101 - for the type checker
            self._arrived.append((conn, data, self._inline.is_prediction(data)))
        else:
            self._hand_over(conn)

    def wait_for_and_dispatch_events(self, timeout: float) -> None:
        super().wait_for_and_dispatch_events(timeout)
        waiting = sum(predicts for _, _, predicts in self._arrived)
        while self._arrived:
            conn, data, predicts = self._arrived.popleft()
            waiting -= predicts
            if not self._answer_here(conn, data, waiting):
                self._hand_over(conn)

    def _hand_over(self, conn: TConn) -> None:
        self._begun.pop(conn, None)
        super().on_client_socket_readable(conn, conn.sock)

    @cached_property
    def _inline(self) -> InlineAnswers | None:
        service = getattr(self.wsgi, "extensions", {}).get("berth")
        return None if service is None or self.cfg.is_ssl else service.express

    def _receive(self, conn: TConn) -> bytes:
        """What has come of a request that may be answered on this thread. A stopping worker says so in its answers."""
        if self._inline is None or conn.is_http2 or not self.alive:
            return b""
        try:
            data: bytes = conn.sock.recv(_LOOK_BYTES)
        except OSError:  # nothing there after all, or a reset: the pool's thread finds out
            return b""
        return conn.parser.unreader.take_buffered() + data if data else b""

    def _answer_here(self, conn: TConn, data: bytes, waiting: int) -> bool:
        """Answer on this thread, if that can be done at once."""
        answer = self._ask_application(conn, data, waiting)
        if answer is not None and answer.data:
            self._send_here(conn, answer.data, answer.closes)
            return True
        conn.parser.unreader.unread(data)
        if answer is None:
            return False
        if conn not in self._begun:
            self._begun[conn] = time.monotonic()
            self._stay(conn)
        return True

    def _ask_application(self, conn: TConn, data: bytes, waiting: int) -> InlineAnswer | None:
        assert self._inline is not None  # noqa: S101 - for the type checker
        try:
            return self._inline.answer_plain(data, conn.client[0], waiting)
        except Exception:  # the main thread must live; the pool's way out of this is an answer 500
            self.log.exception("could not answer at once")
            return None

    def _send_here(self, conn: TConn, data: bytes, closes: bool) -> None:
        self.nr += 1
        self._begun.pop(conn, None)
        try:
            sent = conn.sock.send(data)
        except BlockingIOError:
            sent = 0
        except OSError:  # the client is gone
            sent, closes = len(data), True
        if sent == len(data) and not closes:
            self._stay(conn)
            return
        self.poller.unregister(conn.sock)
        self.keepalived_conns.remove(conn)
        fs = self.tpool.submit(self._send_rest, conn, data[sent:], closes)
        fs.add_done_callback(lambda done: self.method_queue.defer(self.finish_request, conn, done))

    def _send_rest(self, conn: TConn, data: bytes, closes: bool) -> bool:
        """What the connection did not take at once; whether it may be kept."""
        conn.sock.settimeout(self.exchange_seconds)
        try:
            conn.sock.sendall(data)
        except OSError as error:
            self.log.debug("could not send the answer: %s", error)
            return False
        return not closes

    def _stay(self, conn: TConn) -> None:
        """Keep the connection for its whole time again; the row is sorted by when each one's time is over."""
        if conn.timeout - time.monotonic() < self.cfg.keepalive - _STALE_SECONDS:
            self.keepalived_conns.remove(conn)
            conn.set_timeout()
            self.keepalived_conns.append(conn)

    def handle(self, conn: TConn) -> Any:
        if not conn.initialized:
            if not conn.data_ready and not conn.wait_for_data(_FIRST_BYTE_SECONDS):
                return _DEFER
            conn.init()
            conn.parser.unreader = BoundedUnreader(conn.sock)
        conn.parser.unreader.allow(self.header_seconds, HeadersTimeout)
        return super().handle(conn)

    def _keepalive_after(self, conn: TConn, keepalive: bool) -> bool:
        return keepalive and bool(conn.parser.finish_body(deadline=time.monotonic() + _DRAIN_SECONDS))

    def handle_request(self, req: Any, conn: TConn) -> bool:
        # Python's sendall takes a socket's timeout as a bound on all of it.
        conn.sock.settimeout(self.exchange_seconds)
        conn.parser.unreader.allow(self.exchange_seconds, TimeoutError)
        req.body.reader = CheckedReader(req.body.reader)
        kept: bool = super().handle_request(req, conn)
        return kept

    def handle_error(self, req: Any, client: socket.socket, addr: Any, exc: Exception) -> None:
        status, code, message = describe_error(exc)
        request_id = find_request_id(req)
        fields = {"request_id": request_id, "status": status, "code": code, "client": addr[0] if addr else ""}
        if status == 500:
            self.log.exception("request failed outside of the application", extra={"fields": fields})
        else:
            self.log.warning("request refused by gunicorn: %r", message, extra={"fields": fields})
        try:
            util.write_nonblock(client, encode_error(status, code, message, request_id, self.slot))
        except OSError as error:
            self.log.debug("could not send the error: %s", error)

    def finish_request(self, conn: TConn, fs: Future[Any]) -> None:
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
            conn.timeout = time.monotonic() + _LINGER_SECONDS
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

    def murder_keepalived(self, force: bool = False) -> None:
        self._hand_over_begun()
        super().murder_keepalived(force)

    def _hand_over_begun(self) -> None:
        """Requests whose rest is late: a thread of the pool waits for it, and bounds the time."""
        while self._begun:
            conn, since = next(iter(self._begun.items()))
            if time.monotonic() - since < _FIRST_BYTE_SECONDS:
                break
            del self._begun[conn]
            super().on_client_socket_readable(conn, conn.sock)
