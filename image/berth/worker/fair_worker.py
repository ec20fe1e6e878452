"""The gunicorn worker: one thread that moves all bytes, and a pool of threads that serve whole requests.

It is gunicorn's ThreadWorker with another way for a request to go, tested against the version that pyproject.toml
pins. ThreadWorker gives a thread to each connection that has something to say, which a slow client can hold. Here:

    main thread   accept -> receive -> head -> body -> whole -> served here, or handed to the pool
    pool          gunicorn's WSGI code and the application, from memory to memory (`handle` and what it calls)
    main thread   what the client did not take at once is sent -> next request, or close

1.  **No thread of the pool waits for a client.** The main thread polls all connections and holds what they send until
    a request is whole (arrivals.py), and sends what they do not read. Each wait has one deadline for all of it
    (connections.py).
2.  Memory is bounded. A head has 64 KiB; what is arriving `HELD_BODIES` bodies of the greatest size, what threads have
    as much again; what is served and unsent `MOST_UNSENT_BYTES`, or one response. Beyond it the oldest arriving large
    request is refused, or the newest at full threads, and the response that has waited most for its client is dropped.
3.  What is known before the body has come (it is too long; the gate is full and the body is not small) goes to the
    application as it is, so that it refuses without the body; reading on raises at once.
4.  A worker whose threads are all busy accepts no connection (another worker, or the backlog, has it), but at a stop
    all. Where there are as many as may be, a new one takes the place of another: silent, then idle.
5.  A whole small request is served by the main thread, without gunicorn's parser, if the application can do that
    without waiting; one of a connection a turn. While none has come, it predicts for shadows (shadowing.py).
"""

from __future__ import annotations

import errno
import signal
import socket
import sys
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from functools import cached_property, partial
from queue import SimpleQueue
from typing import Any

from gunicorn.workers.gthread import STOP_KEEPALIVE_LINGER

from berth.worker.arrivals import SMALL_BYTES, Arrivals, consume
from berth.worker.connections import READ, Connection, Connections
from berth.worker.heartbeat import SparingThreadWorker
from berth.worker.newcomers import Newcomers
from berth.worker.outbox import Channel, Outbox
from berth.worker.receiving import HeadersTimeout
from berth.worker.refusals import encode_refusal
from berth.worker.stopping import has_come, take_backlog
from berth.worker.turns import take_turns
from berth.worker.working import Working

_EXPIRED_A_TURN = 16  # of those whose time is over
MOST_UNSENT_BYTES = 64 << 20  # of responses that their clients have not read yet


