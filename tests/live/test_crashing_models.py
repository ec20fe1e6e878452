"""A model that ends its process, hangs or eats the memory: one line for people, `failed` on /health, others served."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from berth.cli.main import main
from crashing_models import CRASHING, LIMITS, put, second_time, write_folder
from live.berths import Serve, ask, start_berth
from live.server import Server, wait_until

FLOWER = {"features": [5.1, 3.5, 1.4, 0.2]}
Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    """run("verify", …): exit code and output of the command under LIMITS, in this process, which must live."""
    for name, value in LIMITS.items():
        monkeypatch.setenv(f"BERTH_{name.upper()}", value)

    def call(*arguments: object) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as ended:
            main([str(argument) for argument in arguments])
        captured = capfd.readouterr()
        return int(ended.value.code or 0), captured.out, captured.err

    return call


@pytest.fixture(scope="module")
def crashing_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Every crashing model, with digests that are right."""
    store = tmp_path_factory.mktemp("crashing")
    for name, (code, _) in CRASHING.items():
        put(store, name, code)
    return store


@pytest.mark.parametrize("name", CRASHING)
def test_add_says_it_in_one_line_and_leaves_nothing(run: Run, tmp_path: Path, name: str) -> None:
    code, told = CRASHING[name]
    began = time.monotonic()
    ended, out, err = run("add", write_folder(tmp_path / "m", code), "--name", name, "--input", "x:FP64:-1,1",
                          "--store", tmp_path / "store")  # fmt: skip
    assert (ended, out) == (1, "")
    assert told in err
    assert err.startswith("berth: ")
    assert err.count("\n") == 1
    assert not list((tmp_path / "store").rglob("*.*"))
    assert time.monotonic() - began < 10


@pytest.mark.parametrize("name", CRASHING)
def test_predict_says_it_in_one_line(run: Run, tmp_path: Path, crashing_store: Path, name: str) -> None:
    (tmp_path / "row.json").write_text('{"features": [1.0]}')
    began = time.monotonic()
    ended, out, err = run("predict", tmp_path / "row.json", "--model", name, "--store", crashing_store)
    assert (ended, out) == (1, "")
    assert CRASHING[name][1] in err
    assert err.count("\n") == 1
    assert time.monotonic() - began < 10


def test_verify_goes_on_after_each(run: Run, crashing_store: Path) -> None:
    ended, out, err = run("verify", "--store", crashing_store)
    assert ended == 1
    assert err == f"{len(CRASHING)} of {len(CRASHING)} versions failed\n"
    lines = {line.split()[1].partition("@")[0]: line for line in out.splitlines()}
    assert {name: CRASHING[name][1] in lines[name] for name in CRASHING} == dict.fromkeys(CRASHING, True)


@pytest.mark.parametrize("command", ["score", "openapi", "optimize"])
def test_the_other_commands_try_it_first(run: Run, tmp_path: Path, crashing_store: Path, command: str) -> None:
    (tmp_path / "rows.csv").write_text("x\n1\n")
    arguments: list[object] = {
        "score": ["score", tmp_path / "rows.csv", tmp_path / "out.csv", "--model", "segv"],
        "openapi": ["openapi", "--models", "segv"],
        "optimize": ["optimize", "segv", "--method", "int8", "--sample", tmp_path / "rows.csv"],
    }[command]  # type: ignore[assignment]
    ended, out, err = run(*arguments, "--store", crashing_store)
    assert (ended, out) == (3 if command == "score" else 1, "")
    assert err.startswith("berth: segv@1 crashed with SIGSEGV")


def test_inspect_loads_nothing(run: Run, crashing_store: Path) -> None:
    ended, out, _ = run("inspect", "segv@1", "--store", crashing_store)
    assert ended == 0
    assert '"python"' in out


def _settled(server: Server) -> bool:
    return "loading" not in str(ask(server, "GET", "/health")[1].get("models", "loading"))


@pytest.mark.live
def test_a_server_serves_the_others_and_says_what_failed(
    serve: Serve, store: Path, crashing_store: Path, tmp_path: Path, run_dir: Path
) -> None:
    own = Path(shutil.copytree(crashing_store, tmp_path / "own"))
    shutil.copytree(store / "iris" / "1", own / "iris" / "1")
    server = start_berth(serve, own, run_dir, workers=2, models=",".join(["iris", *CRASHING]), **LIMITS)
    workers = server.wait_workers(2)
    wait_until(lambda: _settled(server), "every model to settle", 90)
    status, health = ask(server, "GET", "/health")
    assert status == 503
    assert health["models"].pop("iris@1")["state"] == "ready"
    for name, (_, told) in CRASHING.items():
        state = health["models"][f"{name}@1"]
        assert state["state"] == "failed"
        assert told in state["reason"]
        assert "\n" not in state["reason"]
    assert ask(server, "GET", "/readyz")[0] == 503
    assert {ask(server, "POST", "/predict", FLOWER)[0] for _ in range(4)} == {200}
    assert server.workers() == workers, "no worker died"
    assert server.log().count("Booting worker") == 2
    for name in CRASHING:
        told_lines = [line for line in server.log_lines() if line.get("message", "").startswith(f"{name}@1 failed: ")]
        assert len(told_lines) == 2, "one line a worker"


@pytest.mark.live
@pytest.mark.parametrize(
    "deed",
    [
        "os.kill(os.getpid(), signal.SIGSEGV)",
        *(pytest.param(f"os._exit({status})", marks=pytest.mark.slow) for status in (3, 4, 0)),
    ],
)
def test_what_kills_a_worker_is_not_tried_again(
    serve: Serve, store: Path, tmp_path: Path, run_dir: Path, deed: str
) -> None:
    own, marks = tmp_path / "own", tmp_path / "marks"
    marks.mkdir()
    shutil.copytree(store / "iris" / "1", own / "iris" / "1")
    put(own, "sly", second_time(marks / "loaded", deed))
    server = start_berth(serve, own, run_dir, workers=1, models="sly,iris", **LIMITS)
    wait_until(lambda: server.log().count("Booting worker") == 2, "a worker to die, and one in its place", 60)
    wait_until(lambda: len(server.workers()) == 1 and _settled(server), "the replacement to settle", 60)
    models = ask(server, "GET", "/health")[1]["models"]
    assert models["iris@1"]["state"] == "ready"
    assert models["sly@1"]["state"] == "failed"
    assert models["sly@1"]["reason"].startswith("a worker crashed while it loaded this model")
    assert ask(server, "POST", "/predict", {**FLOWER, "model": "iris"})[0] == 200
    assert len(list(marks.glob("tried-*"))) == 1
    assert server.log().count("Booting worker") == 2
