"""Receipts of one server, labelled at another one with the same key file: exact over workers, dead ones included."""

from __future__ import annotations

import http.client
import json
import os
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.datasets import load_iris
from sklearn.metrics import accuracy_score

from collector import wait_for
from live.berths import ask, metric, running_ready
from live.server import HOST, Server

pytestmark = [pytest.mark.live, pytest.mark.slow]
ROWS = 200


def predict(connection: http.client.HTTPConnection, row: list[float]) -> tuple[int, str]:
    """The class that a row gets, and its receipt."""
    connection.request("POST", "/predict", json.dumps({"features": row}), {"Content-Type": "application/json"})
    response = connection.getresponse()
    document = json.loads(response.read())
    return document["prediction"][0], response.headers["X-Berth-Receipt"]


def collect_receipts(server: Server, rows: Any) -> tuple[list[int], list[str]]:
    """A prediction for each row, on one kept connection."""
    connection = http.client.HTTPConnection(HOST, server.port, timeout=30)
    try:
        pairs = [predict(connection, row) for row in rows.tolist()]
    finally:
        connection.close()
    return [predicted for predicted, _ in pairs], [receipt for _, receipt in pairs]


def test_labels_at_another_server_are_counted_exactly(store: Path, tmp_path: Path) -> None:
    (tmp_path / "keys").write_text("k" * 32, "utf-8")
    settings = {"models": "iris@1", "feedback_key_file": tmp_path / "keys"}
    features, target = load_iris(return_X_y=True)
    chosen = np.random.default_rng(0).integers(0, 150, ROWS)
    truth = (target[chosen] + (np.arange(ROWS) % 10 == 0)) % 3  # every tenth label is another one
    first, second = tmp_path / "first", tmp_path / "second"
    first.mkdir()
    second.mkdir()
    with running_ready(store, first, workers=1, **settings) as maker:
        predicted, receipts = collect_receipts(maker, features[chosen])
    items = [{"receipt": text, "truth": int(label)} for text, label in zip(receipts, truth, strict=True)]
    with running_ready(store, second, workers=2, **settings) as taker:
        for start in range(0, ROWS, 10):  # each on a connection of its own, so that both workers count
            status, document = ask(taker, "POST", "/feedback", items[start : start + 10])
            assert (status, document) == (200, {"accepted": 10, "rejected": []})
        os.kill(min(taker.workers()), signal.SIGKILL)
        wait_for(lambda: ask(taker, "GET", "/readyz")[0] == 200, 20)
        right, wrong = (metric(taker, "berth_feedback_total", result=result) for result in ("right", "wrong"))
        assert right + wrong == metric(taker, "berth_feedback_confusion_total") == ROWS
        assert right / ROWS == accuracy_score(truth, predicted)
        assert metric(taker, "berth_feedback_delay_seconds_count") == ROWS
