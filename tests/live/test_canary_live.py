"""The analysis of a canary against two real servers: blue at 127.0.0.1 and green at 127.0.0.2, as two pods have it."""

from __future__ import annotations

import http.client
import itertools
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass

import pytest

from berth.loaders.formats import LoadOptions
from berth.publishing.adding import AddRequest, add_version
from berth.switchgate.analysing import SlotWatch
from berth.switchgate.asking import Caller, key_headers
from berth.switchgate.canary_plan import CanaryLimits
from berth.switchgate.slot_comparison import Finding, compare_slots
from berth.tensors.arrays import TensorSpec
from live.berths import start_berth
from live.gating import BLUE, GREEN
from live.server import HOST, Server, wait_until

pytestmark = pytest.mark.live
OTHER_HOST, NOBODY = "127.0.0.2", "127.0.0.3"
# Version 2 raises for one row of twenty-five, version 3 for every one, version 4 predicts something else.
MODEL = """
def load(directory):
    def predict(inputs):
        x = inputs["x"][:, 0]
        if {fails}:
            raise RuntimeError("no such row")
        return {{"prediction": x + {shift}}}
    return predict
"""
# Rows of less than 1 are those that a model is tried with when it is added and loaded.
VERSIONS = {
    "1": ("False", 0),
    "2": ("x[0] >= 1 and x[0] % 25 == 0", 0),
    "3": ("x[0] >= 1", 0),
    "4": ("False", 100_000),
}


@dataclass(frozen=True)
class Slots:
    """Both servers, which have all versions; what a slot "serves" is what it is sent."""

    port: int

    def send(self, host: str, version: str, count: int = 300) -> None:
        """So many predictions of a version, one row each."""
        connection = http.client.HTTPConnection(host, self.port, timeout=30)
        for row in range(1, count + 1):
            body = f'{{"model": "rows", "version": "{version}", "features": [{row}]}}'
            connection.request("POST", "/predict", body, {"Content-Type": "application/json"})
            connection.getresponse().read()
        connection.close()


def is_ready(host: str, port: int) -> bool:
    """Whether /readyz returns 200."""
    connection = http.client.HTTPConnection(host, port, timeout=5)
    try:
        connection.request("GET", "/readyz")
        return connection.getresponse().status == 200
    except OSError:
        return False
    finally:
        connection.close()


@pytest.fixture(scope="module")
def slots(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Slots]:
    """Two servers with the same port on different addresses."""
    folder, servers = tmp_path_factory.mktemp("canary"), list[Server]()
    store = folder / "store"
    for version, (fails, shift) in VERSIONS.items():
        code = folder / f"code-{version}"
        code.mkdir()
        (code / "model.py").write_text(MODEL.format(fails=fails, shift=shift), "utf-8")
        inputs, outputs = (TensorSpec("x", "FP64", (-1, 1)),), (TensorSpec("prediction", "FP64", (-1,)),)
        request = AddRequest("rows", version, "python", inputs=inputs, outputs=outputs)
        add_version(store, code, request, LoadOptions(allow_code=True))

    def serve(command: Sequence[str], env: Mapping[str, str], port: int) -> Server:
        """The second one takes the first one's port."""
        taken = servers[0].port if servers else port
        servers.append(Server(command, {**env, "BERTH_PORT": str(taken)}, taken, folder / f"{len(servers)}.log"))
        return servers[-1]

    models = ",".join(f"rows@{version}" for version in VERSIONS)
    try:
        for host, slot, fingerprint in ((HOST, "blue", BLUE), (OTHER_HOST, "green", GREEN)):
            more = {"slot": slot, "fingerprint": fingerprint, "models": models, "allow_code": "true"}
            start_berth(serve, store, folder / slot, host=host, workers=1, **more)
        for host, server in zip((HOST, OTHER_HOST), servers, strict=True):
            try:
                wait_until(lambda host=host: is_ready(host, servers[0].port), "readiness", 120)  # type: ignore[misc]
            except AssertionError:
                raise AssertionError(server.log()) from None
        yield Slots(servers[0].port)
    finally:
        for server in servers:
            server.stop()


@pytest.fixture
def watches(slots: Slots) -> tuple[SlotWatch, SlotWatch]:
    """Blue and green; a second address of green's name responds to nobody."""
    names = {"blue": [HOST], "green": [OTHER_HOST, NOBODY]}
    caller = Caller(key_headers(""), lambda host: names.get(host, [host]))
    return SlotWatch("blue", "blue", slots.port, caller), SlotWatch("green", "green", slots.port, caller)


