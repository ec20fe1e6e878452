"""A child process that a model has taken over can do no more than say one sentence."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from berth.errors import IntegrityError, LoadError, PredictionFailed, UnsafeArtifact
from berth.loaders.formats import LoadOptions
from berth.models.model import Model
from berth.publishing.adding import AddRequest, add_version
from berth.serving.containment import Budget, Report, contain
from berth.serving.memory import free_memory
from berth.serving.notes import TrialResult, condemn_loading, loading, read_verdict, write_verdict
from berth.serving.predictor import Predictor
from berth.tensors.arrays import TensorSpec
from crashing_models import write_folder

BUDGET = Budget(10.0)


def run(task: Callable[[Report], object], budget: Budget = BUDGET, said: list[str] | None = None) -> None:
    """`task` in a child, as a model called m."""
    contain("m", lambda report: (task(report), None)[1], budget, "it was loaded", (said or []).append)


def write(report: Report, text: str) -> None:
    """Bytes on the pipe, as a child that does not keep to the rules writes them."""
    os.write(report.pipe, text.encode("utf-8", "surrogatepass"))


def test_a_task_that_ends_is_fine_and_its_lines_are_heard() -> None:
    said: list[str] = ["first"]
    run(lambda report: report.say("accelerated:\nexact"), said=said)
    assert said == ["first", "accelerated: exact"]


def test_an_error_keeps_its_class_and_text() -> None:
    def refuse(report: Report) -> None:
        raise UnsafeArtifact("os:system\nis not allowed")

    with pytest.raises(UnsafeArtifact, match=r"^os:system is not allowed$"):
        run(refuse)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ('{"failed": ["SystemExit", "x\\n\\u001b[31m' + "y" * 9000 + '"]}\n', "x"),
        ('{"failed": ["BerthError", {"a": "b"}]}\n', "a"),
        ('{"failed": 3}\n[[[[\n\x00\xff\n{"done": tru', "exit code 0"),
        ('{"step": ["an evil\\nstep", 1e308]}\n', "exit code 0 while an evil step"),
        ('{"step": [1, "x"]}\n{"say": 3}\n{"log": []}\n', "exit code 0"),
        ("x" * (1 << 20), "wrote into its parent's pipe"),
    ],
)
def test_what_a_child_writes_is_a_bounded_line(text: str, told: str) -> None:
    def forge(report: Report) -> None:
        write(report, text)
        os._exit(0)

    with pytest.raises(LoadError, match=told) as caught:
        run(forge)
    assert len(caught.value.message) <= 2200
    assert caught.value.message.isprintable()


def test_success_that_is_claimed_before_a_crash_is_none() -> None:
    def forge(report: Report) -> None:
        write(report, '{"done": null}\n')
        os.abort()

    with pytest.raises(LoadError, match=r"^m crashed with SIGABRT while it was loaded"):
        run(forge)


@pytest.mark.parametrize(
    ("budget", "told"),
    [(Budget(0.5), "did not end within [01] s"), (Budget(30.0, 0.5), "did not end within"), (Budget(0.5, 99.0), "did")],
)
def test_time_is_bounded_by_the_clock_and_by_the_cpu(budget: Budget, told: str) -> None:
    def spin(report: Report) -> None:
        while True:
            pass

    with pytest.raises(LoadError, match=f"{told}.*; set BERTH_LOAD_SECONDS"):
        run(spin, budget)


def test_a_step_has_time_of_its_own() -> None:
    def twice(report: Report) -> None:
        for _ in range(4):
            report.step("it predicted", 1.0)
            time.sleep(0.5)

    run(twice, Budget(1.5))


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux holds a process to it")
def test_memory_is_bounded() -> None:
    with pytest.raises(LoadError, match=r"more than 0.1 GB of memory; .* BERTH_LOAD_MEMORY_BYTES"):
        run(lambda report: np.ones(50_000_000), Budget(10.0, memory_bytes=100_000_000))


def test_a_child_has_nothing_of_its_parents() -> None:
    with socket.socket() as connection:

        def look(report: Report) -> None:
            import resource

            limits = resource.getrlimit(resource.RLIMIT_CORE)
            found = sorted(os.listdir("/proc/self/fd"), key=int)
            try:
                os.fstat(connection.fileno())
                found.append("the connection")
            except OSError:
                pass
            os.write(1, b"output\n")
            raise LoadError(json.dumps([limits, len(found)]))

        with pytest.raises(LoadError) as caught:
            run(look)
    limits, count = json.loads(caught.value.message)
    assert limits == [0, 0]
    assert count <= 6, "standard streams, the pipe, /dev/null and the listing itself"


def test_what_a_child_started_ends_too(tmp_path: Path) -> None:
    def start(report: Report) -> None:
        child = subprocess.Popen(["sleep", "60"])
        (tmp_path / "pid").write_text(str(child.pid))
        os._exit(5)

    with pytest.raises(LoadError, match="exit code 5"):
        run(start)
    status = Path(f"/proc/{(tmp_path / 'pid').read_text()}/stat")
    deadline = time.monotonic() + 5
    while status.exists() and status.read_text().split()[2] != "Z" and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not status.exists() or status.read_text().split()[2] == "Z"


def test_add_notices_files_that_changed(tmp_path: Path) -> None:
    code = (
        "import pathlib\ndef load(directory):\n    (pathlib.Path(directory) / 'model.py').write_text('evil = 1')\n"
        "    return lambda inputs: {'y': inputs['x']}\n"
    )
    request = AddRequest("m", "1", "python", inputs=(TensorSpec("x", "FP64", (-1, 1)),))
    with pytest.raises(IntegrityError):
        add_version(tmp_path / "store", write_folder(tmp_path / "m", code), request, LoadOptions(allow_code=True))
    assert not list((tmp_path / "store").rglob("model.json"))


def test_a_result_is_for_one_digest(tmp_path: Path) -> None:
    write_verdict(tmp_path, "m@1", TrialResult("one", "crashed"))
    assert read_verdict(tmp_path, "m@1", "one") == TrialResult("one", "crashed")
    assert read_verdict(tmp_path, "m@1", "two") is None
    assert read_verdict(tmp_path, "n@1", "one") is None


def test_the_note_of_a_dead_worker_condemns_what_it_loaded(tmp_path: Path) -> None:
    trials = tmp_path / "trials"
    trials.mkdir()
    with loading(trials, "m@1", "one"):
        assert condemn_loading(tmp_path, os.getpid()) == "m@1"
    found = read_verdict(trials, "m@1", "one")
    assert found is not None
    assert found.reason.startswith("a worker crashed while it loaded this model")
    assert condemn_loading(tmp_path, os.getpid()) is None


def test_an_exit_in_a_prediction_is_its_requests_error() -> None:
    def leave(tensors: object, outputs: object) -> dict[str, np.ndarray]:
        raise SystemExit(3)

    spec = TensorSpec("x", "FP64", (-1, 1))
    model = Model("m", "1", "python", "", (spec,), (spec,), leave)
    with pytest.raises(PredictionFailed):
        Predictor(1, 10).predict(model, {"x": np.zeros((1, 1))}, ["x"], float("inf"))


def test_free_memory_is_the_least_of_cgroups_and_machine(tmp_path: Path) -> None:
    group = tmp_path / "cgroup" / "pod"
    group.mkdir(parents=True)
    (tmp_path / "self").write_text("0::/pod\n")
    (tmp_path / "meminfo").write_text("MemTotal: 9 kB\nMemAvailable:    8000 kB\n")
    files = (tmp_path / "cgroup", tmp_path / "self", tmp_path / "meminfo")
    assert free_memory(*files) == 8000 * 1024
    (group / "memory.max").write_text("1000000\n")
    (group / "memory.current").write_text("600000\n")
    (group / "memory.stat").write_text("anon 5\ninactive_file 100000\n")
    assert free_memory(*files) == 500000
    (group / "memory.max").write_text("max\n")
    assert free_memory(*files) == 8000 * 1024
    assert free_memory(tmp_path / "no", tmp_path / "no", tmp_path / "no") is None
