"""What another process predicted is counted here as that process would have counted it itself."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flask import Flask

from berth.app import create_app
from berth.consuming.broker_messages import PREDICTED, REFUSED, Message
from berth.consuming.counted_apart import count_apart
from berth.consuming.message_answers import MessageAnswers
from berth.loaders.formats import LoadOptions
from berth.publishing.adding import AddRequest, add_version
from live.server import wait_until

NAMES = ["a", "b"]
Counts = dict[str, float]


@pytest.fixture(scope="module")
def profiled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with `kinds`, whose classes are words, and `sums`, a regression, both with a sample."""
    import joblib
    from sklearn.linear_model import LinearRegression, LogisticRegression

    folder = tmp_path_factory.mktemp("profiled")
    rows = np.random.default_rng(1).normal(size=(200, 2))
    np.savetxt(folder / "sample.csv", rows, delimiter=",", header=",".join(NAMES), comments="")
    kinds = LogisticRegression().fit(rows, np.where(rows[:, 0] > 0, "good", "bad"))
    for name, model in (("kinds", kinds), ("sums", LinearRegression().fit(rows, rows @ [0.1, 0.7]))):
        joblib.dump(model, folder / f"{name}.joblib")
        request = AddRequest(name, "1", sample=folder / "sample.csv")
        add_version(folder / "store", folder / f"{name}.joblib", request, LoadOptions())
    return folder / "store"


@pytest.fixture
def open_app(profiled: Path, tmp_path: Path) -> Callable[[str, str], Flask]:
    """A model with all of a server's parts, in this process."""

    def make(name: str, folder: str) -> Flask:
        environ = {"BERTH_MODEL_STORE": str(profiled), "BERTH_MODELS": f"{name}@1", "BERTH_WORKERS": "1"}
        app = create_app(environ | {"BERTH_RUN_DIR": str(tmp_path / folder), "BERTH_LOG_LEVEL": "error"})
        service = app.extensions["berth"]
        service.start()
        assert service.catalog.wait(20)
        return app

    return make


def answers_of(app: Flask) -> MessageAnswers:
    """What predicts for messages with the only model."""
    backend = app.extensions["berth.pipeline"].backend
    return MessageAnswers(backend, backend.catalog.resolve(None))


def counts_of(app: Flask) -> Counts:
    """What was counted of predictions; times aside, which differ."""
    text = app.extensions["berth.metrics"].render().decode()
    lines = [line.rpartition(" ") for line in text.splitlines() if line.startswith("berth_")]
    names = ("berth_predictions_total", "berth_prediction_value", "berth_unusual", "berth_batch_rows_sum",
             "berth_drift_rows", "berth_drift_psi", "berth_predict_duration_seconds_count")  # fmt: skip
    return {name: float(value) for name, _, value in lines if name.startswith(names) and "_created" not in name}


def messages_for(outputs: str) -> list[Message]:
    """Rows, bodies, a body that wants another output, an unusual value, and two that are refused."""
    values: list[Any] = [[0.3, 0.1], {"a": -0.4, "b": 1.0}, [0.1, -0.2], [1e9, 0.5]]
    values += [{"features": [[0.5, 0.5], [-0.5, 0.1]]}, {"features": [[0.2, 0.1]], "outputs": [outputs]}]
    values += [[1], {"features": "no"}]
    return [Message(json.dumps(value).encode()) for value in values]


@pytest.mark.parametrize(("name", "outputs"), [("kinds", "probabilities"), ("sums", "prediction")])
def test_counts_equal_those_of_the_process_that_predicted(
    open_app: Callable[[str, str], Flask], name: str, outputs: str
) -> None:
    here, apart = open_app(name, "here"), open_app(name, "apart")
    backend, mine = here.extensions["berth.pipeline"].backend, answers_of(here)
    answer = count_apart(answers_of(apart).answer, mine, backend, backend.catalog.resolve(None))
    for message in messages_for(outputs):  # one by one: the other process halves a batch with a bad message
        answer([message])
    wait_until(lambda: counts_of(apart)[f'berth_drift_rows{{model="{name}",slot="",version="1"}}'] == 7, "its counts")
    wait_until(lambda: counts_of(here) == counts_of(apart), f"equal counts: {counts_of(here)} {counts_of(apart)}")


def test_a_batch_is_counted_once_and_without_what_was_refused(open_app: Callable[[str, str], Flask]) -> None:
    here, apart = open_app("kinds", "here"), open_app("kinds", "apart")
    backend, mine = here.extensions["berth.pipeline"].backend, answers_of(here)
    answer = count_apart(answers_of(apart).answer, mine, backend, backend.catalog.resolve(None))
    outcomes = answer(messages_for("probabilities"))
    assert [outcome.result for outcome in outcomes] == [PREDICTED] * 6 + [REFUSED] * 2
    labels = {"good", "bad"}

    def predicted() -> float:
        return sum(
            value for name, value in counts_of(here).items() if any(f'label="{each}"' in name for each in labels)
        )

    assert predicted() == 6  # of the seven rows, one has only its probabilities
    assert counts_of(here)['berth_batch_rows_sum{model="kinds",slot="",version="1"}'] == 7
    wait_until(lambda: counts_of(here)['berth_drift_rows{model="kinds",slot="",version="1"}'] == 7, "drift's rows")
