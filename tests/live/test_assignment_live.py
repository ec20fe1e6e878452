"""100,000 units over HTTP: 1, 2 and 4 workers give each the same arm, and a new split moves the right ones."""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

import pytest

from berth.experiments.assignment import BUCKETS, hash_unit
from berth.loaders.formats import LoadOptions
from berth.publishing.adding import AddRequest, add_version
from collector import wait_for
from live.berths import ask, running_ready
from live.server import Server
from web.test_experiments import SPLIT, write

pytestmark = [pytest.mark.live, pytest.mark.slow]
UNITS = range(100_000)
SOCKETS, BURST = 16, 125
_BODY = b'{"features":[1.0,7.0]}'
_REQUEST = (
    b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: %d\r\n"
    b"X-User-Id: user-%d\r\n\r\n%s"
)
_ARM = re.compile(rb"\r\nX-Berth-Arm: churn@(\d)\r\n")


def weighted(first: int, second: int) -> Mapping[str, object]:
    arms = [{"model": "churn@1", "weight": first}, {"model": "churn@2", "weight": second}]
    return SPLIT | {"arms": arms}


def read_arms(sock: socket.socket) -> bytes:
    """The arms of a burst, a digit each."""
    data = b""
    while data.count(b"\r\nX-Berth-Arm: ") < BURST or not data.endswith(b"}"):
        piece = sock.recv(1 << 18)
        assert piece, data[-500:]
        data += piece
    assert data.count(b"HTTP/1.1 200 ") == BURST
    return b"".join(_ARM.findall(data))


def assign(server: Server) -> str:
    """The arm of every unit, a digit each; connections change, so that every worker takes part."""
    found = []
    for first in range(0, len(UNITS), SOCKETS * BURST):
        with ExitStack() as stack:
            sockets = [stack.enter_context(server.connect(60)) for _ in range(SOCKETS)]
            for at, sock in enumerate(sockets):
                start = first + at * BURST
                sock.sendall(b"".join(_REQUEST % (len(_BODY), unit, _BODY) for unit in range(start, start + BURST)))
            found += [read_arms(sock) for sock in sockets]
    return b"".join(found).decode()


def moved_units(before: str, after: str) -> Sequence[int]:
    return [unit for unit in UNITS if before[unit] != after[unit]]


def add_arms(folder: Path) -> Path:
    """A store with two versions of `churn`, accelerated: the test sends 400,000 requests."""
    import joblib
    import numpy as np
    from sklearn.linear_model import LinearRegression

    rows, store = np.random.default_rng(0).normal(size=(50, 2)), folder / "store"
    for version in ("1", "2"):
        joblib.dump(LinearRegression().fit(rows, rows.sum(axis=1) + float(version)), folder / f"{version}.joblib")
        add_version(store, folder / f"{version}.joblib", AddRequest("churn", version), LoadOptions(accelerate="auto"))
    return store


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[int, Server]]:
    """By their number of workers; they read one file."""
    folder = tmp_path_factory.mktemp("assigned")
    settings = {"models": "churn@1,churn@2", "experiment_file": write(folder / "experiments.json", weighted(90, 10))}
    settings["log_level"] = "error"  # not a line for each of the requests
    store = add_arms(folder)
    with ExitStack() as stack:
        found = {}
        for workers in (1, 2, 4):
            (own := folder / str(workers)).mkdir()
            found[workers] = stack.enter_context(running_ready(store, own, workers=workers, **settings))
        yield found


def test_every_worker_and_server_gives_a_unit_the_same_arm(servers: dict[int, Server], tmp_path: Path) -> None:
    one, two, four = (assign(servers[workers]) for workers in (1, 2, 4))
    assert len(one) == len(UNITS)
    assert (moved_units(one, two), moved_units(one, four)) == ([], [])
    assert one.count("2") / len(UNITS) == pytest.approx(0.1, abs=0.005)
    file = servers[2].log_file.parents[1] / "experiments.json"
    os.replace(write(tmp_path / "next.json", weighted(80, 20)), file)

    def first_share() -> float:
        share: float = ask(servers[2], "GET", "/experiments")[1]["experiments"][0]["arms"][0]["share"]
        return share

    wait_for(lambda: [first_share() for _ in range(20)] == [0.8] * 20)
    moved = moved_units(two, assign(servers[2]))
    print(f"{one.count('2')} of {len(UNITS)} on the second arm; {len(moved)} moved")
    assert moved == [unit for unit in UNITS if 8000 <= hash_unit("q4", f"user-{unit}") % BUCKETS < 9000]
