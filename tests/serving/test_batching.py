"""Micro-batching: who is joined with whom, what everybody gets, and who fails alone."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from berth.errors import DeadlineExceeded
from berth.serving.batching import Batcher
from berth.tensors.arrays import Array, Tensors

SOON = 10.0


class SlowModel:
    """Doubles its rows; holds every call until let go; refuses negative numbers; keeps what it was asked."""

    def __init__(self) -> None:
        self.go = threading.Event()
        self.calls: list[int] = []
        self.began = threading.Semaphore(0)

    def __call__(self, tensors: Tensors, outputs: Sequence[str]) -> dict[str, Array]:
        rows = tensors["x"]
        self.calls.append(len(rows))
        self.began.release()
        assert self.go.wait(SOON)
        if (rows < 0).any():
            raise ValueError("negative")
        return {name: rows[:, 0] * (2 if name == "double" else 3) for name in outputs}


class Callers:
    """Threads that each ask once; their answers or errors by number."""

    def __init__(self, batcher: Batcher) -> None:
        self.batcher = batcher
        self.answers: dict[int, list[float]] = {}
        self.errors: dict[int, Exception] = {}
        self._threads: list[threading.Thread] = []

    def ask(self, number: int, rows: Array, outputs: Sequence[str] = ("double",), seconds: float = SOON) -> None:
        deadline = time.monotonic() + seconds

        def call() -> None:
            try:
                answer = self.batcher.submit({"x": rows}, outputs, deadline)
                self.answers[number] = answer[outputs[0]].tolist()
            except Exception as error:
                self.errors[number] = error

        thread = threading.Thread(target=call)
        self._threads.append(thread)
        thread.start()

    def join(self) -> None:
        for thread in self._threads:
            thread.join(SOON)
            assert not thread.is_alive()


def _waiting(batcher: Batcher, count: int) -> Callable[[], bool]:
    return lambda: len(batcher._queue) == count


def _until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + SOON
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.001)


def _rows(*values: float) -> Array:
    return np.array([[value] for value in values])


def test_a_lone_request_goes_straight_to_the_model() -> None:
    model = SlowModel()
    model.go.set()
    batcher = Batcher(model, 32, places=1)
    assert batcher.submit({"x": _rows(1, 2)}, ["double"], math.inf)["double"].tolist() == [2, 4]
    assert model.calls == [2]


def test_those_who_wait_anyway_are_asked_together_and_get_their_own_rows() -> None:
    model = SlowModel()
    waits: list[float] = []
    batcher = Batcher(model, 32, places=1, on_wait=waits.append)
    callers = Callers(batcher)
    callers.ask(0, _rows(0))
    model.began.acquire(timeout=SOON)
    for number in range(1, 6):
        callers.ask(number, _rows(*range(number * 10, number * 10 + number)))
    _until(_waiting(batcher, 5))
    model.go.set()
    callers.join()
    assert model.calls == [1, 15]
    assert len(waits) == 6
    assert all(0 <= wait < SOON for wait in waits)
    assert callers.answers[3] == [60, 62, 64]
    assert callers.answers[1] == [20]


def _ask_in_turn(batcher: Batcher, clients: int, turns: int) -> None:
    def ask() -> None:
        for _ in range(turns):
            batcher.submit({"x": _rows(1)}, ["double"], math.inf)

    threads = [threading.Thread(target=ask) for _ in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(SOON)


def test_clients_that_come_back_together_are_asked_together() -> None:
    sizes: list[int] = []

    def predict(tensors: Tensors, outputs: Sequence[str]) -> dict[str, Array]:
        sizes.append(len(tensors["x"]))
        time.sleep(0.1)
        return {"double": 2 * tensors["x"][:, 0]}

    _ask_in_turn(Batcher(predict, 32, places=1), clients=8, turns=5)
    # The first call is for one and the last for who is left; without waiting for each other it is 1, 7, 1, 7, …
    assert sum(sizes) == 40
    assert sizes.count(8) >= 3


def test_one_client_after_another_never_waits() -> None:
    model = SlowModel()
    model.go.set()
    batcher = Batcher(model, 32, places=1)
    _ask_in_turn(batcher, clients=1, turns=3)
    assert batcher._crowd_until == 0.0


def test_a_batch_has_no_more_rows_than_allowed() -> None:
    model = SlowModel()
    batcher = Batcher(model, 4, places=1)
    callers = Callers(batcher)
    callers.ask(0, _rows(0))
    model.began.acquire(timeout=SOON)
    for number in range(1, 4):
        callers.ask(number, _rows(1, 2, 3))
    callers.ask(4, _rows(*range(9)))  # larger than the bound: alone
    _until(_waiting(batcher, 4))
    model.go.set()
    callers.join()
    assert sorted(model.calls) == [1, 3, 3, 3, 9]
    assert not callers.errors


def test_other_outputs_and_other_shapes_are_not_mixed() -> None:
    model = SlowModel()
    batcher = Batcher(model, 32, places=1)
    callers = Callers(batcher)
    callers.ask(0, _rows(0))
    model.began.acquire(timeout=SOON)
    callers.ask(1, _rows(1))
    callers.ask(2, _rows(1), outputs=("triple",))
    callers.ask(3, np.array([[1.0, 5.0]]))
    callers.ask(4, _rows(1).astype(np.float32))
    _until(_waiting(batcher, 4))
    model.go.set()
    callers.join()
    assert model.calls == [1, 1, 1, 1, 1]
    assert callers.answers == {0: [0], 1: [2], 2: [3], 3: [2], 4: [2]}


def test_one_bad_request_fails_alone() -> None:
    model = SlowModel()
    batcher = Batcher(model, 32, places=1)
    callers = Callers(batcher)
    callers.ask(0, _rows(0))
    model.began.acquire(timeout=SOON)
    for number, value in enumerate([1, -1, 2], 1):
        callers.ask(number, _rows(value))
    _until(_waiting(batcher, 3))
    model.go.set()
    callers.join()
    assert callers.answers == {0: [0], 1: [2], 3: [4]}
    assert str(callers.errors[2]) == "negative"


def test_who_is_out_of_time_is_never_predicted() -> None:
    model = SlowModel()
    batcher = Batcher(model, 32, places=1)
    callers = Callers(batcher)
    callers.ask(0, _rows(0))
    model.began.acquire(timeout=SOON)
    callers.ask(1, _rows(1), seconds=0.05)
    _until(lambda: 1 in callers.errors)
    model.go.set()
    callers.join()
    assert isinstance(callers.errors[1], DeadlineExceeded)
    assert model.calls == [1]
    with pytest.raises(DeadlineExceeded):
        batcher.submit({"x": _rows(1)}, ["double"], time.monotonic() - 1)
    assert batcher.submit({"x": _rows(4)}, ["double"], math.inf)["double"].tolist() == [8]


def test_a_model_that_does_not_answer_row_by_row_is_asked_alone() -> None:
    gate = threading.Event()

    def total(tensors: Tensors, outputs: Sequence[str]) -> dict[str, Array]:
        assert gate.wait(SOON)
        return {"sum": tensors["x"].sum(keepdims=True)[0]}

    batcher = Batcher(total, 32, places=1)
    callers = Callers(batcher)
    for number in range(3):
        callers.ask(number, _rows(number, number), outputs=("sum",))
    _until(_waiting(batcher, 2))
    gate.set()
    callers.join()
    assert callers.answers == {0: [0], 1: [2], 2: [4]}


@settings(max_examples=25, deadline=None)
@given(
    st.lists(st.integers(1, 7), min_size=1, max_size=64),
    st.integers(1, 40),
    st.integers(1, 3),
)
def test_many_callers_each_get_exactly_their_rows(sizes: list[int], max_rows: int, places: int) -> None:
    def model(tensors: Tensors, outputs: Sequence[str]) -> dict[str, Array]:
        time.sleep(0.0005)
        return {"double": tensors["x"][:, 0] * 2}

    batcher = Batcher(model, max_rows, places)
    callers = Callers(batcher)
    for number, size in enumerate(sizes):
        callers.ask(number, _rows(*(number * 100 + at for at in range(size))))
    callers.join()
    assert not callers.errors
    for number, size in enumerate(sizes):
        assert callers.answers[number] == [2 * (number * 100 + at) for at in range(size)]
    assert batcher._free == places
    assert not batcher._queue