class FairThreadWorker(SparingThreadWorker):
    """A ThreadWorker whose threads serve whole requests and wait for no client."""

    header_seconds = 5.0  # from a request's first byte to the end of its headers
    exchange_seconds = 30.0  # for its body, for its response to be made, and again for sending that
    most_body_bytes = 16 << 20
    slot = ""  # named in the errors that the application never sees
    _gate: Any = None  # what counts predictions
    _inline: Any = None  # what serves without waiting
    _shadows: Any = None  # what there is to do while no request has come

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        # Connections whose request a thread has, those that are new, and those that have something to handle.
        self._working = Working(self.exchange_seconds)
        self._fresh = Newcomers()
        self._ready: deque[Connection] = deque()
        # The child's copy of what the arbiter has yet to handle, from the settings' file after the fork.
        self.arbiter_signals: SimpleQueue[int] = SimpleQueue()
        self._next_end, self._waiting = 0.0, 0
        super().__init__(*args, **kwargs)
        # gunicorn looks a setting up anew each time. One worker has no other to leave a connection to.
        self._threads, self._is_one_of_several = self.cfg.threads, self.cfg.workers > 1

    @cached_property
    def _connections(self) -> Connections:
        seconds = (self.cfg.keepalive, self.header_seconds, self.exchange_seconds)
        return Connections(self.poller, self._on_event, seconds, MOST_UNSENT_BYTES)

    @cached_property
    def _arrivals(self) -> Arrivals:
        return Arrivals(self, self._connections, self.cfg, self.most_body_bytes, self._gate)

    def load_wsgi(self) -> None:
        """Load the application; another than Berth's has none of these parts."""
        super().load_wsgi()
        berth = getattr(self.wsgi, "extensions", {}).get("berth")
        self._gate, self._inline = getattr(berth, "gate", None), getattr(berth, "express", None)
        if (shadows := getattr(berth, "shadows", None)) is not None:
            self._shadows = shadows
            shadows.use_this_thread()

    @classmethod
    def check_config(cls, cfg: Any, log: Any) -> None:
        if cfg.is_ssl:
            raise SystemExit("Berth's worker speaks no TLS; end TLS in front of it, and give gunicorn no certificate")

    def init_process(self) -> None:
        # By default the main thread would wait 5 ms for the interpreter's lock, which each call of the kernel gives up.
        sys.setswitchinterval(0.0005)
        super().init_process()

    def init_signals(self) -> None:
        """Listen to signals; one that came since the fork went to the arbiter's handler, and is heard now."""
        super().init_signals()
        self.alive &= not has_come(signal.SIGTERM, self.arbiter_signals)

    @property
    def nr_conns(self) -> int:
        """The loop goes on after a stop until this is 0."""
        return len(self._connections) if self.poller is not None else 0

    @nr_conns.setter
    def nr_conns(self, count: int) -> None:
        """ThreadWorker.__init__ sets it to 0."""

    @property
    def worker_connections(self) -> int:
        """The loop accepts while `nr_conns` is below this: a thread is free, there is room, the gate is open."""
        free = self._threads - len(self._working)
        if free <= 0 or self._fresh.fill(free) or getattr(self._gate, "paused", False):
            return 0
        known = len(self._connections)
        return known + 1 if known < self._most_connections or self._connections.has_room else 0

    @worker_connections.setter
    def worker_connections(self, most: int) -> None:
        """ThreadWorker.__init__ assigns the setting of this name."""
        self._most_connections = most

    def set_accept_enabled(self, enabled: bool) -> None:
        super().set_accept_enabled(enabled)
        if not enabled and not self.alive:
            take_backlog(self.sockets, self.accept, self._most_connections)

    def wait_for_and_dispatch_events(self, timeout: float) -> None:
        self._next_end = min(self._connections.next_end(), self._fresh.next_end(), self._working.next_end())
        has_shadow = not self._ready and self._shadows is not None and self._shadows.wants_turn()
        until = 0 if self._ready or has_shadow else min(self._next_end, self._connections.next_closing())
        super().wait_for_and_dispatch_events(max(0, min(timeout, until - time.monotonic())))
        if has_shadow and not self._ready:
            self._shadows.take_quick()
        for conn, waiting in take_turns(self._ready, getattr(self._inline, "is_prediction", None)):
            self._waiting = waiting
            self._act(conn, self._arrivals.go_on)
        self._connections.close_leaving()

    def murder_pending(self) -> None:
        """See to those whose time is over."""
        if (now := time.monotonic()) < self._next_end:
            return
        rows = self._connections
        self._fresh.forget_silent()
        for conn in self._working.take_overdue(now, _EXPIRED_A_TURN):
            self._act(conn, self._answer_late)
        for row, end in (
            *((row, rows.drop) for row in (rows.silent, rows.idle, rows.closing, rows.sending)),
            (rows.heads, lambda conn: self.refuse(conn, HeadersTimeout(self.header_seconds))),
            (rows.bodies, lambda conn: self._arrivals.give_up(conn, TimeoutError("the body did not arrive in time"))),
        ):
            for conn in row.take_expired(_EXPIRED_A_TURN):
                self._act(conn, end)

    def murder_keepalived(self, force: bool = False) -> None:
        if force:
            self._connections.drop_all()

    def _cap_keepalive(self, deadline: float) -> None:
        self._connections.cap_quiet(deadline)

    def _on_event(self, conn: Connection, _: object) -> None:
        if conn.react is not None:  # else an event of the same turn closed it
            self._act(conn, conn.react)

    def _act(self, conn: Connection, action: Callable[[Connection], None]) -> None:
        """The main thread must live, whatever breaks."""
        try:
            action(conn)
        except Exception:  # one connection's fault must not stop all others
            self.log.exception("a connection is dropped, for the worker could not go on with it")
            self._fresh.stop(conn)
            self._connections.drop(conn)

    def accept(self, listener: socket.socket) -> None:
        if self._gate is not None and self._gate.paused:
            return
        try:
            sock, client = listener.accept()
        except OSError as error:
            if error.errno in (errno.EMFILE, errno.ENFILE):
                self._connections.make_room(len(self._connections))
            elif error.errno not in (errno.EAGAIN, errno.ECONNABORTED):  # EWOULDBLOCK is EAGAIN
                raise
            return
        self._connections.make_room(self._most_connections)
        conn = Connection(sock, client, listener.getsockname())
        self._connections.add(conn)
        if self._is_one_of_several:
            self._fresh.start(conn)
        self._act(conn, self._arrivals.receive)  # usually clients have sent their request by now

    def arrived(self, conn: Connection) -> None:
        self._ready.append(conn)  # until all that has come is received

    def answer_here(self, conn: Connection, end: int) -> bool:
        """Serve on this thread, if that can be done at once. A stopping worker says so in its responses: not here."""
        self._fresh.stop(conn)
        if self._inline is None or end > SMALL_BYTES or not self.alive:
            return False
        try:
            answer = self._inline.answer_plain(bytes(conn.received[:end]), conn.host, self._waiting)
        except Exception:  # the pool's way out of this is a 500
            self.log.exception("could not serve at once")
            return False
        if answer is None or not answer.data:
            conn.whole_bytes = answer.whole_bytes if answer is not None else 0
            return False
        self.nr += 1
        conn.incoming = None
        consume(conn, end)
        self._send(conn, answer.data, keeps=not answer.closes)
        return True

    def hand_over(self, conn: Connection) -> None:
        self._connections.rest(conn)
        self._working.add(conn)
        self.enqueue_req(conn)

    def handle(self, conn: Connection) -> bool:
        """Serve a request on a thread of the pool; whether its connection may be kept."""
        hurry = partial(self.method_queue.defer, self._working.hurry, conn)
        outbox, incoming = Outbox(conn.sock, hurry), conn.incoming
        conn.outbox, request = outbox, incoming.request
        try:
            kept = self.handle_request(request, Channel(outbox, conn.client, conn.server))
            outbox.flush()
            return bool(kept and incoming.is_spent())
        except StopIteration:
            self.log.debug("the application broke after the head of its response")
        except OSError as error:
            self.log.debug("the client left: %s", error)
        except Exception as error:  # what the application let through is a 500 for this client
            self.handle_error(request, outbox, conn.client, error)
        return False

    def _answer_late(self, conn: Connection) -> None:
        if answer := self._working.answer_late(conn):
            self._send(conn, answer, keeps=False)

    def handle_error(self, req: Any, client: Outbox, addr: Any, exc: Exception) -> None:
        client.sendall(encode_refusal(exc, req, addr, self.slot, self.log))
        client.flush()

    def refuse(self, conn: Connection, error: Exception) -> None:
        request = conn.incoming.request if conn.incoming is not None else getattr(error, "req", None)
        self._send(conn, encode_refusal(error, request, conn.client, self.slot, self.log), keeps=False)

    def finish_request(self, conn: Connection, fs: Future[Any]) -> None:
        """A thread has served a request."""
        self._working.discard(conn)
        conn.incoming, outbox, conn.outbox = None, conn.outbox, None
        if fs.cancelled() or fs.exception() is not None or conn.closed:
            self._connections.drop(conn)
            return
        if outbox is not None:  # else its time ran out: the client has its response, and the connection closes
            self._connections.count(conn)
            self._act(conn, lambda conn: self._connections.send(conn, outbox.unsent, fs.result(), self._sent))

    def _send(self, conn: Connection, data: bytes, keeps: bool) -> None:
        try:
            sent = conn.sock.send(data)
        except BlockingIOError:
            sent = 0
        except OSError:  # the client is gone
            self._connections.drop(conn)
            return
        if conn.held:
            self._connections.count(conn)
        if sent < len(data):
            self._connections.send(conn, [memoryview(data)[sent:]], keeps, self._sent)
            return
        conn.keeps = keeps
        self._sent(conn)

    def _sent(self, conn: Connection) -> None:
        rows = self._connections
        if not conn.keeps:
            rows.close_gently(conn)
        elif conn.received:
            rows.rest(conn)
            self._ready.append(conn)
        else:
            rows.wait(conn, rows.idle, READ, self._arrivals.receive)
            if not self.alive:
                rows.cap_quiet(time.monotonic() + STOP_KEEPALIVE_LINGER)
