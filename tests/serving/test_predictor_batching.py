"""Batching and the cache through the predictor: what is decided, what is shared, what is never shared."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from flask.testing import FlaskClient

from berth.errors import RejectedByModel
from berth.models.model import Model, PredictFunction
from berth.serving.cache import PredictionCache
from berth.serving.predictor import Predictor
from berth.serving.tuning import choose_batching
from berth.telemetry.metrics.registry import Metrics
from berth.tensors.arrays import Array, Tensors, TensorSpec

SPEC = TensorSpec("x", "FP64", (-1, 1))
DETERMINISTIC = {"deterministic": True}


def _model(predict: PredictFunction, name: str = "m", **more: Any) -> Model:
    fields: dict[str, Any] = {"inputs": (SPEC,), "outputs": (TensorSpec("prediction", "FP64", (-1,)),)} | more
    return Model(name, "1", "python", "0" * 64, predict=predict, **fields)


def _slow(tensors: Tensors, outputs: Sequence[str]) -> dict[str, Array]:
    """Five milliseconds for a call, however many rows."""
    time.sleep(0.005)
    return {"prediction": tensors["x"][:, 0] * 2}


def _by_row(tensors: Tensors, outputs: Sequence[str]) -> dict[str, Array]:
    time.sleep(0.001 * len(tensors["x"]))
    return {"prediction": tensors["x"][:, 0] * 2}


def _centred(tensors: Tensors, outputs: Sequence[str]) -> dict[str, Array]:
    time.sleep(0.001)
    return {"prediction": tensors["x"][:, 0] - tensors["x"].sum() - 1}


@pytest.mark.parametrize(
    ("model", "setting", "rows", "why"),
    [
        (_model(_slow), None, 128, "1 row takes"),
        (_model(_slow), 1, 1, "off by BERTH_BATCH_MAX_ROWS=1"),
        (_model(_slow), 7, 7, "on by BERTH_BATCH_MAX_ROWS"),
        (_model(_by_row), None, 1, "does not pay"),
        (_model(lambda tensors, outputs: {"prediction": tensors["x"][:, 0]}), None, 1, "does not pay"),
        (_model(_centred), 7, 1, "not predicted one by one"),
        (_model(_slow, inputs=(TensorSpec("x", "FP64", (1, 1)),)), 7, 1, "fixed number of rows"),
        (_model(lambda tensors, outputs: {"prediction": tensors["missing"]}), None, 1, "could not be measured"),
    ],
)
def test_batching_is_decided_for_each_model(model: Model, setting: int | None, rows: int, why: str) -> None:
    example = {"inputs": {"x": [[3.0]]}, "outputs": {}}
    choice = choose_batching(_model(model.predict, inputs=model.inputs, example=example), setting)
    assert choice.max_rows == rows
    assert why in choice.reason


def _ask_together(predictor: Predictor, model: Model, values: Sequence[float]) -> dict[float, Any]:
    answers: dict[float, Any] = {}

    def ask(value: float) -> None:
        try:
            found = predictor.predict(model, {"x": np.array([[value]])}, ["prediction"], math.inf)
            answers[value] = found.outputs["prediction"][0]
        except RejectedByModel as error:
            answers[value] = error

    threads = [threading.Thread(target=ask, args=(value,)) for value in values]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return answers


def _calls(metrics: Metrics) -> float:
    return (
        metrics.registry.get_sample_value(
            "berth_predict_duration_seconds_count", {"model": "m", "version": "1", "slot": ""}
        )
        or 0.0
    )


def test_batching_makes_fewer_calls_and_the_metrics_show_it() -> None:
    values = [float(value) for value in range(40)]
    counts = {}
    for setting in (1, 32):
        metrics = Metrics()
        predictor = Predictor(1, 100, metrics, batch_max_rows=setting)
        answers = _ask_together(predictor, _model(_slow), values)
        assert answers == {value: value * 2 for value in values}
        counts[setting] = _calls(metrics)
    assert counts[1] == 40
    assert counts[32] < 40


def test_one_refused_request_fails_alone() -> None:
    def picky(tensors: Tensors, outputs: Sequence[str]) -> dict[str, Array]:
        time.sleep(0.002)
        if (tensors["x"] == 5).any():
            raise ValueError("five")
        return {"prediction": tensors["x"][:, 0]}

    answers = _ask_together(Predictor(1, 100, batch_max_rows=32), _model(picky), [float(n) for n in range(12)])
    assert isinstance(answers.pop(5.0), RejectedByModel)
    assert answers == {value: value for value in answers}


def test_the_cache_answers_again_only_for_the_same_model_and_only_when_deterministic() -> None:
    calls: list[str] = []

    def make(name: str, factor: float, **more: Any) -> Model:
        def predict(tensors: Tensors, outputs: Sequence[str]) -> dict[str, Array]:
            calls.append(name)
            return {"prediction": tensors["x"][:, 0] * factor}

        return _model(predict, name, **more)

    predictor = Predictor(1, 100, cache=PredictionCache(10_000))
    one, other = make("one", 2, metadata=DETERMINISTIC), make("other", 3, metadata=DETERMINISTIC)
    random = make("random", 4)
    row = {"x": np.array([[1.0]])}
    found = [predictor.predict(model, row, ["prediction"], math.inf) for model in (one, one, other, random, random)]
    assert calls == ["one", "other", "random", "random"]
    assert [one.age_seconds is not None for one in found] == [False, True, False, False, False]


def test_errors_are_never_kept() -> None:
    calls: list[int] = []

    def fails(tensors: Tensors, outputs: Sequence[str]) -> dict[str, Array]:
        calls.append(1)
        raise ValueError("no")

    predictor = Predictor(1, 100, cache=PredictionCache(10_000))
    model = _model(fails, metadata=DETERMINISTIC)
    for _ in range(2):
        with pytest.raises(RejectedByModel):
            predictor.predict(model, {"x": np.array([[1.0]])}, ["prediction"], math.inf)
    assert len(calls) == 2


def test_over_http_the_cache_shows_as_age_and_in_the_metrics(make_app: Any, store: Any, iris_rows: Any) -> None:
    client: FlaskClient = make_app(store, models="iris@1,iris@2", cache_bytes=1_000_000)
    question = {"features": iris_rows}
    first, second = (client.post("/predict", json=question) for _ in range(2))
    assert "Age" not in first.headers
    assert second.headers["Age"] == "0"
    assert first.json == second.json
    assert client.post("/predict", json=question | {"model": "iris", "version": "2"}).headers.get("Age") is None
    metrics = client.get("/metrics").text
    assert 'berth_cache_total{model="iris",result="hit",slot="",version="1"} 1.0' in metrics


def test_info_tells_what_was_decided(make_app: Any, store: Any) -> None:
    client: FlaskClient = make_app(store, models="iris@1", batch_max_rows=16)
    document = client.get("/info").json
    assert document is not None
    assert document["models"][0]["batching"] == {"max_rows": 16, "reason": "on by BERTH_BATCH_MAX_ROWS"}
