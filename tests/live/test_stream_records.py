"""What is kept of a stream: its chunks by arm in the payload log and the counts, a refusal as every other one."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from collector import wait_for
from live.berths import ask, metric, running_ready
from live.server import Server
from live.test_streams import Stream
from web.test_experiments import SECRET, SPLIT, arms_store, write

__all__ = ["arms_store"]
pytestmark = pytest.mark.live
ROWS = [[float(number), float(number % 25)] for number in range(40)]
ORIGIN = "https://shop.example"


@pytest.fixture(scope="module")
def server(arms_store: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One worker that splits churn by the column user, and keeps payloads."""
    folder = tmp_path_factory.mktemp("recorded")
    (folder / "secret").write_text(SECRET, "utf-8")
    settings = {
        "models": "churn@1,churn@2",
        "workers": 1,
        "experiment_file": write(folder / "experiments.json", SPLIT | {"unit": "field:user"}),
        "feedback_key_file": folder / "secret",
        "payload_log": folder / "payloads.jsonl",
        "cors_origins": ORIGIN,
    }
    with running_ready(arms_store, folder, **settings) as running:
        yield running


def payloads(server: Server, request_id: str, count: int) -> list[dict[str, Any]]:
    """The lines of the payload log about a request, once there are so many."""
    log = server.log_file.parent / "payloads.jsonl"

    def read() -> list[dict[str, Any]]:
        lines = log.read_text("utf-8").splitlines() if log.exists() else []
        return [line for line in map(json.loads, lines) if line["request_id"] == request_id]

    wait_for(lambda: len(read()) >= count)
    return read()


def test_each_arm_has_its_part_of_a_chunk(server: Server) -> None:
    stream = Stream(server, b"?receipts=true", b"X-Request-Id: many\r\nOrigin: %s\r\n" % ORIGIN.encode())
    stream.send(b"".join(json.dumps(row).encode() + b"\n" for row in ROWS))
    stream.end()
    status, headers = stream.read_head()
    assert (status, headers["x-berth-experiment"]) == (200, "q4")
    assert "x-berth-arm" not in headers
    assert headers["access-control-allow-origin"] == ORIGIN
    lines = stream.lines()
    stream.close()
    kept = {line["arm"]: line for line in payloads(server, "many", 2)}
    assert set(kept) == {"churn@1", "churn@2"}
    for arm, line in kept.items():
        mine = [at for at, each in enumerate(lines) if each["arm"] == arm]
        assert line["request"] == {"instances": [ROWS[at] for at in mine]}
        assert line["response"] == {"predictions": [lines[at] for at in mine]}
        assert (line["experiment"], line["probability"], line["protocol"]) == ("q4", 0.5, "stream")
        assert f"{line['model']}@{line['version']}" == arm
        version = arm[-1]
        assert metric(server, "berth_requests_total", protocol="stream", status="200", version=version) == 1
        assert metric(server, "berth_experiment_units_total", arm=arm, sticky="yes") == len(mine)
    items = [{"receipt": each["receipt"], "reward": 1} for each in lines]
    assert ask(server, "POST", "/feedback", items)[1]["accepted"] == len(ROWS)


def test_a_refused_stream_is_recorded_and_counted(server: Server) -> None:
    before = metric(server, "berth_requests_total", protocol="stream", status="404")
    stream = Stream(server, b"?model=none", b"X-Request-Id: refused\r\nOrigin: %s\r\n" % ORIGIN.encode())
    status, headers = stream.read_head()
    assert (status, headers["access-control-allow-origin"]) == (404, ORIGIN)
    stream.close()
    (line,) = payloads(server, "refused", 1)
    assert (line["status"], line["code"], line["protocol"]) == (404, "model_not_found", "stream")
    assert metric(server, "berth_requests_total", protocol="stream", status="404") == before + 1


def test_a_stream_that_breaks_off_is_recorded(server: Server) -> None:
    stream = Stream(server, more=b"X-Request-Id: broken\r\n")
    stream.send(b"[1, 2]\n")
    stream.sock.sendall(b"zz\r\n")
    stream.read_head()
    assert [line.get("code") for line in stream.lines()] == [None, "invalid_input"]
    stream.close()
    first, last = payloads(server, "broken", 2)
    assert first["request"] == {"instances": [[1, 2]]}
    assert (last["code"], last["response"]["predictions"][0]["line"]) == ("invalid_input", 2)
