"""The gate and verify against two real servers as blue and green, and against servers that misbehave on purpose."""

from __future__ import annotations

import hashlib
import json
import re
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression

from berth.gate import judge_switch, verify_traffic
from berth.gate.asking import Caller, key_headers
from berth.gate.decide import Outcome
from berth.gate.inquiry import Inquiry
from berth.gate.plan import SwitchPlan, VerifyPlan
from live.berths import Serve, ask, start_berth, start_ready
from live.server import HOST, Server, free_port, wait_until

pytestmark = pytest.mark.live
BLUE, GREEN = "aaaaaaaaaaaa", "bbbbbbbbbbbb"
Slots = tuple[Server, Server]


class Lookup:
    """Stands for the cluster's DNS: every name is this machine, headless ones have `pods` addresses."""

    def __init__(self, pods: Sequence[str] = ("10.0.0.1",)) -> None:
        self.pods = pods
        self.missing: dict[str, int] = {}

    def __call__(self, host: str) -> Sequence[str]:
        if host in self.missing:
            raise socket.gaierror(self.missing[host], "no such name")
        return self.pods if host == "pods" else [HOST]


@pytest.fixture(scope="module")
def slots(store: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Slots]:
    """blue with iris@1 (a logistic regression) and green with iris@2 (a tree)."""
    servers: list[Server] = []
    folder = tmp_path_factory.mktemp("slots")

    def serve(command: Sequence[str], env: Any, port: int) -> Server:
        servers.append(Server(command, env, port, folder / f"{env['BERTH_SLOT']}.log"))
        return servers[-1]

    for slot, fingerprint, model in (("blue", BLUE, "iris@1"), ("green", GREEN, "iris@2,people")):
        run_dir = folder / slot
        start_berth(serve, store, run_dir, models=model, slot=slot, fingerprint=fingerprint, workers=1)
    for server in servers:
        server.wait_accepting()
        wait_until(lambda server=server: ask(server, "GET", "/readyz")[0] == 200, "readiness")  # type: ignore[misc]
    yield servers[0], servers[1]
    for server in servers:
        server.stop()


@pytest.fixture
def lookup() -> Lookup:
    """DNS with one pod behind the headless name."""
    return Lookup()


@pytest.fixture
def told() -> list[str]:
    """What the gate printed."""
    return []


def switch(slots: Slots) -> SwitchPlan:
    """From blue to green."""
    return SwitchPlan(
        release="iris",
        active_url=f"http://active.shop.svc:{slots[0].port}",
        target_url=f"http://target.shop.svc:{slots[1].port}",
        target_slot="green",
        fingerprint=GREEN,
        headless_host="pods",
        other_mode="serve",
        timeout_seconds=20,
    )


def judge(plan: SwitchPlan, lookup: Lookup, told: list[str], key: str = "") -> tuple[bool, str]:
    """Whether the gate lets the upgrade go on, and what it says."""
    caller = Caller(key_headers(key), lookup)
    verdict = judge_switch(plan, Inquiry(caller, plan.timeout_seconds, told.append, pause=0.05))
    assert verdict.outcome is not Outcome.GO_ON
    return verdict.outcome is Outcome.PASS, verdict.sentence


def test_a_good_switch_passes_and_tells_what_was_looked_at(slots: Slots, lookup: Lookup, told: list[str]) -> None:
    assert judge(switch(slots), lookup, told) == (True, "traffic may go to slot green")
    patterns = ["slot blue is live", "mode stays serve", f"fingerprint {GREEN}: iris@2, people@1", "1 pods, 1 wanted"]
    patterns += ["2 sample predictions are taken", "5 of 5 connections"]
    assert len(told) == len(patterns)
    for line, pattern in zip(told, patterns, strict=True):
        assert line.startswith("ok    ")
        assert pattern in line


def test_each_sample_has_a_connection_of_its_own_and_asks_every_model(slots: Slots, lookup: Lookup) -> None:
    before = _predictions(slots[1])
    assert judge(replace(switch(slots), successes=7), lookup, [])[0]
    after = _predictions(slots[1])
    assert {model: after[model] - before[model] for model in after} == {"iris": 7, "people": 7}


