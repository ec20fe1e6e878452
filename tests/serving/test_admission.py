"""The gate: how many are inside, and for how long the oldest has been."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from berth.errors import Overloaded
from berth.serving.admission import Gate


def test_the_gate_is_full_and_then_is_not() -> None:
    gate = Gate(2)
    first, second = gate.enter(), gate.enter()
    with pytest.raises(Overloaded, match="already has 2 predictions in flight") as caught:
        gate.enter()
    assert caught.value.headers == {"Retry-After": "1"}
    gate.leave(first)
    assert gate.inside == 1
    gate.leave(gate.enter())
    gate.leave(second)
    assert gate.inside == 0


def test_the_oldest_counts_whoever_leaves_first() -> None:
    gate = Gate(3)
    assert gate.oldest_seconds() == 0.0
    old = gate.enter()
    time.sleep(0.03)
    young = gate.enter()
    assert gate.oldest_seconds() >= 0.03
    gate.leave(old)
    assert gate.oldest_seconds() < 0.03
    gate.leave(young)
    assert gate.oldest_seconds() == 0.0


def test_changes_are_told() -> None:
    told: list[int] = []
    gate = Gate(2, told.append)
    first, second = gate.enter(), gate.enter()
    gate.leave(first)
    gate.leave(second)
    assert told == [1, 2, 1, 0]


def test_many_threads_never_exceed_the_limit() -> None:
    gate = Gate(3)
    most = []

    def visit(_: int) -> bool:
        try:
            ticket = gate.enter()
        except Overloaded:
            return False
        most.append(gate.inside)
        gate.leave(ticket)
        return True

    with ThreadPoolExecutor(8) as pool:
        admitted = sum(pool.map(visit, range(2000)))
    assert gate.inside == 0
    assert max(most) <= 3
    assert admitted == len(most) > 0
