"""The commands as people run them: what they print, where, and with which exit code."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import joblib
import pytest
from sklearn.linear_model import LinearRegression

from berth import __version__, cli
from berth.cli.main import MODULES, berth, main
from berth.settings import TABLE, variable

COMMANDS = ["serve", "add", "list", "inspect", "verify", "predict", "settings", "drain"]
ROW = {"features": [5.1, 3.5, 1.4, 0.2]}


@dataclass(frozen=True)
class Ran:
    """What a command printed, and its exit code."""

    code: int
    out: str
    err: str


Run = Callable[..., Ran]


@pytest.fixture
def run(capfd: pytest.CaptureFixture[str]) -> Run:
    """run("list", "--store", path): the command in this process."""

    def call(*arguments: object) -> Ran:
        with pytest.raises(SystemExit) as ended:
            main([str(argument) for argument in arguments])
        captured = capfd.readouterr()
        assert "Traceback" not in captured.err + captured.out
        return Ran(int(ended.value.code or 0), captured.out, captured.err)

    return call


@pytest.fixture
def own(store: Path, tmp_path: Path) -> Path:
    """A copy of the store that a test may damage."""
    return Path(shutil.copytree(store, tmp_path / "own"))


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A small fitted regression."""
    joblib.dump(LinearRegression().fit([[0.0, 1.0], [1.0, 3.0]], [1.0, 4.0]), tmp_path / "sum.joblib")
    return tmp_path / "sum.joblib"


def written(path: Path, content: Any) -> Path:
    """A file with text, or with a document as JSON."""
    path.write_text(content if isinstance(content, str) else json.dumps(content), "utf-8")
    return path


@pytest.mark.parametrize("command", COMMANDS)
def test_help_has_examples(run: Run, command: str) -> None:
    ran = run(command, "--help")
    assert ran.code == 0
    assert f"\n  berth {command}" in ran.out or f" berth {command}" in ran.out.split("Usage:")[1]
    assert len(ran.out.splitlines()) > 6


def test_help_of_all_and_the_version(run: Run) -> None:
    for arguments in (["--help"], ["-h"]):
        ran = run(*arguments)
        assert ran.code == 0
        assert "berth serve model.joblib" in ran.out
        assert set(COMMANDS) <= set(berth.commands)
        assert all(f"\n  {command} " in ran.out for command in berth.commands)
    assert run("--version").out == f"berth, version {__version__}\n"


def test_every_command_of_every_module_can_be_run() -> None:
    modules = {f"berth.cli.{module}": import_module(f"berth.cli.{module}") for module in set(MODULES.values())}
    named = [command.name for module in modules.values() for command in module.COMMANDS]
    assert sorted(named) == sorted(berth.commands)
    files = {f"berth.cli.{path.stem}" for path in Path(cli.__path__[0]).glob("*_command*.py")}
    assert files == set(modules)


def test_a_command_imports_no_other() -> None:
    code = "import sys, berth.cli.main as m; m.berth.commands['drain']; print('berth.cli.score_command' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout == "False\n"


@pytest.mark.parametrize(
    "arguments",
    [["nonsense"], ["list", "--nonsense"], ["add"], ["add", "/no/such/file", "--name", "x"], ["serve", "--port", "0"]],
)
def test_a_wrong_command_is_2(run: Run, arguments: list[str]) -> None:
    ran = run(*arguments)
    assert ran.code == 2
    assert "Usage: " in ran.err


def test_as_a_process() -> None:
    command = [sys.executable, "-m", "berth"]
    good = subprocess.run([*command, "settings", "--json"], capture_output=True, text=True, check=False)
    assert (good.returncode, good.stderr) == (0, "")
    assert len(json.loads(good.stdout)) == len(TABLE)
    wrong = subprocess.run([*command, "settings"], capture_output=True, text=True, check=False, env={"BERTH_PROT": "1"})
    assert (wrong.returncode, wrong.stdout) == (2, "")
    assert wrong.stderr == "berth: BERTH_PROT is not a setting; did you mean BERTH_PORT?\n"


