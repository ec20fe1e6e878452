"""The connections of one worker: what each waits for, until when, and how many bytes are held for it.

All of it belongs to the main thread, and none of it blocks. A connection stands in the row of what it waits for; the
row bounds the whole wait, however often single bytes come or go. While a thread of the pool serves its request it
stands in none, and is not watched.
"""

from __future__ import annotations

import selectors
import socket
import time
from collections import deque
from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import partial
from typing import Any

from berth.worker.deadlines import Deadlines

READ, WRITE = selectors.EVENT_READ, selectors.EVENT_WRITE
# How long a closed connection may wait for the client's side of the close, and what it may still send meanwhile:
# closing at once could reset the connection, and with it the response.
LINGER_SECONDS = 2.0
# How many of those whose client has left are closed at once, what share of them besides, and the pause after it.
_CLOSED_AT_ONCE, _CLOSED_SHARE = 4, 0.02
_PAUSE_SECONDS = 0.002
_LINGER_BYTES = 32 << 20
_DISCARD_BYTES = 65536


class Connection:
    """One client's connection."""

    __slots__ = (
        "client", "closed", "discarded", "events", "given", "held", "incoming", "keeps", "on_event", "outbox",
        "pending", "progressed", "react", "received", "requests", "row", "searched", "server", "sock", "whole_bytes",
    )  # fmt: skip

    def __init__(self, sock: socket.socket, client: Any, server: Any) -> None:
        sock.setblocking(False)
        self.sock, self.client, self.server = sock, client, server
        # What came and is not served yet, how far it was searched for the end of a head, and how much of it counts.
        self.received: Any = b""  # bytes, a bytearray, or a Filling while a large body arrives
        self.searched = self.held = self.requests = 0
        # How long a request is that can be served at once when all of it has come; 0 where that is not known.
        self.whole_bytes = 0
        # Bytes of the request that a thread serves.
        self.given = 0
        # The request whose head is read, and what a thread writes its response to.
        self.incoming: Any = None
        self.outbox: Any = None
        # What has yet to be sent, when the client last took something, and whether the connection is kept then.
        self.pending: deque[memoryview] = deque()
        self.progressed = 0.0
        self.keeps = False
        self.closed = False
        self.discarded = 0
        # What is watched, what an event calls, what that calls, and the row that bounds the wait.
        self.events = 0
        self.on_event: Callable[[Any], None] | None = None
        self.react: Callable[[Connection], None] | None = None
        self.row: Deadlines[Connection] | None = None

    @property
    def host(self) -> str:
        """The client's address, as WSGI's REMOTE_ADDR."""
        return str(self.client[0]) if isinstance(self.client, tuple) else str(self.client)