def _predictions(server: Server) -> dict[str, int]:
    lines = [line for line in server.log_lines() if line.get("route") == "/predict" and line["status"] == 200]
    return {model: sum(line["model"] == model for line in lines) for model in ("iris", "people")}


def test_what_is_no_switch_passes(slots: Slots, lookup: Lookup, told: list[str]) -> None:
    plan = replace(switch(slots), target_slot="blue", fingerprint="0" * 12, other_mode="absent")
    assert judge(plan, lookup, told) == (True, "slot blue is live already: this upgrade is not a switch")


def test_a_first_install(slots: Slots, lookup: Lookup, told: list[str]) -> None:
    lookup.missing["active.shop.svc"] = socket.EAI_NONAME
    passed, sentence = judge(switch(slots), lookup, told)
    assert passed
    assert "first install" in sentence
    passed, sentence = judge(replace(switch(slots), bootstrap="refuse"), lookup, told)
    assert not passed
    assert "gate.bootstrap is refuse" in sentence


def test_dns_that_is_down_is_no_first_install(slots: Slots, lookup: Lookup, told: list[str]) -> None:
    lookup.missing["active.shop.svc"] = socket.EAI_AGAIN
    passed, sentence = judge(replace(switch(slots), timeout_seconds=0.5), lookup, told)
    assert not passed
    assert "DNS did not answer" in sentence


def test_in_an_outage_the_target_is_judged_alone(slots: Slots, lookup: Lookup, told: list[str]) -> None:
    plan = replace(switch(slots), active_url=f"http://active.shop.svc:{free_port()}", timeout_seconds=4)
    plan = replace(plan, other_mode="absent", require_agreement=True)
    assert judge(plan, lookup, told)[0]
    assert "an outage" in told[0]
    passed, sentence = judge(replace(plan, fingerprint="0" * 12), lookup, told)
    assert not passed
    assert "--no-hooks" in sentence


def test_the_other_slot_may_not_be_shrunk_by_the_switch(slots: Slots, lookup: Lookup, told: list[str]) -> None:
    passed, sentence = judge(replace(switch(slots), other_mode="standby"), lookup, told)
    assert not passed
    assert "slots.blue.mode is standby" in sentence


def test_another_fingerprint_is_refused_with_both_commands(slots: Slots, lookup: Lookup, told: list[str]) -> None:
    began = time.monotonic()
    passed, sentence = judge(replace(switch(slots), fingerprint="0" * 12, timeout_seconds=2), lookup, told)
    assert not passed
    assert f"runs fingerprint {GREEN} (iris@2, people@1)" in sentence
    assert "stage first (helm upgrade iris CHART -n shop" in sentence
    assert "then switch (helm upgrade iris CHART -n shop" in sentence
    assert time.monotonic() - began < 1.5  # a rollout may be under way, but not for all of the time


def test_a_silent_target_is_refused_when_the_time_is_up(slots: Slots, lookup: Lookup, told: list[str]) -> None:
    plan = replace(switch(slots), target_url=f"http://target.shop.svc:{free_port()}", timeout_seconds=0.6)
    passed, sentence = judge(plan, lookup, told)
    assert not passed
    assert "brought no answer (Connection refused)" in sentence
    assert "stage first" in sentence
    assert sum("wait" in line for line in told) == 1  # the same sentence is not printed again and again


def test_a_slot_that_is_not_ready(slots: Slots, lookup: Lookup, told: list[str], tmp_path: Path) -> None:
    drain = slots[1].log_file.parent / "green" / "drain"
    drain.touch()
    try:
        passed, sentence = judge(replace(switch(slots), timeout_seconds=0.6), lookup, told)
        assert not passed
        assert "slot green is not ready" in sentence
        assert "draining" in sentence
        timer = threading.Timer(0.3, drain.unlink)
        timer.start()
        assert judge(switch(slots), lookup, told)[0]  # it waits for what may come true
        timer.join()
    finally:
        drain.unlink(missing_ok=True)


