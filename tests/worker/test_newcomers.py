"""New connections that count as served: until their request comes, and not where others stay silent."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator

import pytest

from berth.worker.connections import Connection
from berth.worker.newcomers import Newcomers


@pytest.fixture
def pair() -> Iterator[list[Connection]]:
    """Two connections whose clients say nothing."""
    pairs = [socket.socketpair() for _ in range(2)]
    yield [Connection(here, "", "") for here, _ in pairs]
    for here, there in pairs:
        here.close()
        there.close()


def test_they_count_until_their_request_comes(pair: list[Connection]) -> None:
    row = Newcomers()
    for conn in pair:
        row.start(conn)
    assert row.fill(2)
    assert not row.fill(3)
    row.stop(pair[0])
    assert not row.fill(2)


def wait_out(conn: Connection) -> None:
    """Let the time pass in which a connection that begins now would count."""
    row = Newcomers()
    row.start(conn)
    assert row.fill(1)
    time.sleep(max(0.0, row.next_end() - time.monotonic()))
    assert not row.fill(1)


def test_after_a_silent_one_none_counts(pair: list[Connection]) -> None:
    row = Newcomers()
    row.start(pair[0])
    wait_out(pair[0])
    row.start(pair[1])
    assert not row.fill(1)


def test_one_that_speaks_late_was_silent(pair: list[Connection]) -> None:
    row = Newcomers()
    row.start(pair[0])
    wait_out(pair[0])
    row.stop(pair[0])
    row.start(pair[1])
    assert not row.fill(1)


def test_no_turn_is_spent_on_them_while_they_do_not_fill(pair: list[Connection]) -> None:
    row = Newcomers()
    row.start(pair[0])
    assert (row.fill(2), row.next_end()) == (False, float("inf"))
    row.start(pair[1])
    assert row.fill(2)
    assert row.next_end() < time.monotonic() + 1


def test_the_loop_does_not_wake_up_again_for_those_whose_time_is_over(pair: list[Connection]) -> None:
    row = Newcomers()
    row.start(pair[0])
    assert row.fill(1)
    wait_out(pair[0])
    row.forget_silent()  # `fill` is not called while all threads work, or the worker stops
    assert row.next_end() == float("inf")
