"""Rows that wait as bytes: all of them have one datatype."""

import threading
from contextlib import suppress
from types import SimpleNamespace
from typing import Any

import numpy as np

from berth.models.profile import PREDICTION
from berth.telemetry.drift.packing import PackedRows
from berth.tensors.arrays import TensorSpec


def test_of_two_first_requests_whose_predictions_differ_in_datatype_one_is_packed() -> None:
    both, refused = threading.Barrier(2), list[Any]()

    class Datatype:
        """One that holds a thread until the other has also seen that nothing is chosen, for as long as that takes."""

        @property
        def kind(self) -> str:
            with suppress(threading.BrokenBarrierError):
                both.wait(0.5)
            return "f"

    packed = PackedRows(TensorSpec("x", "FP64", (-1, 1)), lambda: None, lambda *request: refused.append(request))

    def offer() -> None:
        predicted: Any = SimpleNamespace(dtype=Datatype(), tobytes=bytes)
        packed.offer({"x": np.zeros((1, 1))}, {PREDICTION: predicted}, 1)

    threads = [threading.Thread(target=offer) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(packed), len(refused)) == (1, 1)


def test_of_requests_beyond_the_limit_those_that_are_kept_are_everyones() -> None:
    packed = PackedRows(TensorSpec("x", "FP64", (-1, 1)), lambda: None, lambda *request: None)
    packed.step, offered, clients = 4, 8000, 8
    for at in range(offered):  # of clients that take turns
        packed.offer({"x": np.full((1, 1), float(at % clients))}, {PREDICTION: np.zeros(1)}, 1)
        assert len(packed) <= at + 1
    given, _, rows = packed.take()
    kept = np.bincount(given["x"][:, 0].astype(int), minlength=clients)
    assert rows + packed.take_passed() == offered
    assert 1800 < rows < 2200  # 2,000, and a standard deviation of 25
    assert kept.min() > 170  # 250 of each, and a standard deviation of 14
