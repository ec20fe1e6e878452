"""The bars of watching: 20,000 rows over four workers counted through a SIGKILL, and 10,000 receipts labelled."""

from __future__ import annotations

import base64
import http.client
import json
import os
import signal
import threading
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
ROWS, SENDERS, WORKERS = 20_000, 8, 4
RECEIPTS, ITEMS = 10_000, 500


class Sender(threading.Thread):
    """Sends rows on kept connections, from 1 to 5 a request; counts those that were predicted and those in doubt."""

    def __init__(self, server: Server, rows: list[list[float]], halfway: threading.Barrier) -> None:
        super().__init__()
        self._server, self._rows, self._halfway = server, rows, halfway
        self.predicted = self.doubtful = 0
        self.sent: list[list[float]] = []

    def _connect(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection(HOST, self._server.port, timeout=30)

    def run(self) -> None:
        connection, at = self._connect(), 0
        size = 1
        while at < len(self._rows):
            rows = self._rows[at : at + size]
            try:
                body = json.dumps({"features": rows})
                connection.request("POST", "/predict", body, {"Content-Type": "application/json"})
                response = connection.getresponse()
                response.read()
                assert response.status == 200
                self.predicted += len(rows)
                self.sent += rows
            except (OSError, http.client.HTTPException):  # of the worker that was killed
                self.doubtful += len(rows)
                connection.close()
                connection = self._connect()
            at += len(rows)
            size = size % 5 + 1
            if at - len(rows) < len(self._rows) // 2 <= at:
                self._halfway.wait(120)  # all have stopped
                self._halfway.wait(120)  # the worker is dead
        connection.close()


def test_every_row_of_four_workers_is_counted(store: Path, tmp_path: Path) -> None:
    """Halfway one worker is killed, when nothing is in flight: what it had counted stays, and no later row is lost."""
    rows = load_iris().data[np.random.default_rng(0).integers(0, 150, ROWS)].tolist()
    with running_ready(store, tmp_path, models="iris@1", workers=WORKERS, watch_rows=10**6) as server:
        halfway = threading.Barrier(SENDERS + 1)
        senders = [Sender(server, rows[at::SENDERS], halfway) for at in range(SENDERS)]
        for sender in senders:
            sender.start()
        halfway.wait(120)
        counted = sum(sender.predicted for sender in senders)
        assert wait_for_counts(server, counted)["rows"] == counted >= ROWS // 2
        victim = min(server.wait_workers(WORKERS))
        os.kill(victim, signal.SIGKILL)
        halfway.wait(120)
        for sender in senders:
            sender.join()
        predicted = sum(sender.predicted for sender in senders)
        # A request on a connection to the dead worker was never predicted.
        assert predicted + sum(sender.doubtful for sender in senders) == ROWS
        report = wait_for_counts(server, predicted)
        assert report["rows"] == predicted > ROWS * 0.9
        assert all(sum(feature["observed"]) == predicted for feature in report["features"])
        assert metric(server, "berth_watch_dropped_rows_total") == 0
        assert metric(server, "berth_drift_rows") == predicted


def wait_for_counts(server: Server, rows: int) -> dict[str, Any]:
    """The report, once it has so many rows."""

    def report() -> dict[str, Any]:
        found: dict[str, Any] = ask(server, "GET", "/drift")[1]["models"][0]
        return found

    wait_for(lambda: report()["rows"] >= rows, 20)
    return report()


def test_without_a_kill_every_count_is_that_of_the_rows(store: Path, tmp_path: Path) -> None:
    """Each feature's bins, not only their sum."""
    rows = load_iris().data[np.random.default_rng(1).integers(0, 150, ROWS // 4)]
    with running_ready(store, tmp_path, models="iris@1", workers=WORKERS, watch_rows=10**6) as server:
        alone = threading.Barrier(1)
        senders = [Sender(server, rows[at::SENDERS].tolist(), alone) for at in range(SENDERS)]
        for sender in senders:
            sender.start()
        for sender in senders:
            sender.join()
        report = wait_for_counts(server, len(rows))
        assert report["rows"] == len(rows)
        for at, name in enumerate(load_iris().feature_names):
            feature = next(each for each in report["features"] if each["name"] == name)
            if "edges" in feature:
                edges = np.array(feature["edges"])
                inner = np.histogram(rows[:, at], edges)[0].tolist()
                assert feature["observed"][1:-2] == inner


def collect_receipts(store: Path, folder: Path, settings: dict[str, object], rows: Any) -> tuple[list[int], list[str]]:
    """A prediction and a receipt for each row, of a server that has ended by then."""
    folder.mkdir()
    pairs = []
    with running_ready(store, folder, workers=1, **settings) as maker:
        connection = http.client.HTTPConnection(HOST, maker.port, timeout=30)
        for row in rows.tolist():
            connection.request("POST", "/predict", json.dumps({"features": row}), {"Content-Type": "application/json"})
            response = connection.getresponse()
            pairs.append((json.loads(response.read())["prediction"][0], response.headers["X-Berth-Receipt"] or ""))
        connection.close()
    return [predicted for predicted, _ in pairs], [receipt for _, receipt in pairs]


def mutate(receipt: str, rng: np.random.Generator) -> str:
    """The receipt with one bit flipped."""
    data = bytearray(base64.urlsafe_b64decode(receipt + "=" * (-len(receipt) % 4)))
    data[int(rng.integers(len(data)))] ^= 1 << int(rng.integers(8))
    return base64.urlsafe_b64encode(bytes(data)).rstrip(b"=").decode()


def test_labels_of_ten_thousand_receipts_at_another_server(store: Path, tmp_path: Path) -> None:
    """Accuracy is scikit-learn's; of 1,000 receipts with a flipped bit none is counted."""
    (tmp_path / "keys").write_text("k" * 32, "utf-8")
    settings: dict[str, object] = {"models": "iris@1", "feedback_key_file": tmp_path / "keys"}
    rng = np.random.default_rng(0)
    features, target = load_iris(return_X_y=True)
    chosen = rng.integers(0, 150, RECEIPTS)
    truth = (target[chosen] + (rng.random(RECEIPTS) < 0.1)) % 3
    predicted, receipts = collect_receipts(store, tmp_path / "maker", settings, features[chosen])
    items = [{"receipt": text, "truth": int(label)} for text, label in zip(receipts, truth, strict=True)]
    (tmp_path / "taker").mkdir()
    with running_ready(store, tmp_path / "taker", workers=2, **settings) as taker:
        for start in range(0, RECEIPTS, ITEMS):
            assert ask(taker, "POST", "/feedback", items[start : start + ITEMS])[1]["accepted"] == ITEMS
        for text in receipts[:1000]:
            status, document = ask(taker, "POST", "/feedback", {"receipt": mutate(text, rng), "truth": 0})
            assert (status, document["rejected"][0]["code"]) == (400, "invalid_receipt")
        report = ask(taker, "GET", "/quality")[1]["models"][0]
    assert report["labels"] == RECEIPTS
    assert report["accuracy"]["value"] == accuracy_score(truth, predicted)