@pytest.mark.parametrize(
    ("pods", "wanted", "passes"),
    [
        ([], 1, False),
        (["10.0.0.1"], 2, False),
        (["10.0.0.1", "fd00::1"], 2, False),  # one pod with an address of each family
        (["10.0.0.1", "fd00::1", "10.0.0.2", "fd00::2"], 2, True),
        ([], 0, True),
    ],
)
def test_ready_addresses(slots: Slots, lookup: Lookup, pods: list[str], wanted: int, passes: bool) -> None:
    lookup.pods = pods
    plan = replace(switch(slots), min_ready=wanted, timeout_seconds=20 if passes else 0.5)
    passed, sentence = judge(plan, lookup, [])
    assert passed is passes
    assert passes or f"gate.minReady wants {wanted}" in sentence


def test_a_headless_name_without_pods_has_no_addresses(slots: Slots, lookup: Lookup, told: list[str]) -> None:
    lookup.missing["pods"] = socket.EAI_NONAME
    passed, sentence = judge(replace(switch(slots), timeout_seconds=0.5), lookup, told)
    assert not passed
    assert "has 0 ready pods" in sentence


def _flowers() -> tuple[list[float], list[float]]:
    """A flower on which both models agree and one on which they do not."""
    features, target = load_iris(return_X_y=True)
    wrong = np.flatnonzero(LogisticRegression(max_iter=1000).fit(features, target).predict(features) != target)[0]
    return features[0].tolist(), features[wrong].tolist()


def test_agreement(slots: Slots, lookup: Lookup, told: list[str]) -> None:
    same, other = _flowers()
    plan = replace(switch(slots), require_agreement=True, request={"features": same})
    assert judge(plan, lookup, told)[0]
    passed, sentence = judge(replace(plan, request={"features": other}), lookup, told)
    assert not passed
    assert re.search(r"slot green answers \{'prediction': \[\d\]\} where the live slot answers", sentence)
    assert judge(replace(plan, request={"features": other}, require_agreement=False), lookup, told)[0]


def test_a_request_that_the_model_does_not_take(slots: Slots, lookup: Lookup, told: list[str]) -> None:
    passed, sentence = judge(replace(switch(slots), request={"features": [1, 2]}), lookup, told)
    assert not passed
    assert "answered 400: features: got 2 values" in sentence
    assert "gate.request" in sentence


def test_a_slot_behind_a_key(
    slots: Slots, serve: Serve, store: Path, run_dir: Path, lookup: Lookup, told: list[str], tmp_path: Path
) -> None:
    keys = tmp_path / "keys"
    keys.write_text(f"gate:{hashlib.sha256(b'open sesame').hexdigest()}\n")
    settings = {"slot": "green", "fingerprint": GREEN, "models": "iris@2", "api_keys_file": keys, "workers": 1}
    locked = start_ready(serve, store, run_dir, **settings)
    plan = replace(switch(slots), target_url=locked.url)
    passed, sentence = judge(plan, lookup, told)
    assert not passed
    assert "answered 401" in sentence
    assert "gate.apiKeySecret.name" in sentence
    assert judge(plan, lookup, told, key="open sesame")[0]
    assert "sesame" not in repr(Caller(key_headers("open sesame"))) + "".join(told)


Answer = Callable[[str], tuple[int, dict[str, Any] | bytes]]


