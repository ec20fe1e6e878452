"""Bounds on what a worker holds for its connections: time, bytes, and how many."""

from __future__ import annotations

import selectors
import socket
import time
from collections.abc import Iterator

import pytest

from berth.worker.connections import READ, Connection, Connections
from berth.worker.deadlines import Deadlines
from berth.worker.outbox import Outbox
from berth.worker.working import Working

MOST_UNSENT_BYTES = 20 << 20


def ignore(conn: Connection) -> None:
    """What an event does in most of these tests."""


class World:
    """Connections over real socket pairs, and a poller that is asked by hand."""

    def __init__(self) -> None:
        self.poller = selectors.DefaultSelector()
        self.rows = Connections(self.poller, self._on_event, (9.0, 9.0, 9.0), MOST_UNSENT_BYTES)
        self._peers: list[socket.socket] = []

    def _on_event(self, conn: Connection, _: object) -> None:
        if conn.react is not None:
            conn.react(conn)

    def connect(self) -> tuple[Connection, socket.socket]:
        """A connection, silent, and its client."""
        ours, theirs = socket.socketpair()
        self._peers.append(theirs)
        conn = Connection(ours, ("10.0.0.7", 1), None)
        self.rows.add(conn)
        self.rows.wait(conn, self.rows.silent, READ, ignore)
        return conn, theirs

    def turn(self) -> None:
        """What the main loop does with events."""
        for key, _ in self.poller.select(0):
            key.data(key.fileobj)

    def close(self) -> None:
        """Leave nothing open."""
        self.rows.drop_all()
        self.poller.close()
        for peer in self._peers:
            peer.close()


@pytest.fixture
def world() -> Iterator[World]:
    world = World()
    yield world
    world.close()


def test_deadlines_end_in_the_order_in_which_they_began() -> None:
    row = Deadlines[str](0.02)
    for name in ("a", "b", "c"):
        row.start(name)
    row.start("a")
    row.stop("b")
    assert row.take_expired(9) == []
    assert row.oldest() == "c"
    time.sleep(0.03)
    assert row.take_expired(1) == ["c"]
    assert row.take_expired(9) == ["a"]
    assert row.next_end() == float("inf")


def test_a_wait_goes_on_however_often_bytes_come(world: World) -> None:
    conn, _ = world.connect()
    world.rows.wait(conn, world.rows.heads, READ, ignore)
    end = world.rows.heads.next_end()
    world.rows.wait(conn, world.rows.heads, READ, ignore)
    assert world.rows.heads.next_end() == end
    assert len(world.rows.silent) == 0


def test_room_is_made_of_the_least_missed(world: World) -> None:
    conns = [world.connect()[0] for _ in range(4)]
    rows = (world.rows.bodies, world.rows.idle, world.rows.silent, world.rows.silent)
    for conn, row in zip(conns, rows, strict=True):
        world.rows.wait(conn, row, READ, ignore)
    assert world.rows.make_room(4)
    assert [conn.closed for conn in conns] == [False, False, True, False]
    assert world.rows.make_room(2)
    assert [conn.closed for conn in conns] == [False, True, True, True]
    assert not world.rows.make_room(1), "a request in the middle of its body stays"


def test_those_whose_clients_have_left_are_closed_a_few_at_a_time(world: World) -> None:
    conns = [world.connect()[0] for _ in range(11)]
    conns[1].received = b"12345"
    world.rows.count(conns[1])
    for conn in conns:
        world.rows.leave(conn)
    assert (len(world.rows), len(world.rows.silent), world.rows.held_bytes) == (11, 0, 0)
    assert world.poller.select(0) == []  # and none of them is looked at again
    assert world.rows.next_closing() <= time.monotonic(), "the first ones at once"
    began, closed = time.monotonic(), list[int]()
    while world.rows.next_closing() < float("inf"):
        world.rows.close_leaving()
        closed.append(sum(conn.closed for conn in conns))
    assert sorted(set(closed)) == [4, 8, 11]
    assert time.monotonic() - began >= 2 * 0.002, "with a pause before each of the others"
    assert (len(world.rows), world.rows.has_room) == (0, 0)


def test_a_new_connection_does_not_wait_for_that(world: World) -> None:
    for _ in range(5):
        world.rows.leave(world.connect()[0])
    assert world.rows.has_room == 5
    assert world.rows.make_room(3)
    assert (len(world.rows), world.rows.has_room) == (2, 2)


def test_the_more_have_left_the_more_are_closed_at_once(world: World) -> None:
    for _ in range(300):
        world.rows.leave(world.connect()[0])
    world.rows.close_leaving()
    assert len(world.rows) == 290


