#!/usr/bin/env python3
"""What watching for drift costs: one server that watches beside one that does not, in turns.

Usage: bench/watching.py [--rounds 5] [--seconds 3]

Logistic regression on iris, added with its sample, one row a request, 16 connections, two workers. Each round loads
both as fast as they go, and then at half the rate of the one that does not watch, at which the 99th percentile is
read. Memory is what a worker holds after the last round.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

import click
from cliffs import ROW
from own import serving
from wrk import run_wrk

RATE, P99, MEMORY_MB = 0.97, 1.05, 2.0
ON, OFF = "on", "off"
_SETTINGS = {ON: {}, OFF: {"watch_minutes": 0}}


@dataclass
class Turns:
    """One server's figures, one a round: requests a second, p99 in milliseconds at half of that; MB a worker."""

    rates: list[float] = field(default_factory=list)
    p99s: list[float] = field(default_factory=list)
    megabytes: float = 0.0


def fill_watched_store(folder: Path) -> Path:
    """A store with `lr`, added with its sample. Raises CalledProcessError."""
    import joblib
    import numpy as np
    from sklearn.datasets import load_iris
    from sklearn.linear_model import LogisticRegression

    features, target = load_iris(return_X_y=True)
    joblib.dump(LogisticRegression(max_iter=1000).fit(features, target), folder / "lr.joblib")
    np.savetxt(folder / "sample.csv", features, delimiter=",")
    store = folder / "store"
    command = [sys.executable, "-m", "berth", "add", str(folder / "lr.joblib"), "--name", "lr", "--store", str(store)]
    subprocess.run([*command, "--sample", str(folder / "sample.csv")], check=True, stdout=subprocess.DEVNULL)
    return store


def weigh_worker(pid: int) -> float:
    """The memory of a server's largest worker, in MB."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text("ascii").split()
    pages = max(int(Path(f"/proc/{child}/statm").read_text("ascii").split()[1]) for child in children)
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def measure(folder: Path, rounds: int, seconds: float) -> dict[str, Turns]:
    """Both servers' figures. Raises RuntimeError when a response is an error."""
    store, found, body = fill_watched_store(folder), {ON: Turns(), OFF: Turns()}, json.dumps({"features": ROW}).encode()
    with ExitStack() as stack:
        servers = {
            name: stack.enter_context(serving(store, folder / f"{name}.log", models="lr", workers=2, **own))
            for name, own in _SETTINGS.items()
        }

        def load(name: str, duration: float, rate: float | None = None) -> tuple[float, float]:
            url = f"http://127.0.0.1:{servers[name][1]}/predict"
            seen = run_wrk(url, body, folder, seconds=duration, connections=16, rate=rate)
            if seen.wrong or seen.broken:
                raise RuntimeError(f"watching {name}: {seen.wrong} errors, {seen.broken} broken connections")
            return seen.rate, seen.p99

        for at in range(rounds):
            order = (ON, OFF) if at % 2 else (OFF, ON)
            for name in order:
                load(name, 1)
                found[name].rates.append(load(name, seconds)[0])
            half = found[OFF].rates[-1] / 2
            for name in order:
                found[name].p99s.append(load(name, seconds, half)[1])
        for name, (pid, _) in servers.items():
            found[name].megabytes = weigh_worker(pid)
    return found


@click.command(help=(__doc__ or "").split("\n")[0])
@click.option("--rounds", default=5, show_default=True, help="Turns of both servers; medians are compared.")
@click.option("--seconds", default=3.0, show_default=True, help="Load per turn.")
def main(rounds: int, seconds: float) -> None:
    """Measure, print a table, and exit 1 if watching costs more than it may."""
    with tempfile.TemporaryDirectory() as name:
        found = measure(Path(name), rounds, seconds)
    on, off = found[ON], found[OFF]
    rate = median(now / then for now, then in zip(on.rates, off.rates, strict=True))
    p99 = median(now / then for now, then in zip(on.p99s, off.p99s, strict=True))
    more = on.megabytes - off.megabytes
    click.echo(f"requests/s  {median(on.rates):8,.0f} of {median(off.rates):8,.0f}  {rate:.3f}  at least {RATE}")
    click.echo(f"p99 in ms   {median(on.p99s):8.3f} of {median(off.p99s):8.3f}  {p99:.3f}  at most {P99}")
    click.echo(f"MB a worker {on.megabytes:8.1f} of {off.megabytes:8.1f}  {more:+.1f}  at most {MEMORY_MB}")
    raise SystemExit(0 if rate >= RATE and p99 <= P99 and more <= MEMORY_MB else 1)


if __name__ == "__main__":
    main()
