"""A bandit over three real servers: the same weights soon after the minute, and what a killed one knew survives it."""

from __future__ import annotations

import itertools
import os
import signal
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from live.berths import ask, running_ready
from live.server import HOST, Server, free_port
from web.test_experiments import SECRET, SPLIT, arms_store, write

__all__ = ["arms_store"]
pytestmark = [pytest.mark.live, pytest.mark.slow, pytest.mark.alone]
BANDIT = SPLIT | {"policy": "thompson", "minimumRewards": 20, "unit": "request"}
ROW = {"features": [1.0, 7.0]}
# Close enough to each other that both arms keep a share that tells different counts apart.
WORTH = {"churn@1": 0.50, "churn@2": 0.52}


@pytest.fixture(scope="module")
def servers(arms_store: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Server]]:
    """Three servers, each with the addresses of all."""
    folder = tmp_path_factory.mktemp("bandit")
    (folder / "secret").write_text(SECRET, "utf-8")
    ports = [free_port() for _ in range(3)]
    settings = {
        "models": "churn@1,churn@2",
        "workers": 1,
        "experiment_file": write(folder / "experiments.json", BANDIT),
        "feedback_key_file": folder / "secret",
        "peers": ",".join(f"{HOST}:{port}" for port in ports),
    }
    with ExitStack() as stack:
        found = []
        for port in ports:
            (own := folder / str(port)).mkdir()
            found.append(stack.enter_context(running_ready(arms_store, own, port=port, **settings)))
        yield found


def reward(server: Server, other: Server, number: int) -> float:
    """One user, served by one server and rewarded at another; when the reward was accepted."""
    import http.client
    import json

    connection = http.client.HTTPConnection(HOST, server.port, timeout=30)
    connection.request("POST", "/predict", json.dumps(ROW), {"Content-Type": "application/json"})
    response = connection.getresponse()
    response.read()
    arm, receipt = response.headers["X-Berth-Arm"], response.headers["X-Berth-Receipt"]
    connection.close()
    worth = float(number % 100 < 100 * WORTH[arm])
    assert ask(other, "POST", "/feedback", {"receipt": receipt, "reward": worth})[0] == 200
    return time.monotonic()


def arms(server: Server) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = ask(server, "GET", "/experiments")[1]["experiments"][0]["arms"]
    return found


def test_weights_are_equal_and_a_killed_servers_rewards_stay(servers: list[Server]) -> None:
    numbers = itertools.count()

    def send(seconds: float, served: list[Server], rewarded: list[Server]) -> list[float]:
        """Users one after the other, and when each of their rewards was accepted."""
        until, found = time.monotonic() + seconds, []
        while time.monotonic() < until:
            at = next(numbers)
            found.append(reward(served[at % len(served)], rewarded[at // 2 % len(rewarded)], at))
            time.sleep(0.02)
        return found

    send(8, servers, servers)  # more than the minimum, and every server has heard of every other
    send(60 - time.time() % 60 + 0.5, servers, servers)
    minute, looks = time.monotonic(), []
    while time.monotonic() < minute + 9.5:
        send(0.2, servers, servers)
        looks.append((time.monotonic() - minute, {tuple(arm["share"] for arm in arms(each)) for each in servers}))
    assert len(looks[-1][1]) == 1, looks[-3:]
    assert looks[-1][1] != {(0.5, 0.5)}
    apart = [seconds for seconds, shares in looks if len(shares) > 1]
    print(f"weights {looks[-1][1]} equal {max(apart, default=0) + 0.5:.1f} s after the minute")

    doomed, *others = servers
    accepted = send(8, others, [doomed])
    known = sum(arm["rewards"] for arm in arms(doomed))
    killed = time.monotonic()
    for pid in (doomed.pid, *doomed.workers()):
        os.kill(pid, signal.SIGKILL)
    late = sum(moment > killed - 5 for moment in accepted)
    time.sleep(5.5)
    left = [sum(arm["rewards"] for arm in arms(server)) for server in others]
    print(f"{known - left[0]:.0f} of {late} rewards of the last 5 s lost, of {len(accepted)}")
    assert left[0] == left[1]
    assert known - late <= left[0]
    assert late < len(accepted)
