"""The expected wait: what is ahead, what models take, and when a prediction is refused for it."""

from __future__ import annotations

import threading

import pytest

from berth.errors import Overloaded
from berth.serving.backlog import Backlog, CallEstimate, Turn
from berth.serving.places import ComputePlaces


class World:
    """A backlog whose clock stands still unless the test moves it, with calls on threads that hold places."""

    def __init__(self, count: int = 1, most: float | None = 0.2, request_seconds: float = 30.0) -> None:
        self.now = 50.0
        self.places = ComputePlaces(count, lambda: self.now)
        self.backlog = Backlog(self.places, most, request_seconds)

    def compute(self, seconds: float = 0.0) -> None:
        """A call begins that is expected to take so long, and goes on."""

        def hold() -> None:
            assert self.places.take()
            self.places.expect(seconds)
            begun.set()
            threading.Event().wait()  # as long as the test: another thread gets another identity

        begun = threading.Event()
        threading.Thread(target=hold, daemon=True).start()
        assert begun.wait(10)

    def model(self, *calls: tuple[float, int], batch_rows: int = 1) -> CallEstimate:
        """A model that has taken (seconds, rows)."""
        estimate = self.backlog.add_model(batch_rows)
        for seconds, rows in calls:
            estimate.add(seconds, rows)
        return estimate


def test_a_line_through_the_calls() -> None:
    estimate = CallEstimate()
    for rows in (1, 10, 100, 1, 10, 100):
        estimate.add(0.010 + 0.001 * rows, rows)
    assert estimate.seconds(1, 1) == pytest.approx(0.011)
    assert estimate.seconds(2, 500) == pytest.approx(0.520)


def test_calls_of_one_size_and_calls_that_change() -> None:
    estimate = CallEstimate()
    estimate.add(0.1, 4)
    assert estimate.seconds(1, 4) == pytest.approx(0.1)
    for _ in range(50):
        estimate.add(0.5, 4)
    assert estimate.seconds(1, 4) == pytest.approx(0.5, rel=0.01)
    # More rows in less time: nothing is below zero, whatever was measured.
    for rows in (1, 50) * 20:
        estimate.add(1 / rows, rows)
    assert estimate.seconds(1, 10**6) >= 0


def test_requests_ahead_times_what_they_take() -> None:
    world = World(most=0.25)
    slow = world.model((0.1, 1))
    turns = [world.backlog.join(slow, 1)]  # nothing computes yet: no wait
    world.compute(0.1)
    turns[0].end()
    turns[0].end()  # which counts once
    turns += [world.backlog.join(slow, 1), world.backlog.join(slow, 1)]  # 0.1 s, 0.2 s
    with pytest.raises(Overloaded, match=r"wait about 0\.3 s for its turn, and the limit is 0\.25 s") as caught:
        world.backlog.join(slow, 1)
    assert caught.value.headers == {"Retry-After": "1"}
    world.now += 0.1  # the call is about to end
    turns.append(world.backlog.join(slow, 1))
    for turn in turns:
        turn.end()
    assert (slow.requests, slow.rows) == (0, 0)


def test_every_model_counts_and_slots_share_the_work() -> None:
    world = World(count=2, most=0.64)
    fast, slow = world.model((0.1, 1)), world.model((1.0, 1))
    world.compute(0.1)
    world.compute(0.1)
    turns = [world.backlog.join(slow, 1)]
    turns.append(world.backlog.join(fast, 1))  # (1.0 + 0.2) / 2
    with pytest.raises(Overloaded):
        world.backlog.join(fast, 1)
    turns[0].end()
    turns.append(world.backlog.join(fast, 1))


def test_nobody_waits_while_a_place_is_free() -> None:
    world = World(count=3, most=0.001)
    slow = world.model((1.0, 1))
    world.compute(1.0)
    world.backlog.join(slow, 1)
    world.backlog.join(slow, 1)
    with pytest.raises(Overloaded):
        world.backlog.join(slow, 1)


def test_rows_that_share_a_call_wait_for_one() -> None:
    world = World(most=0.5)
    batched = world.model(*[(0.1 + 0.001 * rows, rows) for rows in (1, 100) * 5], batch_rows=100)
    world.compute(0.1)
    turns = [world.backlog.join(batched, 1) for _ in range(100)]  # 0.1 + 0.1 + 0.1 s
    turns += [world.backlog.join(batched, 1) for _ in range(70)]  # two calls: 0.1 + 0.2 + 0.17 s
    with pytest.raises(Overloaded):
        [world.backlog.join(batched, 100) for _ in range(3)]
    assert len(turns) == 170


def test_a_young_estimate_is_as_old_as_the_call_that_runs() -> None:
    world = World(most=0.2)
    unknown = world.model()
    world.compute()
    turns = [world.backlog.join(unknown, 1)]  # nothing is known
    world.now += 0.15
    with pytest.raises(Overloaded):
        world.backlog.join(unknown, 1)  # 0.15 s for the one that waits, and as much again for the one that runs
    assert len(turns) == 1


def test_nobody_waits_behind_a_call_that_hangs() -> None:
    world = World(most=0.2)
    quick = world.model((0.01, 1))
    world.compute(0.01)
    world.backlog.join(quick, 1).end()
    world.now += 10
    with pytest.raises(Overloaded) as caught:
        world.backlog.join(quick, 1)
    assert caught.value.headers == {"Retry-After": "10"}


def test_auto_bounds_the_wait_to_a_tenth_of_the_request_s_time() -> None:
    slow, fast = World(most=None, request_seconds=30), World(most=None, request_seconds=30)
    slow_model, fast_model = slow.model((1.0, 1)), fast.model((0.05, 1))
    slow.compute(1.0)
    fast.compute(0.05)
    turns: list[Turn] = [slow.backlog.join(slow_model, 1) for _ in range(2)]  # 1, 2 s
    with pytest.raises(Overloaded, match=r"the limit is 3 s"):
        slow.backlog.join(slow_model, 1)
    turns += [fast.backlog.join(fast_model, 1) for _ in range(56)]  # 2.8 s
    with pytest.raises(Overloaded):
        fast.backlog.join(fast_model, 1)
    assert len(turns) == 58
