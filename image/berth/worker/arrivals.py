"""From bytes that come in pieces to whole requests, on the main thread: who is served, waited for, or refused."""

from __future__ import annotations

import re
from contextlib import suppress
from typing import Any, Protocol

from berth.errors import Overloaded
from berth.worker.connections import READ, Connection, Connections
from berth.worker.filling import Filling
from berth.worker.receiving import MOST_HEAD_BYTES, read_head
from berth.worker.streaming import StreamHost, StreamThreads

# A request of up to this length is worth showing to who serves at once; a body of up to this is waited for even when
# the gate is full.
SMALL_BYTES = 32768
# So many bodies of the greatest size are held of requests that are arriving, and as many of those that threads serve.
HELD_BODIES = 8
# What one turn reads from a connection; more where the length of a body is known.
_LOOK_BYTES = 16384
_BODY_LOOK_BYTES = 262_144
_BARE_LF = re.compile(rb"(?<!\r)\n")
_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


class Answering(StreamHost, Protocol):
    """What is done with a request."""

    def arrived(self, conn: Connection) -> None:
        """More of a request has come: go on with it once all that has come is received."""

    def answer_here(self, conn: Connection, end: int) -> bool:
        """Serve the request that ends at `end` at once, if that can be done; else with `whole_bytes` if it may be."""

    def hand_over(self, conn: Connection) -> None:
        """Have `conn.incoming` served by a thread."""

    def refuse(self, conn: Connection, error: Exception) -> None:
        """Respond that something is wrong, and close."""


def _view(received: bytes | bytearray | Filling) -> memoryview:
    return received.view if isinstance(received, Filling) else memoryview(received)


def consume(conn: Connection, end: int) -> None:
    """Forget a request that is on its way to its response; the next one may have come with it."""
    conn.received = b"" if end == len(conn.received) else bytes(_view(conn.received)[end:])
    conn.searched = 0