def test_add_and_list(run: Run, file: Path, tmp_path: Path) -> None:
    store = tmp_path / "store"
    sample = written(tmp_path / "X.csv", "a,b\n0,1\n1,3\n")
    added = run("add", file, "--name", "sum", "--sample", sample, "--metadata", "auc=0.9", "--metadata", "by=NaN",
                "--store", store)  # fmt: skip
    assert added.code == 0
    assert added.out.startswith("added sum@1 (joblib, sha256 ")
    assert "input features: FP64 [-1, 2]" in added.out
    manifest = json.loads((store / "sum" / "1" / "model.json").read_text())
    assert [column["name"] for column in manifest["metadata"].pop("profile")["columns"]] == ["a", "b"]
    assert manifest["metadata"] == {"auc": 0.9, "by": "NaN", "deterministic": True}
    assert run("add", file, "--name", "sum", "--store", store).out.startswith("added sum@2")
    assert (
        run("add", file, "--name", "bare", "--sample", sample, "--no-profile", "--store", tmp_path / "bare").code == 0
    )
    assert "profile" not in (tmp_path / "bare" / "bare" / "1" / "model.json").read_text()
    rows = json.loads(run("list", "--json", "--store", store).out)
    assert [(row["name"], row["version"], row["latest"]) for row in rows] == [("sum", "1", False), ("sum", "2", True)]
    assert rows[0]["sha256"] == manifest["files"]["sum.joblib"]["sha256"]
    table = run("list", "--store", store)
    assert table.code == 0
    assert "2 (latest)" in table.out


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["--name", "sum", "--version", "1"], 1, "sum@1 is already in the store and versions never change"),
        (["--name", "a/b"], 1, "cannot be a model's name"),
        (["--name", "sum", "--version", "latest"], 1, "cannot be a version"),
        (["--name", "sum", "--format", "onnx"], 1, "wants exactly one file ending in .onnx"),
        (["--name", "sum", "--format", "exe"], 2, "--format"),
        (["--name", "sum", "--metadata", "x"], 2, "want KEY=VALUE"),
        (["--name", "sum", "--input", "x"], 2, "want NAME:DATATYPE:SHAPE"),
        (["--name", "sum", "--input", "x:FP64:-2"], 2, "want NAME:DATATYPE:SHAPE"),
        (["--name", "sum", "--architecture", "a:b", "--arguments", "{"], 2, "--arguments is not JSON"),
    ],
)
def test_add_refuses(run: Run, file: Path, tmp_path: Path, arguments: list[str], code: int, said: str) -> None:
    store = tmp_path / "store"
    assert run("add", file, "--name", "sum", "--version", "1", "--store", store).code == 0
    ran = run("add", file, *arguments, "--store", store)
    assert ran.code == code
    assert said in " ".join(ran.err.split())
    assert ran.out == ""


def test_add_refuses_what_would_run_code(run: Run, tmp_path: Path) -> None:
    from pickle import dumps

    (tmp_path / "evil.pkl").write_bytes(dumps(Evil()))
    ran = run("add", tmp_path / "evil.pkl", "--name", "evil", "--store", tmp_path / "store")
    assert ran.code == 1
    assert "system" in ran.err
    assert not (tmp_path / "store" / "evil" / "1").exists()
    inspected = run("inspect", tmp_path / "evil.pkl")
    assert inspected.code == 1
    assert "REFUSED" in inspected.out


class Evil:
    """Would run a command when it is unpickled."""

    def __reduce__(self) -> Any:
        import os

        return os.system, ("false",)


def test_list_without_a_store(run: Run, tmp_path: Path) -> None:
    ran = run("list", "--store", tmp_path / "absent")
    assert ran.code == 1
    assert "is not a directory; make it with `berth add FILE`" in ran.err


def test_inspect_a_file_and_a_version(run: Run, store: Path, file: Path) -> None:
    ran = run("inspect", file)
    assert ran.code == 0
    assert "sum.joblib: joblib" in ran.out
    assert "allowed  sklearn.linear_model._base:LinearRegression" in ran.out
    ran = run("inspect", "iris@1", "--store", store)
    assert ran.code == 0
    assert '"name": "iris"' in ran.out
    assert "profile of" not in run("inspect", "prices@1", "--store", store).out
    ran = run("inspect", "people@1", "--store", store)
    table = ran.out[ran.out.index("profile of") :]
    assert re.search(r"column +kind +bins +missing +values", table)
    assert re.search(r"city +categorical +\d+ +\d+\.\d% ", table)
    assert run("inspect", "roses", "--store", store).code == 1


def test_verify(run: Run, own: Path) -> None:
    ran = run("verify", "--store", own)
    assert (ran.code, ran.err) == (0, "")
    assert sorted(ran.out.split()[1::2]) == ["iris@1", "iris@2", "people@1", "prices@1"]
    artifact = own / "iris" / "1" / "iris-1.joblib"
    artifact.write_bytes(artifact.read_bytes()[:-1] + b"x")
    for options in ([], ["--digests-only"]):
        ran = run("verify", "--store", own, *options)
        assert ran.code == 1
        assert "FAILED  iris@1: iris-1.joblib has sha256" in ran.out
        assert "ok      iris@2" in ran.out
        assert ran.err == "1 of 4 versions failed\n"
    assert run("verify", "iris@2", "--store", own).code == 0
    assert run("verify", "iris@9", "--store", own).code == 1


def test_verify_compares_the_example(run: Run, own: Path) -> None:
    path = own / "iris" / "1" / "model.json"
    document = json.loads(path.read_text())
    document["example"]["outputs"]["prediction"][0] = 2
    path.write_text(json.dumps(document))
    assert "the example's prediction should be [2" in run("verify", "iris@1", "--store", own).out
    assert run("verify", "iris@1", "--digests-only", "--store", own).code == 0


@pytest.mark.parametrize("damage", ["{", '{"schema": 1}', '{"schema": 1, "schema": 1}'])
def test_verify_a_broken_manifest(run: Run, own: Path, damage: str) -> None:
    (own / "iris" / "1" / "model.json").write_text(damage)
    ran = run("verify", "--store", own)
    assert ran.code == 1
    assert "FAILED  iris@1: model.json: " in ran.out
    assert run("list", "--store", own).code == 0


