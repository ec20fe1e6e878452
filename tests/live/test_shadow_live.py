"""Shadows that sleep, raise or exit, behind a real server: every request gets its response."""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPConnection
from pathlib import Path

import pytest

from collector import wait_for
from live.berths import ask, ask_on, running_ready
from live.server import HOST, Server
from web.test_shadow import shadow_store

__all__ = ["shadow_store"]
pytestmark = pytest.mark.live
BAD = ("sleeps", "raises", "exits")
CLIENTS, REQUESTS = 8, 40


@pytest.fixture(scope="module")
def server(shadow_store: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """echo-KIND: echo@same with a shadow of that kind, which predicts every request again."""
    folder = tmp_path_factory.mktemp("shadowed")
    experiments = [
        {
            "name": kind,
            "model": f"echo-{kind}",
            "arms": [{"model": "echo@same"}],
            "shadow": {"model": f"echo@{kind}", "share": 1},
        }
        for kind in BAD
    ]
    (folder / "experiments.json").write_text(json.dumps({"experiments": experiments}), "utf-8")
    models = ",".join(f"echo@{kind}" for kind in ("same", *BAD))
    settings = {"models": models, "experiment_file": folder / "experiments.json", "allow_code": True, "workers": 1}
    with running_ready(shadow_store, folder, **settings) as running:
        yield running


@pytest.mark.parametrize("kind", BAD)
def test_no_request_fails(server: Server, kind: str) -> None:
    def send(client: int) -> list[bool]:
        connection, found = HTTPConnection(HOST, server.port, timeout=30), []
        for number in range(REQUESTS):
            value = 10.0 + client * REQUESTS + number
            status, document = ask_on(connection, "POST", "/predict", {"model": f"echo-{kind}", "features": [[value]]})
            found.append((status, document.get("prediction")) == (200, [value]))
        connection.close()
        return found

    with ThreadPoolExecutor(CLIENTS) as pool:
        answered = [good for found in pool.map(send, range(CLIENTS)) for good in found]
    assert answered == [True] * CLIENTS * REQUESTS

    def shadowed() -> dict[str, int]:
        reports = {each["name"]: each["shadow"] for each in ask(server, "GET", "/experiments")[1]["experiments"]}
        return {word: reports[kind][word] for word in ("agree", "differ", "failed", "dropped")}

    wait_for(lambda: sum(shadowed().values()) == len(answered), 30)
    found = shadowed()
    print(f"{len(answered)} requests, 0 failed; shadow: {found}")
    assert found["differ"] == 0
    assert found["agree" if kind == "sleeps" else "failed"] > 0
    assert server.wait_workers(1)
