"""`berth serve FILE` as people start it: its options, its folder, the environment of their platform."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import joblib
import pytest

import field_models
from live.berths import Serve, ask
from live.server import HOST, Server, free_port, wait_until

pytestmark = [pytest.mark.live, pytest.mark.slow]
# The file is tried and added to a store before anything listens.
ADDED_SECONDS = 90.0
CASES = json.loads((Path(__file__).parents[1] / "corpus" / "field" / "serving.json").read_text("utf-8"))


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Serve]:
    """start(command, env, port): a server that may not listen yet; stopped after the test."""
    servers: list[Server] = []

    def run(command: Sequence[str], env: Mapping[str, str], port: int) -> Server:
        servers.append(Server(command, env, port, tmp_path / "server.log"))
        return servers[-1]

    yield run
    for server in servers:
        server.stop()


def is_ready(server: Server) -> bool:
    """Whether it listens and every model is loaded."""
    try:
        return ask(server, "GET", "/readyz")[0] == 200
    except OSError:
        return False


@pytest.mark.parametrize("case", CASES, ids=[case["id"] for case in CASES])
def test_a_file_is_served_as_it_is_started(case: dict[str, Any], start: Serve, tmp_path: Path) -> None:
    _, model, row = field_models.MODELS["matrix"]()
    file = tmp_path / case["file"]
    file.parent.mkdir(exist_ok=True)
    joblib.dump(model, file, compress=3 if file.suffix == ".gz" else 0)
    (tmp_path / "X.csv").write_text("1,2\n-3,4\n60,70\n", "utf-8")
    options = [str(tmp_path / word) if word == "X.csv" else word for word in case.get("options", ())]
    command = [sys.executable, "-m", "berth", "serve", str(tmp_path / case["target"]), *options]
    port = free_port()
    environ = {case.get("port_from", "BERTH_PORT"): str(port), "BERTH_HOST": HOST, "BERTH_WORKERS": "1"}
    server = start(command, {**environ, **case.get("env", {})}, port)
    wait_until(lambda: is_ready(server), f"readiness; log:\n{server.log()}", ADDED_SECONDS)
    status, answer = ask(server, "POST", "/predict", {"features": row})
    assert (status, answer["prediction"]) == (200, model.predict(row).tolist())
    assert case.get("says", "") in server.log()
    if "never" in case:
        stores = [line["settings"]["BERTH_MODEL_STORE"] for line in server.log_lines() if "settings" in line]
        assert stores
        assert not any(str(store).startswith(case["never"]) for store in stores)