def test_predict_json_and_csv(run: Run, store: Path, tmp_path: Path) -> None:
    answer = run("predict", written(tmp_path / "r.json", {**ROW, "outputs": ["prediction"]}), "--model", "iris@1",
                 "--store", store)  # fmt: skip
    assert (answer.code, json.loads(answer.out)) == (0, {"prediction": [0], "model": "iris", "version": "1"})
    assert json.loads(run("predict", tmp_path / "r.json", "--store", store).out)["version"] == "2"
    people = written(tmp_path / "people.csv", "city,member,age\nRome,1,20.5\n123,0,50\n")
    answer = run("predict", people, "--model", "people", "--store", store)
    assert json.loads(answer.out)["prediction"] == ["no", "yes"]
    prices = written(tmp_path / "prices.csv", "x,y\n0.12345678901234,1\n")
    answer = run("predict", prices, "--model", "prices", "--store", store)
    assert json.loads(answer.out)["prediction"] == [pytest.approx(1.12345678901234, abs=1e-13)]


@pytest.mark.parametrize(
    ("name", "content", "code", "said"),
    [
        ("r.json", "{", 2, "not JSON"),
        ("r.json", '{"features": [NaN]}', 2, "not JSON"),
        ("r.json", '{"features": 1, "features": 1}', 2, "is duplicated"),
        ("r.json", "[1]", 2, "must hold an object"),
        ("r.json", {"features": [1]}, 1, "got 1 values in a row, want 4"),
        ("r.json", {**ROW, "outputs": ["x"]}, 1, "unknown output 'x'"),
        ("r.csv", "a,b\n1\n", 1, "row 1 has 1 values"),
        ("r.csv", "a,b\n1,2\n", 1, "missing column"),
        ("r.csv", "", 1, "empty"),
    ],
)
def test_predict_refuses(run: Run, store: Path, tmp_path: Path, name: str, content: Any, code: int, said: str) -> None:
    ran = run("predict", written(tmp_path / name, content), "--model", "iris@1", "--store", store)
    assert ran.code == code
    assert said in " ".join(ran.err.split())
    assert ran.out == ""


def test_predict_from_an_empty_store(run: Run, tmp_path: Path) -> None:
    (tmp_path / "store").mkdir()
    ran = run("predict", written(tmp_path / "r.json", ROW), "--store", tmp_path / "store")
    assert ran.code == 1
    assert "holds no model; add one" in ran.err


def test_settings_tell_where_values_come_from(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BERTH_PORT", "9000")
    monkeypatch.setenv("BERTH_MODEL_STORE", "s3://me:secret@bucket/x")
    rows = {row["name"]: row for row in json.loads(run("settings", "--json").out)}
    assert set(rows) == {variable(setting) for setting in TABLE}
    assert (rows["BERTH_PORT"]["value"], rows["BERTH_PORT"]["source"]) == ("9000", "environment")
    assert rows["BERTH_HOST"]["source"] == "default"
    table = run("settings")
    assert table.code == 0
    assert "secret" not in table.out + json.dumps(rows)
    monkeypatch.setenv("BERTH_PORT", "many")
    assert run("settings") == Ran(2, "", "berth: BERTH_PORT='many' must be a whole number\n")


def test_drain(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert run("drain").code == 2
    assert "is not the run directory of a server" in run("drain", "--run-dir", tmp_path).err
    (tmp_path / "workers").mkdir()
    ran = run("drain", "--run-dir", tmp_path)
    assert ran.code == 0
    assert (tmp_path / "drain").exists()
    (tmp_path / "drain").unlink()
    monkeypatch.setenv("BERTH_RUN_DIR", str(tmp_path))
    assert run("drain").code == 0
    assert (tmp_path / "drain").exists()


@pytest.mark.parametrize(
    ("environment", "code", "said"),
    [
        ({"BERTH_MODEL_STORE": "/no/such/store"}, 1, "is not a directory; make it with `berth add FILE`"),
        ({"BERTH_MODEL_STORE": "s3://bucket/x"}, 2, "BERTH_MODEL_STORE"),
        ({"BERTH_MODELS": "roses"}, 1, "no model 'roses' in the store; there is iris, people, prices"),
        ({"BERTH_WORKERS": "0"}, 2, "BERTH_WORKERS='0' must be at least 1"),
        ({"BERTH_BATCH_MAXROWS": "8"}, 2, "did you mean BERTH_BATCH_MAX_ROWS?"),
    ],
)
def test_serve_stops_before_it_starts(
    run: Run, store: Path, monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], code: int, said: str
) -> None:
    monkeypatch.setenv("BERTH_MODEL_STORE", str(store))
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    ran = run("serve")
    assert ran.code == code
    assert said in ran.err


def test_a_disk_that_refuses_is_one_line(run: Run, tmp_path: Path, file: Path) -> None:
    written(tmp_path / "store", "a file")
    ran = run("add", file, "--name", "sum", "--store", tmp_path / "store")
    assert ran.code == 1
    assert ran.err.strip().startswith("berth: sum@1 cannot be written to the store")
