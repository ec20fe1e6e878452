"""Lines of a stream in an experiment: each goes to the arm that it would have as a request of its own."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient

from berth.telemetry.feedback.receipts import decode_receipt
from web.asking import refused, told
from web.test_experiments import SECRET, SPLIT, arms_store, serve
from web.test_ndjson import NDJSON, ask_lines

__all__ = ["arms_store", "serve"]
ROWS = [[float(number), float(number % 25)] for number in range(100)]
TEXT = "\n".join(map(json.dumps, ROWS))
Serve = Callable[..., FlaskClient]


def counted(client: FlaskClient, sticky: str) -> float:
    lines = [line for line in client.get("/metrics").text.splitlines() if "experiment_units_total{" in line]
    return sum(float(line.rpartition(" ")[2]) for line in lines if f'sticky="{sticky}"' in line)


def ask_each(client: FlaskClient) -> list[str]:
    """The arm of each row as a request of its own."""
    return [client.post("/predict", json={"features": row}).headers["X-Berth-Arm"] for row in ROWS]


def test_a_column_assigns_each_line(serve: Serve) -> None:
    client = serve(SPLIT | {"unit": "field:user"})
    found = ask_lines(client, TEXT)
    arms = [line["arm"] for line in found]
    assert arms == ask_each(client)
    assert set(arms) == {"churn@1", "churn@2"}
    assert [f"churn@{line['prediction']:.0f}" for line in found] == arms
    assert (counted(client, "yes"), counted(client, "no")) == (200, 0)


def test_lines_without_a_unit_have_the_shares(serve: Serve) -> None:
    client = serve(SPLIT)
    found = ask_lines(client, TEXT)
    arms = [line["arm"] for line in found]
    assert 25 < arms.count("churn@1") < 75
    assert [f"churn@{line['prediction']:.0f}" for line in found] == arms
    assert (counted(client, "yes"), counted(client, "no")) == (0, 100)
    response = client.post("/predict", data=TEXT, content_type=NDJSON)
    assert response.headers["X-Berth-Experiment"] == "q4"
    assert not {"X-Berth-Arm", "X-Berth-Model"} & set(response.headers.keys())


def test_a_header_assigns_the_whole_stream(serve: Serve) -> None:
    client = serve(SPLIT)
    response = client.post("/predict", data=TEXT, content_type=NDJSON, headers={"X-User-Id": "ann"})
    arm = response.headers["X-Berth-Arm"]
    lines = [json.loads(line) for line in response.data.splitlines()]
    assert {f"churn@{line['prediction']:.0f}" for line in lines} == {arm}
    assert all("arm" not in line for line in lines)


def test_bad_lines_reach_no_arm(serve: Serve) -> None:
    client = serve(SPLIT | {"unit": "field:user"})
    found = ask_lines(client, "[1, 2]\n{\n[1]\n[3, 2]\n")
    assert [line.get("code") for line in found] == [None, "malformed_json", "invalid_input", None]
    assert found[0]["arm"] == found[3]["arm"]
    assert counted(client, "yes") == 2


def test_receipts_of_lines(serve: Serve, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text(SECRET, "utf-8")
    client = serve(SPLIT | {"unit": "field:user"}, feedback_key_file=tmp_path / "secret")
    assert "receipt" not in ask_lines(client, TEXT)[0]
    found = ask_lines(client, TEXT, "?receipts=true")
    receipts = [decode_receipt(line["receipt"], [SECRET.encode()]) for line in found]
    assert [receipt.arm for receipt in receipts] == [f"q4/{line['arm']}" for line in found]
    assert [receipt.predictions for receipt in receipts] == [(line["prediction"],) for line in found]
    items: list[dict[str, Any]] = [{"receipt": line["receipt"], "reward": 1} for line in found]
    assert told(client.post("/feedback", json=items))["accepted"] == 100
    (report,) = told(client.get("/experiments"))["experiments"]
    arms = [line["arm"] for line in found]
    assert {arm["arm"]: arm["rewards"] for arm in report["arms"]} == {arm: arms.count(arm) for arm in set(arms)}


@pytest.mark.parametrize("query", ["?receipts=true", "?receipts=1"])
def test_receipts_that_cannot_be_had(serve: Serve, query: str) -> None:
    response = serve(SPLIT).post(f"/predict{query}", data=TEXT, content_type=NDJSON)
    refused(response, 400, "invalid_input")