def test_of_too_many_unsent_bytes_those_go_that_nobody_reads(world: World) -> None:
    sent: list[Connection] = []
    (first, reader), (second, _), (third, _) = (world.connect() for _ in range(3))
    response = memoryview(bytes(8 << 20))
    for conn in (first, second):
        world.rows.send(conn, [response], True, sent.append)
    world.turn()
    reader.recv(1 << 20)
    time.sleep(0.01)
    world.turn()  # the first one's client has read a little
    world.rows.send(third, [response], True, sent.append)
    assert [conn.closed for conn in (first, second, third)] == [False, True, False]
    assert world.rows.unsent_bytes < MOST_UNSENT_BYTES
    while first not in sent:
        reader.recv(1 << 20)
        world.turn()
    world.rows.drop(third)
    assert world.rows.unsent_bytes == 0


def test_one_response_may_be_larger_than_all_may_be(world: World) -> None:
    conn, _ = world.connect()
    world.rows.send(conn, [memoryview(bytes(2 * MOST_UNSENT_BYTES))], True, ignore)
    assert not conn.closed


def test_held_bytes_are_counted_until_they_are_answered(world: World) -> None:
    conn, _ = world.connect()
    conn.received = b"12345" * 3
    world.rows.count(conn)
    assert world.rows.held_bytes == 15
    conn.received = conn.received[10:]
    world.rows.count(conn)
    assert world.rows.held_bytes == 5
    world.rows.count(conn, given=10)
    assert world.rows.given_bytes == 10
    world.rows.drop(conn)
    assert (world.rows.held_bytes, world.rows.given_bytes) == (0, 0)


def test_a_closed_connection_is_read_out_and_never_for_ever(world: World) -> None:
    conn, peer = world.connect()
    peer.send(b"late")
    world.rows.close_gently(conn)
    assert (conn.closed, peer.recv(9)) == (False, b"")
    peer.close()
    world.turn()
    assert conn.closed


def test_an_outbox_sends_what_fits_and_keeps_the_rest(world: World) -> None:
    conn, peer = world.connect()
    outbox, body = Outbox(conn.sock), bytes(8 << 20)
    outbox.sendall(b"head")
    with pytest.raises(BlockingIOError):  # the head waits for the body
        peer.recv(1, socket.MSG_DONTWAIT)
    outbox.sendall(body)
    assert peer.recv(4) == b"head"
    kept = sum(map(len, outbox.unsent))
    assert 0 < kept < len(body)
    outbox.sendall(body)
    outbox.sendall(body)
    with pytest.raises(BrokenPipeError):  # a response without an end, which nobody reads
        outbox.sendall(body)


def test_a_head_without_a_body_is_sent(world: World) -> None:
    conn, peer = world.connect()
    outbox = Outbox(conn.sock)
    outbox.sendall(b"head")
    outbox.flush()
    outbox.flush()
    assert peer.recv(9) == b"head"


def test_one_of_two_answers_a_request_that_runs_late() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        in_time, late = Outbox(ours), Outbox(ours)
        in_time.watch(lambda: "504")
        late.watch(lambda: "504")
        assert in_time.claim()
        assert in_time.expire() is None
        in_time.sendall(b"head")
        in_time.sendall(b"body")
        assert late.expire() == "504"
        assert not late.claim()
        with pytest.raises(BrokenPipeError, match="time ran out"):
            late.sendall(b"head")
        assert Outbox(ours).expire() is None  # no prediction
        assert theirs.recv(99) == b"headbody"


def test_only_the_request_that_asked_is_hurried(world: World) -> None:
    conn, _ = world.connect()
    working = Working(seconds=100.0)
    now = time.monotonic()
    working.add(conn)
    conn.outbox = first = Outbox(conn.sock)
    working.hurry(conn, first, now + 1)
    assert working.take_overdue(now + 0.9, 9) == []
    working.discard(conn)
    working.add(conn)
    conn.outbox = Outbox(conn.sock)
    working.hurry(conn, first, now + 1)  # it came when the thread had another request
    assert working.take_overdue(now + 50, 9) == []
    working.hurry(conn, conn.outbox, now + 1)
    assert working.next_end() <= now + 1.1
    assert working.take_overdue(now + 50, 9) == [conn]


def test_no_time_is_over_before_the_next_look(world: World) -> None:
    conn, _ = world.connect()
    assert world.rows.next_end() <= time.monotonic() + 2  # a connection that is closed from now on has two seconds
    world.rows.cap_quiet(time.monotonic())
    assert world.rows.next_end() <= time.monotonic()
    world.rows.drop(conn)
    assert world.rows.next_end() > time.monotonic() + 1.9
