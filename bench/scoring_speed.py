#!/usr/bin/env python3
"""`berth score` beside a pandas script and `mlflow models predict`: one CSV file, one model, whole processes.

Usage: bench/scoring_speed.py [--rows 1000000] [--rounds 3] [--mlflow PYTHON] [--memory-mb 500]

The programs take turns. Each figure is the best of its rounds: wall and CPU seconds from the start of the process to
its end, so that imports count, and the peak memory of the largest process. CPU seconds are what to compare on a machine
that does other things. With --memory-mb, a file of that size is scored too, whose peak must be that of the small one.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import click

_PANDAS = """
import sys, joblib, pandas
model, frame = joblib.load(sys.argv[1]), pandas.read_csv(sys.argv[2])
frame["prediction"] = model.predict(frame)
frame[["prediction"]].to_csv(sys.argv[3], index=False)
"""
_PREPARE = """
import sys, joblib, numpy, pandas
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression
folder, rows = sys.argv[1], int(sys.argv[2])
frame, classes = load_iris(return_X_y=True, as_frame=True)
joblib.dump(LogisticRegression(max_iter=1000).fit(frame, classes), f"{folder}/model.joblib")
frame.to_csv(f"{folder}/sample.csv", index=False)
values = numpy.random.default_rng(7).normal(frame.mean(), frame.std(), (rows, 4)).round(2)
pandas.DataFrame(values, columns=frame.columns).to_csv(f"{folder}/rows.csv", index=False)
"""
_SAVE_MLFLOW = "import sys, joblib, mlflow.sklearn; mlflow.sklearn.save_model(joblib.load(sys.argv[1]), sys.argv[2])"
# What the contract asks for, as rows a second of Berth over those of the other.
_WANTED = {"pandas": 1.0, "mlflow": 5.0}
MEMORY_MIB = 300


@dataclass(frozen=True)
class Cost:
    """What one run of a program took."""

    wall_seconds: float
    cpu_seconds: float
    peak_mib: float


def run(command: Sequence[str], folder: Path) -> Cost:
    """The program's cost. Raises click.ClickException where it fails."""
    began = time.monotonic()
    with (folder / "log").open("wb") as log:
        # One process and what it waits for: the shell's `time` without the shell.
        child = os.posix_spawn(
            command[0],
            list(command),
            {**os.environ, "PYTHONWARNINGS": "ignore"},
            file_actions=[(os.POSIX_SPAWN_DUP2, log.fileno(), 1), (os.POSIX_SPAWN_DUP2, log.fileno(), 2)],
        )
        _, status, used = os.wait4(child, 0)
    if status:
        raise click.ClickException(f"{' '.join(command)} failed:\n{(folder / 'log').read_text()[-2000:]}")
    return Cost(time.monotonic() - began, used.ru_utime + used.ru_stime, used.ru_maxrss / 1024)


def commands(folder: Path, mlflow: str | None) -> dict[str, list[str]]:
    """Each program's command line."""
    rows, out = str(folder / "rows.csv"), str(folder / "out.csv")
    score = [str(Path(sys.executable).parent / "berth"), "score", "--store", str(folder / "store"), "--overwrite"]
    found = {
        "berth": [*score, rows, out],
        "pandas": [sys.executable, "-c", _PANDAS, str(folder / "model.joblib"), rows, out],
    }
    if mlflow:
        program = [str(Path(mlflow).parent / "mlflow"), "models", "predict", "--env-manager", "local"]
        found["mlflow"] = [*program, "-m", str(folder / "mlflow"), "-i", rows, "-t", "csv", "-o", out]
    return found


def best(costs: Sequence[Cost]) -> Cost:
    """The lowest of each figure; of memory the largest."""
    walls, cpus = [cost.wall_seconds for cost in costs], [cost.cpu_seconds for cost in costs]
    return Cost(min(walls), min(cpus), max(cost.peak_mib for cost in costs))


def report(rows: int, found: Mapping[str, Cost]) -> bool:
    """Print the table; whether the wanted ratios hold, by CPU seconds."""
    click.echo(f"{rows:,} rows    rows/s (wall)   rows/s (CPU)   peak MiB   berth is (wall)   (CPU)")
    holds, own = True, found["berth"]
    for name, cost in found.items():
        wall, cpu = cost.wall_seconds / own.wall_seconds, cost.cpu_seconds / own.cpu_seconds
        speeds = f"{rows / cost.wall_seconds:15,.0f} {rows / cost.cpu_seconds:14,.0f} {cost.peak_mib:10.0f}"
        click.echo(f"{name:14}{speeds} {wall:14.2f} x {cpu:6.2f} x")
        holds &= cpu >= _WANTED.get(name, 0.0)
    return holds


def prepare(folder: Path, rows: int, mlflow: str | None) -> None:
    """The model as a file, in a store and as MLflow saves it, and the rows."""
    subprocess.run([sys.executable, "-c", _PREPARE, str(folder), str(rows)], check=True)
    program = [str(Path(sys.executable).parent / "berth"), "add", str(folder / "model.joblib"), "--name", "iris"]
    sample = ["--sample", str(folder / "sample.csv"), "--store", str(folder / "store")]
    subprocess.run([*program, *sample], check=True, capture_output=True)
    if mlflow:
        subprocess.run([mlflow, "-c", _SAVE_MLFLOW, str(folder / "model.joblib"), str(folder / "mlflow")], check=True)


def measure_memory(folder: Path, megabytes: int) -> float:
    """The peak in MiB of a file of that size: the same rows again and again."""
    header, _, body = (folder / "rows.csv").read_bytes().partition(b"\n")
    with (folder / "large.csv").open("wb") as file:
        file.write(header + b"\n")
        while file.tell() < megabytes * 1_000_000:
            file.write(body)
    files = [str(folder / "large.csv"), str(folder / "large.scores.csv")]
    program = [str(Path(sys.executable).parent / "berth"), "score", "--store", str(folder / "store"), *files]
    return run(program, folder).peak_mib


@click.command(help=(__doc__ or "").split("\n")[0])
@click.option("--rows", default=1_000_000, show_default=True)
@click.option("--rounds", default=3, show_default=True)
@click.option("--mlflow", help="The Python of an environment with mlflow, pandas and scikit-learn.")
@click.option("--memory-mb", type=int, help="Score a file of that size too.")
def main(rows: int, rounds: int, mlflow: str | None, memory_mb: int | None) -> None:
    """Measure, and say whether the bars hold; exit 1 if they do not."""
    with tempfile.TemporaryDirectory(prefix="berth-scoring-") as name:
        folder = Path(name)
        prepare(folder, rows, mlflow)
        found: dict[str, list[Cost]] = {name: [] for name in commands(folder, mlflow)}
        for _ in range(rounds):
            for name, command in commands(folder, mlflow).items():
                found[name].append(run(command, folder))
        holds = report(rows, {name: best(costs) for name, costs in found.items()})
        if memory_mb:
            peak = measure_memory(folder, memory_mb)
            click.echo(f"a file of {memory_mb} MB: peak {peak:.0f} MiB, at most {MEMORY_MIB}")
            holds &= peak < MEMORY_MIB
    sys.exit(0 if holds else 1)


if __name__ == "__main__":
    main()
