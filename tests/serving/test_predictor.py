"""One prediction: waiting for a place, deadlines, and what becomes of a model's exceptions."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest

from berth.errors import (
    DeadlineExceeded,
    InvalidInput,
    Overloaded,
    PredictionFailed,
    RejectedByModel,
    UnknownOutput,
)
from berth.models.model import Model, PredictFunction
from berth.serving.predictor import Predictor
from berth.tensors.arrays import Array, Tensors, TensorSpec

ROW = {"features": np.ones((1, 2))}


def model_of(predict: PredictFunction) -> Model:
    """A model that takes rows of two numbers."""
    specs = (TensorSpec("features", "FP64", (-1, 2)),), (TensorSpec("prediction", "FP64", (-1,)),)
    return Model("sum", "1", "python", "0" * 64, *specs, predict)


class Adding:
    """A model that counts its calls, and waits in each until it may go on."""

    def __init__(self) -> None:
        self.calls = 0
        self.inside = threading.Event()
        self.go = threading.Event()

    def __call__(self, tensors: Tensors, outputs: Sequence[str]) -> dict[str, Array]:
        self.calls += 1
        self.inside.set()
        assert self.go.wait(10)
        return {"prediction": tensors["features"].sum(axis=1)}


def soon(seconds: float = 10.0) -> float:
    """A deadline."""
    return time.monotonic() + seconds


def raising(error: BaseException) -> Model:
    """A model that raises."""

    def predict(tensors: Tensors, outputs: Sequence[str]) -> dict[str, Array]:
        raise error

    return model_of(predict)


def test_a_prediction() -> None:
    adding = Adding()
    adding.go.set()
    found = Predictor(1, 10).predict(model_of(adding), {"features": np.array([[1, 2], [3, 4]])}, ["prediction"], soon())
    assert found.outputs["prediction"].tolist() == [3.0, 7.0]
    assert (found.rows, found.age_seconds) == (2, None)


def test_without_a_deadline() -> None:
    adding = Adding()
    adding.go.set()
    assert Predictor(1, 10).predict(model_of(adding), ROW, ["prediction"], float("inf"))


def test_the_schema_is_checked_before_the_model_is_asked() -> None:
    adding = Adding()
    for wrong in (np.ones((1, 3)), np.ones((0, 2)), np.ones((11, 2))):
        with pytest.raises(InvalidInput):
            Predictor(1, 10).predict(model_of(adding), {"features": wrong}, ["prediction"], soon())
    assert adding.calls == 0


def test_a_request_whose_time_runs_out_while_it_waits_is_never_predicted() -> None:
    adding = Adding()
    model, predictor = model_of(adding), Predictor(1, 10)
    first = threading.Thread(target=predictor.predict, args=(model, ROW, ["prediction"], soon()))
    first.start()
    assert adding.inside.wait(10)
    began = time.monotonic()
    with pytest.raises(DeadlineExceeded, match="while it waited for its turn"):
        predictor.predict(model, ROW, ["prediction"], soon(0.05))
    assert 0.04 < time.monotonic() - began < 2
    adding.go.set()
    first.join(10)
    assert adding.calls == 1
    assert predictor.predict(model, ROW, ["prediction"], soon())
    assert adding.calls == 2


def test_a_request_whose_time_ran_out_before_is_never_predicted() -> None:
    adding = Adding()
    adding.go.set()
    with pytest.raises(DeadlineExceeded, match="time limit passed"):
        Predictor(1, 10).predict(model_of(adding), ROW, ["prediction"], time.monotonic() - 1)
    assert adding.calls == 0


def test_an_answer_that_comes_too_late_is_not_given() -> None:
    def slow(tensors: Tensors, outputs: Sequence[str]) -> dict[str, Array]:
        time.sleep(0.05)
        return {"prediction": np.zeros(1)}

    with pytest.raises(DeadlineExceeded, match="took longer"):
        Predictor(1, 10).predict(model_of(slow), ROW, ["prediction"], soon(0.01))


@pytest.mark.parametrize("slots", [1, 3])
def test_no_more_compute_at_once_than_there_are_places(slots: int) -> None:
    lock, inside, most = threading.Lock(), 0, 0

    def count(tensors: Tensors, outputs: Sequence[str]) -> dict[str, Array]:
        nonlocal inside, most
        with lock:
            inside += 1
            most = max(most, inside)
        time.sleep(0.01)
        with lock:
            inside -= 1
        return {"prediction": np.zeros(1)}

    predictor, model = Predictor(slots, 10), model_of(count)
    arguments = (model, ROW, ["prediction"], soon())
    threads = [threading.Thread(target=predictor.predict, args=arguments) for _ in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert most == slots


@pytest.mark.parametrize("error", [ValueError("Input X contains\nNaN. " + "x" * 5000), TypeError("no number")])
def test_a_models_refusal_is_the_clients_to_mend(error: Exception) -> None:
    with pytest.raises(RejectedByModel) as caught:
        Predictor(1, 10).predict(raising(error), ROW, ["prediction"], soon())
    assert caught.value.message.startswith("sum refused these values: ")
    assert len(caught.value.message) < 600
    assert "\n" not in caught.value.message


@pytest.mark.parametrize(
    "error", [RuntimeError("secret"), KeyError("secret"), MemoryError("secret"), OSError("secret")]
)
def test_a_models_own_fault_is_told_without_its_insides(error: Exception, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.ERROR, "berth"), pytest.raises(PredictionFailed) as caught:
        Predictor(1, 10).predict(raising(error), ROW, ["prediction"], soon())
    assert "secret" not in caught.value.message
    (record,) = caplog.records
    assert "secret" in str(vars(record)["fields"])


def test_our_own_errors_pass() -> None:
    with pytest.raises(UnknownOutput):
        Predictor(1, 10).predict(raising(UnknownOutput("x")), ROW, ["prediction"], soon())


def test_a_place_is_given_back_whatever_happens() -> None:
    predictor = Predictor(1, 10)
    errors: list[Callable[[], Any]] = [lambda: ValueError(), lambda: RuntimeError(), lambda: UnknownOutput("x")]
    for make in errors * 2:
        with pytest.raises((RejectedByModel, PredictionFailed, UnknownOutput)):
            predictor.predict(raising(make()), ROW, ["prediction"], soon())
    adding = Adding()
    adding.go.set()
    assert predictor.predict(model_of(adding), ROW, ["prediction"], soon(1))


def test_the_first_burst_waits_no_longer_than_it_may() -> None:
    def predict(tensors: Tensors, outputs: Sequence[str]) -> dict[str, Array]:
        time.sleep(0.2)
        return {"prediction": tensors["features"].sum(axis=1)}

    predictor, model = Predictor(1, 100, max_wait_seconds=0.5), model_of(predict)
    predictor.prepare(model)
    outcomes: list[str] = []
    ready = threading.Barrier(10)

    def request() -> None:
        ready.wait()
        try:
            predictor.predict(model, ROW, ["prediction"], soon(20))
            outcomes.append("served")
        except Overloaded:
            outcomes.append("refused")

    threads = [threading.Thread(target=request) for _ in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert 1 <= outcomes.count("served") < 10