@pytest.mark.parametrize(("version", "fails"), [("1", []), ("2", ["errors"]), ("4", ["psi of rows"])])
def test_what_the_pods_count_is_compared(
    slots: Slots, watches: tuple[SlotWatch, SlotWatch], version: str, fails: list[str]
) -> None:
    with ThreadPoolExecutor() as readers:
        for watch in watches:
            watch.look(readers)
        slots.send(HOST, "1")
        slots.send(OTHER_HOST, version)
        for watch in watches:
            watch.look(readers)
    live, canary = (watch.traffic for watch in watches)
    assert (live.requests, canary.requests, canary.pods, canary.ready) == (300, 300, 1, 1)
    assert sum(canary.durations) == 300
    assert canary.failed == (12 if version == "2" else 0)
    assert sum(canary.predictions["rows"].values()) == 300 - canary.failed
    assert NOBODY in watches[1].fault
    # Two servers on one busy machine have tails of their own.
    figures = compare_slots(live, canary, CanaryLimits(300, max_error_increase=0.01, max_latency_ratio=0, max_drift=1))
    assert [figure.name for figure in figures if figure.finding is Finding.FAILED] == fails


@contextmanager
def steady(send: Callable[[], None]) -> Iterator[None]:
    """Requests again and again while the block runs."""
    stop = threading.Event()

    def run() -> None:
        while not stop.is_set():
            send()

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def gate(slots: Slots, *options: str) -> tuple[int, list[str]]:
    """`berth gate --verify` as the chart calls it: its exit code and its lines."""
    words = ["--verify", f"--active-url=http://{HOST}:{slots.port}", "--target-slot=blue", "--connections=1"]
    words += ["--release=iris", '--request={"features":[1]}', f"--pod-port={slots.port}"]
    words += [f"--live-host={HOST}", f"--canary-host={OTHER_HOST}", f"--canary-fingerprint={GREEN}"]
    command = [sys.executable, "-m", "berth", "gate", *words, "--canary-max-latency-ratio=0", *options]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.stderr == ""
    return done.returncode, done.stdout.splitlines()


def test_a_canary_without_requests_is_inconclusive(slots: Slots) -> None:
    code, lines = gate(slots, "--canary-seconds=1", "--canary-min-requests=50")
    assert code == 1
    assert lines[-1].startswith(
        "berth gate: REFUSED: the canary in slot green is inconclusive after 1 s: slot green had 0"
    )
    assert "`helm rollback iris`" in lines[-1]
    code, lines = gate(slots, "--canary-seconds=1", "--canary-inconclusive=pass")
    assert code == 0
    assert "inconclusive" in lines[-1]


def test_a_canary_that_always_fails_ends_the_analysis_before_its_time(slots: Slots) -> None:
    def send() -> None:
        slots.send(HOST, "1", 20)
        slots.send(OTHER_HOST, "3", 20)

    with steady(send):
        code, lines = gate(slots, "--canary-seconds=3000", "--canary-min-requests=50")
    assert code == 1
    table = lines.index(next(line for line in lines if "blue (live)" in line))
    assert [line.split()[0] for line in lines[table + 1 : table + 6]] == [
        "requests",
        "errors",
        "rejected",
        "restarts",
        "p99",
    ]
    assert "FAILED" in lines[table + 2]
    assert "errors are 100.00% of its requests" in lines[-1]


def test_a_canary_as_good_as_the_live_slot_passes(slots: Slots) -> None:
    rounds = itertools.count()

    def send() -> None:
        slots.send((HOST, OTHER_HOST)[next(rounds) % 2], "1", 20)

    with steady(send):
        code, lines = gate(slots, "--canary-seconds=3", "--canary-min-requests=20")
    assert (code, lines[-1]) == (0, "berth gate: PASSED: the canary in slot green is as good as slot blue, after 3 s")


def test_pods_of_another_upgrade_are_not_judged(slots: Slots) -> None:
    code, lines = gate(slots, "--canary-fingerprint=" + "0" * 12, "--timeout-seconds=2")
    assert code == 1
    assert f"runs fingerprint {GREEN}, but this upgrade gives it {'0' * 12}: stage it first" in lines[-1]