class Arrivals:
    """Receives requests and hands them to `answering` when they are whole, or never will be."""

    def __init__(
        self,
        answering: Answering,
        connections: Connections,
        cfg: Any,
        most_body_bytes: int,
        gate: Any,
    ) -> None:
        self._answering = answering
        self._connections = connections
        self._cfg = cfg
        self._most_body_bytes = most_body_bytes
        self._most_held_bytes = HELD_BODIES * most_body_bytes
        # Berth's, which knows whether it is full; None with another application.
        self._gate = gate
        self._streams = StreamThreads(answering, connections)

    def receive(self, conn: Connection) -> None:
        """A connection has something to read: more of a request, or its end."""
        try:
            count = self._receive(conn)
        except BlockingIOError:
            if not conn.events:  # it is new
                self._connections.wait(conn, self._connections.silent, READ, self.receive)
            return
        except OSError:  # a reset: there is no one to respond to, and nothing that a thread could do
            self._connections.leave(conn)
            return
        if count:
            self._answering.arrived(conn)
        elif conn.incoming is not None or conn.whole_bytes:
            self.give_up(conn, None)
        else:
            self._connections.leave(conn)

    def _receive(self, conn: Connection) -> int:
        """Add what has come to `conn.received`; how many bytes that were. Raises OSError."""
        received = conn.received
        if isinstance(received, Filling):
            return received.receive(conn.sock, _BODY_LOOK_BYTES)
        wanted = conn.incoming.wanted(received) if conn.incoming is not None else 0
        data = conn.sock.recv(min(max(wanted, _LOOK_BYTES), _BODY_LOOK_BYTES))
        if received:
            conn.received = received if isinstance(received, bytearray) else bytearray(received)
            conn.received += data
        else:
            conn.received = data
        return len(data)

    def _bound_held_bytes(self, conn: Connection) -> None:
        rows = self._connections
        rows.count(conn, conn.given)
        while rows.held_bytes > self._most_held_bytes:
            arriving = rows.bodies.items() + rows.heads.items()
            victim = next((one for one in arriving if one.held > SMALL_BYTES), None)
            if victim is None:
                return
            self._answering.refuse(
                victim, Overloaded("too many unfinished requests, and this one is the oldest; try again")
            )

    def go_on(self, conn: Connection) -> None:
        """Handle what has been received: serve it, wait for more, or refuse it."""
        self.advance(conn)
        if conn.received:  # else it was served, as usual
            self._bound_held_bytes(conn)

    def advance(self, conn: Connection) -> None:
        """Go on with what has been received, up to the end of one request."""
        first = conn.incoming is None
        if first and (self._serve_or_wait(conn) or not self._begin(conn)):
            return
        if first and self._streams.take(conn):
            return
        end = conn.incoming.find_end(conn.received)
        if end is None:
            self._wait_for_body(conn, first)
        elif (first and end == len(conn.received)) or not self._answering.answer_here(conn, end):
            self._finish(conn, end)

    def _serve_or_wait(self, conn: Connection) -> bool:
        """Serve a request at once, or wait for its body to do so: whether no thread is needed, as far as one knows.

        Many clients send head and body in two packets. Reading the head as `_begin` does would cost more than the rest.
        """
        length = len(conn.received)
        if length < conn.whole_bytes:
            return True  # it waits already
        conn.whole_bytes = 0
        if conn.searched and conn.received.find(b"\r\n\r\n", max(0, conn.searched - 3)) < 0:
            return False  # of a head that comes in pieces there is more to come
        if self._answering.answer_here(conn, length):
            return True
        if conn.whole_bytes > self._most_body_bytes:
            conn.whole_bytes = 0
        if conn.whole_bytes:
            self._connections.wait(conn, self._connections.bodies, READ, self.receive)
        return conn.whole_bytes > 0

    def _finish(self, conn: Connection, end: int) -> None:
        """Have a whole request served; a large one only while the threads have not too many of them."""
        given = self._connections.given_bytes
        if end > SMALL_BYTES and given and given + end > self._most_held_bytes:
            conn.received = b""
            self.give_up(conn, Overloaded("this worker has as many large requests as it accepts", {"Retry-After": "1"}))
            return
        conn.incoming.complete(_view(conn.received)[:end])
        self._hand_over(conn, end)

    def _hand_over(self, conn: Connection, end: int) -> None:
        consume(conn, end)
        self._connections.count(conn, given=end)
        self._answering.hand_over(conn)

    def _begin(self, conn: Connection) -> bool:
        """Read the head, if it has come; False where there is nothing more to do now."""
        received, rows = conn.received, self._connections
        end = received.find(b"\r\n\r\n", max(0, conn.searched - 3))
        # gunicorn's parser says what is wrong with a head that will have no end.
        if end < 0 and len(received) <= MOST_HEAD_BYTES and not _BARE_LF.search(received, conn.searched):
            conn.searched = len(received)
            rows.wait(conn, rows.heads, READ, self.receive)
            return False
        conn.requests += 1
        conn.whole_bytes = 0
        try:
            head = bytes(received if end < 0 else memoryview(received)[: end + 4])
            conn.incoming = read_head(self._cfg, head, conn.client, conn.requests)
        except Exception as error:  # the parser raises what it likes at a client's bytes; the loop must go on
            self._answering.refuse(conn, error)
            return False
        return True

    def _wait_for_body(self, conn: Connection, first: bool) -> None:
        if self._is_hopeless(conn):
            self.give_up(conn, TimeoutError("the body is longer than it may be"))
        elif first and self._gate is not None and self._gate.is_full and not conn.incoming.is_small(SMALL_BYTES):
            self.give_up(
                conn, Overloaded("this worker was full when the request came; try again", {"Retry-After": "1"})
            )
        else:
            if first and conn.incoming.expects_continue():
                with suppress(OSError):  # the next read finds out
                    conn.sock.send(_CONTINUE)
            if first and conn.incoming.wanted(conn.received) > SMALL_BYTES:
                conn.received = Filling(conn.received, conn.incoming.known_bytes)
            self._connections.wait(conn, self._connections.bodies, READ, self.receive)

    def _is_hopeless(self, conn: Connection) -> bool:
        """Whether the rest of a body is not worth waiting for: the application refuses what there is."""
        incoming, most = conn.incoming, self._most_body_bytes
        # The lines between chunks are of no use, and cost memory as well.
        return bool(incoming.is_broken or incoming.body_bytes > most or len(conn.received) > 2 * most + MOST_HEAD_BYTES)

    def give_up(self, conn: Connection, missing: Exception | None) -> None:
        """Have a request refused that will not be whole: reading its body to the end raises `missing`."""
        if conn.incoming is None and not self._begin(conn):
            return
        conn.incoming.complete(_view(conn.received), missing, whole=False)
        self._hand_over(conn, len(conn.received))
