"""`berth score` as people run it: exit codes, what it says, and what is left when it is killed."""

from __future__ import annotations

import csv
import io
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from berth.cli.main import main

PEOPLE = "id,age,city,member\n1,20.5,Rome,1\n2,50,Oslo,0\n"
ROWS = 6000


@dataclass(frozen=True)
class Ran:
    """What the command printed, and its exit code."""

    code: int
    out: str
    err: str


Run = Callable[..., Ran]


@pytest.fixture
def run(capfd: pytest.CaptureFixture[str], store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """run("in.csv", "out.csv", "--keep", "id"): the command in this process, in a fresh folder, over the store."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("BERTH_MODEL_STORE", str(store))
    monkeypatch.setenv("BERTH_MODELS", "people@1,iris")

    def call(*arguments: object) -> Ran:
        with pytest.raises(SystemExit) as ended:
            main(["score", *map(str, arguments)])
        captured = capfd.readouterr()
        assert "Traceback" not in captured.err + captured.out
        return Ran(int(ended.value.code or 0), captured.out, captured.err)

    return call


def test_help_has_examples(run: Run) -> None:
    ran = run("--help")
    assert ran.code == 0
    assert "berth score customers.csv scores.csv" in ran.out


def test_a_file_that_is_fine(run: Run, tmp_path: Path) -> None:
    (tmp_path / "in.csv").write_text(PEOPLE)
    ran = run("in.csv", "out.csv")
    assert ran.code == 0
    assert ran.out.startswith("people@1: 2 rows, 0 failed, ")
    assert ran.out.endswith(" rows/s -> out.csv\n")
    assert ran.err == "not used: id\n"
    assert (tmp_path / "out.csv").read_text() == "prediction\nno\nyes\n"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.csv", "out.csv"]
    again = run("in.csv", "out.csv")
    assert (again.code, again.out) == (3, "")
    assert again.err == "berth: out.csv is there already; choose another name, or replace it with --overwrite\n"
    assert run("in.csv", "out.csv", "--overwrite", "--keep", "id, age").code == 0
    assert (tmp_path / "out.csv").read_text() == "id,age,prediction\n1,20.5,no\n2,50,yes\n"


def test_rows_that_fail(run: Run, tmp_path: Path) -> None:
    (tmp_path / "in.csv").write_text(PEOPLE + "3,old,Rome,1\n")
    ran = run("in.csv", "out.jsonl", "--keep", "id", "--outputs", "probabilities,prediction", "--errors", "why.jsonl")
    assert ran.code == 1
    assert ran.out.startswith("people@1: 3 rows, 1 failed, ")
    assert ran.err == "why they failed: why.jsonl\n"
    rows = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert list(rows[0]) == ["id", "probabilities", "prediction"]
    assert rows[2] == {"id": "3", "probabilities": None, "prediction": None}
    failure = json.loads((tmp_path / "why.jsonl").read_text())
    assert (failure["row"], failure["code"]) == (3, "invalid_input")


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["absent.csv", "out.csv"], 2, "INPUT: there is no file 'absent.csv'"),
        (["in.csv", "/tmp", "--overwrite"], 2, "OUTPUT: '/tmp' is a directory; name a file in it"),
        (["in.csv"], 2, "Missing argument 'OUTPUT'"),
        (["in.csv", "out.txt"], 2, "'out.txt' ends in none of .csv, .jsonl, .ndjson, .parquet, .pq; name its format"),
        (["in.csv", "out.jsonl", "--format", "parquet"], 2, "--format parquet, but by their endings the files are csv"),
        (["in.csv", "./in.csv"], 2, "must be three different files"),
        (["in.csv", "out.csv", "--errors", "out.csv"], 2, "must be three different files"),
        (["ftp://host/in.csv", "out.csv"], 2, "use a path, file:///PATH, or one of s3://, gs://, az://, abfs://"),
        (["s3://bucket", "out.csv"], 2, "names no file or folder: want s3://BUCKET/PATH"),
        (["in.csv", "file://host/out.csv"], 2, "want file:///PATH"),
        (["in.csv", "out.csv", "--chunk-rows", "0"], 2, "--chunk-rows"),
        (["in.csv", "out.csv", "--outputs", "score"], 2, "unknown output 'score'; the model has 'prediction'"),
        (["in.csv", "out.csv", "--keep", "id,id"], 2, "names one twice"),
        (["in.csv", "out.csv", "--keep", "prediction"], 2, "--keep prediction: an output has that name"),
        (["in.csv", "out.csv", "--keep", "name"], 3, "no column 'name' to keep; the input has id, age, city, member"),
        (["in.csv", "out.csv", "--model", "roses"], 3, "no model 'roses' in the store"),
        (["in.csv", "out.csv", "--store", "absent"], 3, "is not a directory"),
        (["in.csv", "no/such/folder/out.csv"], 75, "No such file or directory"),
    ],
)
def test_a_wrong_use_leaves_nothing(run: Run, tmp_path: Path, arguments: list[str], code: int, said: str) -> None:
    (tmp_path / "in.csv").write_text(PEOPLE)
    ran = run(*arguments)
    assert said in " ".join(ran.err.replace("│", " ").split())
    assert (ran.code, ran.out) == (code, "")
    assert [path.name for path in tmp_path.iterdir()] == ["in.csv"]


def test_files_by_uri_and_without_endings(run: Run, tmp_path: Path) -> None:
    (tmp_path / "of today").write_text(PEOPLE)
    ran = run(f"file://{tmp_path}/of%20today", tmp_path / "out", "--format", "csv", "--model", "people")
    assert ran.code == 0
    assert (tmp_path / "out").read_text() == "prediction\nno\nyes\n"


def test_parquet_without_its_library_is_told(tmp_path: Path) -> None:
    (tmp_path / "in.csv").write_text(PEOPLE)
    script = "import sys; sys.modules['pyarrow'] = None; from berth.cli.main import berth; berth()"
    command = [sys.executable, "-c", script, "score", "in.csv", "out.parquet", "--store", "store"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 3
    assert 'pip install "berth[parquet]"' in done.stderr


def wait_for_rows(state: Path, process: subprocess.Popen[bytes]) -> None:
    """Until the run has noted that rows are done."""
    deadline = time.monotonic() + 30
    while not state.exists():
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.005)


@pytest.mark.parametrize(("stop", "code"), [(signal.SIGKILL, -signal.SIGKILL), (signal.SIGTERM, 75)])
def test_a_process_that_is_stopped_goes_on(run: Run, tmp_path: Path, stop: signal.Signals, code: int) -> None:
    rows = ("old" if at % 500 == 7 else 20 + at % 60 / 7 for at in range(ROWS))
    (tmp_path / "in.csv").write_text("age,city,member\n" + "".join(f"{age},Rome,1\n" for age in rows))
    options = ("--outputs", "prediction,probabilities", "--chunk-rows", "20", "--keep", "age")
    assert run("in.csv", "whole.csv", *options, "--errors", "why.jsonl").code == 1
    why = (tmp_path / "why.jsonl").read_bytes()
    command = [
        sys.executable,
        "-m",
        "berth",
        "score",
        "in.csv",
        "out.csv",
        *options,
        "--errors",
        "why.jsonl",
        "--overwrite",
    ]
    process = subprocess.Popen(command, env={**os.environ}, stderr=subprocess.DEVNULL)
    wait_for_rows(tmp_path / "out.csv.part.json", process)
    process.send_signal(stop)
    assert process.wait(10) == code
    assert not (tmp_path / "out.csv").exists()
    assert 0 < json.loads((tmp_path / "out.csv.part.json").read_text())["done"]["rows"] < ROWS
    ran = run("in.csv", "out.csv", *options, "--errors", "why.jsonl", "--overwrite")
    assert ran.code == 1
    assert "an earlier run had scored " in ran.err
    assert (tmp_path / "out.csv").read_bytes() == (tmp_path / "whole.csv").read_bytes()
    assert (tmp_path / "why.jsonl").read_bytes() == why
    found = list(csv.DictReader(io.StringIO((tmp_path / "out.csv").read_text())))
    assert [row["prediction"] == "" for row in found] == [at % 500 == 7 for at in range(ROWS)]


def test_shards_of_an_indexed_job(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "in.csv").write_text(PEOPLE)
    assert run("in.csv", "whole.csv", "--chunk-rows", "1").code == 0
    monkeypatch.setenv("BERTH_SHARDS", "2")
    ran = run("in.csv", "parts", "--chunk-rows", "1")
    assert ran.code == 2
    assert "BERTH_SHARDS=2 needs JOB_COMPLETION_INDEX from 0 to 1, not ''" in ran.err
    for index in ("0", "1"):
        monkeypatch.setenv("JOB_COMPLETION_INDEX", index)
        assert run("in.csv", "parts", "--chunk-rows", "1", "--overwrite").out.startswith("people@1: 1 rows, 0 failed")
    monkeypatch.delenv("BERTH_SHARDS")
    assert run("--join", "parts", "joined.csv").out == "people@1: 2 rows, 0 failed, 2 shards -> joined.csv\n"
    assert (tmp_path / "joined.csv").read_bytes() == (tmp_path / "whole.csv").read_bytes()
    assert (tmp_path / "parts" / "part-00001-of-00002.csv").read_text() == "prediction\nyes\n"
    ran = run("--join", "parts", "joined.csv")
    assert (ran.code, "is there already" in ran.err) == (3, True)
    assert run("in.csv", "parts", "--shard", "2/2").code == 2
