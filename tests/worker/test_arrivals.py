"""A request whose body comes after its head: it waits unread, and is read by gunicorn's parser where that is needed."""

from __future__ import annotations

import selectors
import socket
from collections.abc import Iterator
from typing import Any

import pytest
from gunicorn.config import Config

from berth.worker.arrivals import Arrivals, consume
from berth.worker.connections import Connection, Connections
from berth.worker.http1 import count_missing, parse_request

HEAD = b"POST /predict HTTP/1.1\r\nHost: here\r\nContent-Length: 5\r\n\r\n"
MOST_BODY_BYTES = 100


class World:
    """Arrivals on one connection, and what became of its requests."""

    def __init__(self) -> None:
        self.poller, self.wsgi, self.looks = selectors.DefaultSelector(), None, 0
        self.rows = Connections(self.poller, lambda conn, _: conn.react and conn.react(conn), (9.0, 9.0, 9.0), 1 << 20)
        host: Any = self
        self.arrivals = Arrivals(host, self.rows, Config(), MOST_BODY_BYTES, None)
        self.here: list[bytes] = []
        self.handed: list[Any] = []
        self.refused: list[Exception] = []
        ours, self.client = socket.socketpair()
        self.conn = Connection(ours, ("10.0.0.7", 1), None)
        self.rows.add(self.conn)
        self.arrivals.receive(self.conn)

    def arrived(self, conn: Connection) -> None:
        self.arrivals.go_on(conn)

    def answer_here(self, conn: Connection, end: int) -> bool:
        self.looks += 1
        environ = parse_request(bytes(conn.received[:end]), "POST", "/predict", "")
        if environ is None:
            return False
        if missing := count_missing(environ):
            conn.whole_bytes = end + missing
            return False
        self.here.append(environ["wsgi.input"].read())
        consume(conn, end)
        return True

    def hand_over(self, conn: Connection) -> None:
        self.handed.append(conn.incoming.request)

    def refuse(self, conn: Connection, error: Exception) -> None:
        self.refused.append(error)

    def send(self, data: bytes) -> None:
        """One packet, and the turn in which it is received."""
        self.client.sendall(data)
        self.turn()

    def turn(self) -> None:
        for key, _ in self.poller.select(0):
            key.data(key.fileobj)


@pytest.fixture
def world() -> Iterator[World]:
    world = World()
    yield world
    world.rows.drop_all()
    world.poller.close()
    world.client.close()


def test_a_body_in_a_packet_of_its_own_is_served_without_gunicorns_parser(world: World) -> None:
    for packets in ([HEAD, b"12345"], [HEAD + b"1", b"234", b"5"], [HEAD[:9], HEAD[9:] + b"12345"]):
        for packet in packets:
            world.send(packet)
        assert world.here.pop() == b"12345"
        assert (world.conn.incoming, world.conn.whole_bytes, world.handed) == (None, 0, [])
    assert world.conn.requests == 0  # it counts the heads that gunicorn's parser was given


def test_it_waits_for_a_body_as_long_as_for_any_other(world: World) -> None:
    world.send(HEAD + b"12")
    assert world.rows.bodies.items() == [world.conn]
    world.arrivals.give_up(world.conn, TimeoutError("too late"))
    with pytest.raises(TimeoutError, match="too late"):
        world.handed[0].body.read()
    assert world.handed[0].should_close()


def test_a_client_that_ends_within_a_body_is_told(world: World) -> None:
    world.send(HEAD + b"12")
    world.client.shutdown(socket.SHUT_WR)
    world.turn()
    assert world.handed[0].body.read() == b"12"


def test_the_end_of_one_request_and_the_begin_of_the_next_in_one_packet(world: World) -> None:
    world.send(HEAD + b"12")
    world.send(b"345" + HEAD + b"12345")
    assert (world.here, world.conn.received) == ([b"12345"], HEAD + b"12345")


def test_a_head_in_pieces_is_looked_at_when_it_is_whole(world: World) -> None:
    for byte in HEAD:
        world.send(bytes([byte]))
    assert world.looks == 2  # at its first byte, and at its last
    world.send(b"12345")
    assert world.here == [b"12345"]


def test_a_body_beyond_the_limit_is_not_waited_for(world: World) -> None:
    world.send(HEAD.replace(b"5", b"101") + b"1")
    assert len(world.handed) == 1