class Connections:
    """All connections of a worker. `on_event` gets a connection that has an event; it may be closed by now."""

    def __init__(
        self,
        poller: selectors.BaseSelector,
        on_event: Callable[[Connection, object], None],
        seconds: tuple[float, float, float],
        most_unsent_bytes: int,
    ) -> None:
        self._poller = poller
        self._on_event = on_event
        idle, header, exchange = seconds
        self.silent = Deadlines[Connection](idle)  # nothing has come yet
        self.idle = Deadlines[Connection](idle)  # kept for the next request
        self.heads = Deadlines[Connection](header)
        self.bodies = Deadlines[Connection](exchange)
        self.sending = Deadlines[Connection](exchange)
        self.closing = Deadlines[Connection](LINGER_SECONDS)
        # No time that begins from now on is over sooner; and when to look for the next end again.
        self._shortest_seconds = min(*seconds, LINGER_SECONDS)
        self._look_again = 0.0
        self._rows = (self.silent, self.idle, self.heads, self.bodies, self.sending, self.closing)
        # Those whose client has left, and when to go on with closing them (monotonic).
        self._leaving: deque[Connection] = deque()
        self._close_again = 0.0
        self._all: set[Connection] = set()
        self._most_unsent_bytes = most_unsent_bytes
        self.held_bytes = self.given_bytes = self.unsent_bytes = 0

    def __len__(self) -> int:
        return len(self._all)

    def add(self, conn: Connection) -> None:
        """A new connection, in no row yet."""
        self._all.add(conn)
        conn.on_event = partial(self._on_event, conn)

    def wait(self, conn: Connection, row: Deadlines[Connection], events: int, react: Callable[[Any], None]) -> None:
        """Call `react` at the next event, until the time in `row` is over; if it runs already, it goes on."""
        conn.react = react
        if conn.row is not row:
            self._enter(conn, row)
        elif row is self.idle:
            row.start(conn)
        if conn.events != events:
            self._watch(conn, events)

    def rest(self, conn: Connection) -> None:
        """Wait for nothing: a thread has the request."""
        self._enter(conn, None)
        self._watch(conn, 0)

    def _enter(self, conn: Connection, row: Deadlines[Connection] | None) -> None:
        if conn.row is not None and conn.row is not row:
            conn.row.stop(conn)
        conn.row = row
        if row is not None:
            row.start(conn)

    def _watch(self, conn: Connection, events: int) -> None:
        if events and not conn.events:
            self._poller.register(conn.sock, events, conn.on_event)
        elif events and events != conn.events:
            self._poller.modify(conn.sock, events, conn.on_event)
        elif conn.events and not events:
            self._poller.unregister(conn.sock)
        conn.events = events

    def count(self, conn: Connection, given: int = 0) -> None:
        """Count what has come and is still in `received`, and what of it a thread has now."""
        self.held_bytes += len(conn.received) - conn.held
        self.given_bytes += given - conn.given
        conn.held, conn.given = len(conn.received), given

    def send(self, conn: Connection, pieces: Iterable[memoryview], keeps: bool, then: Callable[[Any], None]) -> None:
        """Send as the client takes it; then call `then`. The slowest readers lose where too much is unsent."""
        conn.keeps, conn.progressed = keeps, time.monotonic()
        conn.pending.extend(pieces)
        size = sum(map(len, conn.pending))
        if not size:
            conn.pending.clear()
            then(conn)
            return
        self.unsent_bytes += size
        self.wait(conn, self.sending, WRITE, partial(self._send_more, then))
        while self.unsent_bytes > self._most_unsent_bytes and len(self.sending) > 1:
            self.drop(min(self.sending.items(), key=lambda one: one.progressed))

    def _send_more(self, then: Callable[[Any], None], conn: Connection) -> None:
        try:
            sent = conn.sock.send(conn.pending[0])
        except BlockingIOError:
            return
        except OSError:  # the client is gone
            self.drop(conn)
            return
        conn.progressed = time.monotonic()
        self.unsent_bytes -= sent
        conn.pending[0] = conn.pending[0][sent:]
        if not conn.pending[0]:
            conn.pending.popleft()
        if not conn.pending:
            then(conn)

    def close_gently(self, conn: Connection) -> None:
        """Close our side, and wait for the client's while what it still sends is thrown away."""
        conn.received, conn.incoming = b"", None
        self.count(conn)
        try:
            conn.sock.shutdown(socket.SHUT_WR)
        except OSError:
            self.drop(conn)
            return
        self._discard(conn)
        if not conn.closed:
            self.wait(conn, self.closing, READ, self._discard)

    def _discard(self, conn: Connection) -> None:
        try:
            data = conn.sock.recv(_DISCARD_BYTES)
        except BlockingIOError:
            return
        except OSError:  # reset: the client is gone as well
            data = b""
        conn.discarded += len(data)
        if not data or conn.discarded > _LINGER_BYTES:
            self.drop(conn)

    def leave(self, conn: Connection) -> None:
        """Forget a connection whose client has left, and close it when there is time; a thousand may leave at once."""
        self.rest(conn)
        conn.received, conn.incoming, conn.react = b"", None, None
        self.count(conn)
        self._leaving.append(conn)

    def next_closing(self) -> float:
        """When `close_leaving` has something to do (monotonic)."""
        return self._close_again if self._leaving else float("inf")

    def close_leaving(self) -> None:
        """Close some of those that `leave` was called with, unless it was just done: the kernel takes long for each.

        So their number costs the requests that come meanwhile little, whereas the more leave, the more are closed.
        """
        if not self._leaving or (now := time.monotonic()) < self._close_again:
            return
        self._close_again = now + _PAUSE_SECONDS
        most = _CLOSED_AT_ONCE + int(len(self._leaving) * _CLOSED_SHARE)
        for _ in range(min(most, len(self._leaving))):
            self.drop(self._leaving.popleft())

    def drop(self, conn: Connection) -> None:
        """Close at once and forget."""
        if conn.closed:
            return
        conn.closed = True
        self.rest(conn)
        self._all.discard(conn)
        conn.received, conn.incoming, conn.react, conn.on_event = b"", None, None, None
        self.count(conn)
        self.unsent_bytes -= sum(map(len, conn.pending))
        conn.pending.clear()
        with suppress(OSError):
            conn.sock.close()

    def drop_all(self) -> None:
        """Close every connection at once."""
        for conn in list(self._all):
            self.drop(conn)

    def make_room(self, most: int) -> bool:
        """Whether there are fewer connections than `most`, once those in the way went."""
        while len(self) >= most:
            if self._leaving:
                self.drop(self._leaving.popleft())
                continue
            rows = (self.closing, self.silent, self.idle, self.heads)
            victim = next((row.oldest() for row in rows if len(row)), None)
            if victim is None:
                return False
            self.drop(victim)
        return True

    @property
    def has_room(self) -> int:
        """Connections that `make_room` could close."""
        return len(self._leaving) + len(self.closing) + len(self.silent) + len(self.idle) + len(self.heads)

    def next_end(self) -> float:
        """No time of all ends before this (monotonic); the loop asks in every turn, so it is looked up seldom."""
        if (now := time.monotonic()) >= self._look_again:
            self._look_again = min(*[row.next_end() for row in self._rows], now + self._shortest_seconds)
        return self._look_again

    def cap_quiet(self, end: float) -> None:
        """Let no connection without a request be kept longer than until `end` (monotonic)."""
        self.idle.cap(end)
        self.silent.cap(end)
        self._look_again = 0.0