class Puppet:
    """An HTTP server that answers as it is told to, and counts its connections."""

    def __init__(self, answer: Answer) -> None:
        outer = self
        self.connections = 0

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def setup(self) -> None:
                outer.connections += 1
                super().setup()

            def do_GET(self) -> None:
                self.rfile.read(int(self.headers.get("Content-Length") or 0))
                status, document = answer(self.path)
                body = document if isinstance(document, bytes) else json.dumps(document).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            do_POST = do_GET

            def log_message(self, format: str, *arguments: object) -> None:
                pass

        self._server = ThreadingHTTPServer((HOST, 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02})
        self._thread.start()
        self.url = f"http://target.shop.svc:{self._server.server_address[1]}"

    def stop(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


@pytest.fixture
def puppet() -> Iterator[Callable[[Answer], Puppet]]:
    """puppet(answer): a server whose answers the test makes."""
    puppets: list[Puppet] = []

    def start(answer: Answer) -> Puppet:
        puppets.append(Puppet(answer))
        return puppets[-1]

    yield start
    for one in puppets:
        one.stop()


def as_green(path: str) -> tuple[int, dict[str, Any] | bytes]:
    """What a good green slot answers."""
    return 200, {"slot": "green", "fingerprint": GREEN, "prediction": [0]}


def with_predictions(*statuses: int, pause: float = 0.0) -> Answer:
    """A green slot whose predictions have these statuses, over and over."""
    count = [0]

    def answer(path: str) -> tuple[int, dict[str, Any] | bytes]:
        if path != "/predict":
            return as_green(path)
        time.sleep(pause)
        status = statuses[count[0] % len(statuses)]
        count[0] += 1
        return status, {"prediction": [0]} if status == 200 else {"error": "told to"}

    return answer


@pytest.mark.parametrize(
    ("answer", "passes", "words"),
    [
        (with_predictions(200), True, ""),
        # One that fails every other time would have five in a row some day: it has three misses.
        (with_predictions(200, 200, 500), False, "connection 3 of 5: slot green does not predict"),
        (with_predictions(500, 500, *[200] * 9), True, ""),
        (with_predictions(503, 503, 503, 503, 503, *[200] * 9), True, ""),  # still starting
        (with_predictions(200, 404), False, "connection 2 of 5: slot green refuses the sample prediction"),
        (with_predictions(200, pause=0.03), False, "gate.maxLatencyMs allows 20"),
        (lambda path: as_green(path) if path != "/predict" else (200, b"<html>"), False, "without a JSON object"),
        (lambda path: as_green(path) if path != "/predict" else (200, b"[" * 100_000), False, "JSON object"),
    ],
)
def test_predictions_in_a_row(
    slots: Slots,
    lookup: Lookup,
    told: list[str],
    puppet: Callable[[Answer], Puppet],
    answer: Answer,
    passes: bool,
    words: str,
) -> None:
    plan = replace(switch(slots), target_url=puppet(answer).url, request={"features": [1]}, max_latency_ms=20)
    plan = plan if "maxLatency" in words else replace(plan, max_latency_ms=None)
    passed, sentence = judge(plan, lookup, told)
    assert (passed, words in sentence) == (passes, True), sentence


def test_pods_of_an_old_fingerprint_among_the_new_ones_are_found(
    slots: Slots, lookup: Lookup, told: list[str], puppet: Callable[[Answer], Puppet]
) -> None:
    count = [0]

    def answer(path: str) -> tuple[int, dict[str, Any] | bytes]:
        count[0] += path == "/info"
        fingerprint = "0" * 12 if path == "/info" and count[0] % 3 == 0 else GREEN
        return 200, {"slot": "green", "fingerprint": fingerprint, "prediction": [0]}

    plan = replace(switch(slots), target_url=puppet(answer).url, request={"features": [1]})
    passed, sentence = judge(plan, lookup, told)
    assert not passed
    assert "stage first" in sentence


def test_every_request_is_bounded(slots: Slots, lookup: Lookup, told: list[str]) -> None:
    stop = threading.Event()
    with socket.create_server((HOST, 0)) as listener:

        def drip() -> None:  # a byte in time keeps any timeout between two bytes from ever striking
            connection, _ = listener.accept()
            with connection:
                connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")
                while not stop.wait(0.05):
                    connection.sendall(b" ")

        thread = threading.Thread(target=drip)
        thread.start()
        plan = replace(switch(slots), target_url=f"http://target.shop.svc:{listener.getsockname()[1]}")
        began = time.monotonic()
        passed, sentence = judge(replace(plan, timeout_seconds=1), lookup, told)
        assert time.monotonic() - began < 3
        stop.set()
        thread.join()
    assert not passed
    assert "brought no answer" in sentence


def verify(url: str, lookup: Lookup, told: list[str], **more: Any) -> tuple[bool, str]:
    """Whether verify is content, and what it says."""
    plan = VerifyPlan(url, "green", **{"connections": 6, "timeout_seconds": 20} | more)
    verdict = verify_traffic(plan, Inquiry(Caller(key_headers(""), lookup), plan.timeout_seconds, told.append, 0.05))
    return verdict.outcome is Outcome.PASS, verdict.sentence


def test_verify_of_real_slots(slots: Slots, lookup: Lookup, told: list[str]) -> None:
    before = _predictions(slots[1])
    passed, sentence = verify(slots[1].url, lookup, told)
    assert (passed, sentence) == (True, f"all 6 connections to {slots[1].url} reached slot green")
    assert _predictions(slots[1]) == {model: count + 6 for model, count in before.items()}
    passed, sentence = verify(slots[0].url, lookup, told, timeout_seconds=0.5)
    assert not passed
    assert "connection 1 of 6" in sentence
    assert "was answered by slot blue instead of green" in sentence
    assert "helm rollback" in sentence


def test_verify_never_uses_a_connection_twice_and_begins_again_after_a_miss(
    lookup: Lookup, told: list[str], puppet: Callable[[Answer], Puppet]
) -> None:
    count = [0]

    def answer(path: str) -> tuple[int, dict[str, Any] | bytes]:
        count[0] += path == "/info"
        slot = "blue" if path == "/info" and count[0] == 5 else "green"
        return 200, {"slot": slot, "prediction": [0]}

    one = puppet(answer)
    assert verify(one.url, lookup, told, request={"features": [1]})[0]
    assert one.connections == 5 + 6
    assert "connection 5 of 6" in told[0]


def berth(*arguments: str) -> subprocess.CompletedProcess[str]:
    """The command, as the chart runs it."""
    return subprocess.run([sys.executable, "-m", "berth", *arguments], capture_output=True, text=True, check=False)


def arguments_of(slots: Slots, **changes: str) -> list[str]:
    """What the chart's Job passes, with changes."""
    given = {
        "release": "iris",
        "active-url": slots[0].url,
        "target-url": slots[1].url,
        "target-slot": "green",
        "fingerprint": GREEN,
        "headless-host": "localhost",
        "other-mode": "serve",
        "min-ready": "1",
        "successes": "2",
        "timeout-seconds": "3",
        "bootstrap": "allow",
    }
    return ["gate", *(f"--{name}={value}" for name, value in (given | changes).items())]


def test_the_command(slots: Slots) -> None:
    done = berth(*arguments_of(slots))
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.splitlines()[-1] == "berth gate: PASSED: traffic may go to slot green"
    done = berth(*arguments_of(slots, **{"other-mode": "absent"}))
    assert done.returncode == 1
    assert done.stdout.splitlines()[-1].startswith("berth gate: REFUSED: slots.blue.mode is absent")
    assert done.stderr == ""
    done = berth("gate", "--verify", f"--active-url={slots[1].url}", "--target-slot=green", "--connections=2")
    assert done.returncode == 0
    assert "reached slot green" in done.stdout


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"fingerprint": "xyz"}, "12 hex digits"),
        ({"active-url": "http://x/path"}, "without a path"),
        ({"active-url": "ftp://x"}, "want http://host:port"),
        ({"target-slot": "red"}, "'blue', 'green'"),
        ({"request": "[1]"}, "want an object"),
        ({"request": "{"}, "not JSON"),
        ({"request": '{"features": [NaN]}'}, "not JSON"),
        ({"min-ready": "-1"}, "-1"),
        ({"api-key-file": "/nowhere"}, "cannot be read"),
    ],
)
def test_wrong_use(changes: dict[str, str], words: str) -> None:
    from click.testing import CliRunner

    from berth.cli import berth as group

    port = str(free_port())
    given = {"release": "iris", "active-url": f"http://{HOST}:{port}", "target-url": f"http://{HOST}:{port}"}
    given |= {"target-slot": "green", "fingerprint": GREEN, "headless-host": "localhost", "other-mode": "serve"}
    arguments = [f"--{name}={value}" for name, value in (given | changes).items()]
    result = CliRunner().invoke(group, ["gate", *arguments])
    assert result.exit_code == 2
    assert words in result.stderr
    assert "Traceback" not in result.output
    missing = CliRunner().invoke(group, ["gate", f"--active-url=http://{HOST}", "--target-slot=green"])
    assert (missing.exit_code, "missing --release" in missing.stderr) == (2, True)


def test_the_chart_and_the_command_agree_on_every_option() -> None:
    from berth.cli.gate import gate

    templates = Path(__file__).parents[2] / "chart" / "templates"
    text = "".join((templates / name).read_text("utf-8") for name in ("job-gate.yaml", "_check.tpl"))
    used = set(re.findall(r'(?:"|- )(--[a-z-]+)', text)) | {"--request"}
    known = {option for parameter in gate.params for option in parameter.opts}
    assert {"--fingerprint", "--verify", "--api-key-file"} <= used <= known
