"""The payload log of a consumer, read again as those of a server are."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import Any

import pytest

from berth.models.store import find_version, read_manifest
from berth.telemetry.payloads.logged_bodies import find_outputs
from berth.telemetry.payloads.redaction import HIDDEN
from berth.web.logged_requests import decode_logged
from consuming.brokers import RedisProcess
from consuming.conftest import StartConsumer
from live.berths import metric
from live.server import wait_until

pytestmark = pytest.mark.live
ROW, OTHER = [5.1, 3.5, 1.4, 0.2], [6.7, 3.0, 5.2, 2.3]


def consumed(redis: RedisProcess, consume: StartConsumer, name: str, values: list[Any], log: str) -> str:
    """The consumer's own log, once it has taken these messages and ended; there is no dead stream."""
    for value in values:
        redis.client.xadd(name, {"value": value if isinstance(value, bytes) else json.dumps(value)})
    server = consume(f"{redis.url}/{name}", "--to", f"{redis.url}/{name}-scores", payload_log=log)
    wait_until(lambda: metric(server, "berth_consumed_total") == len(values), "the counts")
    server.signal(signal.SIGTERM)
    assert server.wait() == 0, server.log()
    return server.log()


def test_each_message_is_a_line(redis: RedisProcess, consume: StartConsumer, store: Path, tmp_path: Path) -> None:
    file = tmp_path / "payloads.jsonl"
    values = [ROW, {"features": [OTHER, OTHER]}, b"[1, 2", ["x"] * 4, json.dumps(ROW, indent=1).encode()]
    consumed(redis, consume, "logged", values, str(file))
    lines = [json.loads(line) for line in file.read_text("utf-8").splitlines()]
    assert [line["status"] for line in lines] == [200, 200, 400, 400, 200]
    assert {(line["protocol"], line["model"], line["version"]) for line in lines} == {("message", "iris", "1")}
    assert len({line["request_id"] for line in lines if line["request_id"].startswith("logged/")}) == 5
    assert (lines[0]["request"], lines[0]["response"]) == ({"instances": [ROW]}, {"predictions": [{"prediction": 0}]})
    assert [line.get("code") for line in lines[2:4]] == ["malformed_json", "invalid_input"]
    assert lines[2]["request"] == {"unreadable": True, "bytes": 5, "text": "[1, 2"}
    assert lines[3]["response"] == {"code": "invalid_input", "error": lines[3]["error"]}
    specs = read_manifest(find_version(store, "iris", "1")).inputs
    read = [decode_logged("message", lines[at]["request"], specs) for at in (0, 1, 4)]
    assert [next(iter(tensors.values())).tolist() for tensors in read] == [[ROW], [OTHER, OTHER], [ROW]]
    assert [find_outputs(lines[at])["prediction"] for at in (0, 1, 4)] == [[0], [2, 2], [0]]


def test_hidden_columns_are_written_nowhere(redis: RedisProcess, consume: StartConsumer, tmp_path: Path) -> None:
    file, secret = tmp_path / "payloads.jsonl", "77777.5"
    names = ["sepal length (cm)", "sepal width (cm)", "petal length (cm)", "petal width (cm)"]
    row = dict(zip(names, [float(secret), 3.5, 1.4, 0.2], strict=True))
    odd = row | {names[0]: [secret]}
    own = consumed(redis, consume, "hidden", [row, odd], f"{file}?redact=sepal+length+(cm)")
    written = file.read_text("utf-8")
    assert secret not in written
    assert [json.loads(line)["status"] for line in written.splitlines()] == [200, 400]
    assert secret not in own
    assert HIDDEN in own


def test_the_sample_is_of_messages(redis: RedisProcess, consume: StartConsumer, tmp_path: Path) -> None:
    file = tmp_path / "payloads.jsonl"
    consumed(redis, consume, "sampled", [ROW] * 400, f"{file}?sample=0.25")
    assert 60 < len(file.read_text("utf-8").splitlines()) < 140
