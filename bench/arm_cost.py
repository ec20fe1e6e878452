#!/usr/bin/env python3
"""What experiments cost: one model beside two arms of it, and beside a shadow that predicts every request again.

Usage: bench/arm_cost.py [--rounds 5] [--seconds 3]

Logistic regression on iris, one row a request, 16 connections, two workers, in turns. Requests a second are compared
at full load, one model with two arms; the 99th percentile at half of that rate, one model with one that has a shadow.
CPU time a request is that of the workers: it says more than the rate where other work shares the machine.
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

RATE, P99 = 0.95, 1.05
ONE, ARMS, SHADOW = "one model", "two arms", "a shadow"
_VERSIONS = ("1", "2")
_EXPERIMENTS: dict[str, dict[str, object]] = {
    ARMS: {"arms": [{"model": f"lr@{version}"} for version in _VERSIONS]},
    SHADOW: {"shadow": {"model": "lr@2", "share": 1}},
}


@dataclass
class Loads:
    """One server's figures, one a round: requests a second, CPU microseconds a request, p99 in ms at half the rate."""

    rates: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)
    p99s: list[float] = field(default_factory=list)


def fill_store(folder: Path) -> Path:
    """A store with two versions of `lr`. Raises CalledProcessError."""
    import joblib
    import numpy as np
    from sklearn.datasets import load_iris
    from sklearn.linear_model import LogisticRegression

    features, target = load_iris(return_X_y=True)
    np.savetxt(folder / "sample.csv", features, delimiter=",")
    for version in _VERSIONS:
        file = folder / f"{version}.joblib"
        joblib.dump(LogisticRegression(max_iter=1000, C=float(version)).fit(features, target), file)
        command = [sys.executable, "-m", "berth", "add", str(file), "--name", "lr", "--version", version]
        more = ["--store", str(folder / "store"), "--sample", str(folder / "sample.csv")]
        subprocess.run([*command, *more], check=True, stdout=subprocess.DEVNULL)
    return folder / "store"


def write_settings(folder: Path, name: str) -> dict[str, object]:
    """The settings of a server beside those that all have."""
    if name not in _EXPERIMENTS:
        return {}
    file = folder / f"{name.replace(' ', '-')}.json"
    file.write_text(json.dumps({"experiments": [{"name": "cost", "model": "lr", **_EXPERIMENTS[name]}]}), "utf-8")
    return {"experiment_file": file}


def cpu_seconds(pid: int) -> float:
    """The CPU time of a server's workers so far."""
    ticks = 0
    for child in Path(f"/proc/{pid}/task/{pid}/children").read_text("ascii").split():
        fields = Path(f"/proc/{child}/stat").read_text("ascii").rpartition(") ")[2].split()
        ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


def measure(folder: Path, rounds: int, seconds: float) -> dict[str, Loads]:
    """The figures of all servers. Raises RuntimeError when a response is an error."""
    store, body = fill_store(folder), json.dumps({"features": ROW}).encode()
    found = {name: Loads() for name in (ONE, ARMS, SHADOW)}
    with ExitStack() as stack:
        servers = {}
        for name in found:
            settings = {"models": "lr@1,lr@2", "workers": 2, **write_settings(folder, name)}
            servers[name] = stack.enter_context(serving(store, folder / f"{name}.log", **settings))

        def load(name: str, duration: float, rate: float | None = None) -> tuple[float, float, float]:
            pid, port = servers[name]
            before = cpu_seconds(pid)
            url = f"http://127.0.0.1:{port}/predict"
            seen = run_wrk(url, body, folder, seconds=duration, connections=16, rate=rate)
            if seen.wrong or seen.broken:
                raise RuntimeError(f"{name}: {seen.wrong} errors, {seen.broken} broken connections")
            return seen.rate, seen.p99, 1e6 * (cpu_seconds(pid) - before) / max(seen.good, 1)

        for at in range(rounds):
            turn = -1 if at % 2 else 1
            for name in (ONE, ARMS)[::turn]:
                load(name, 1)
                rate, _, cpu = load(name, seconds)
                found[name].rates.append(rate)
                found[name].cpu.append(cpu)
            half = found[ONE].rates[-1] / 2
            for name in (ONE, SHADOW)[::turn]:
                found[name].p99s.append(load(name, seconds, half)[1])
    return found


def compare(found: list[float], base: list[float]) -> float:
    """The median of the ratios, round by round."""
    return median(now / then for now, then in zip(found, base, strict=True))


@click.command(help=(__doc__ or "").split("\n")[0])
@click.option("--rounds", default=5, show_default=True, help="Turns of the servers; medians are compared.")
@click.option("--seconds", default=3.0, show_default=True, help="Load per turn.")
def main(rounds: int, seconds: float) -> None:
    """Measure, print a table, and exit 1 if experiments cost more than they may."""
    with tempfile.TemporaryDirectory() as name:
        found = measure(Path(name), rounds, seconds)
    one, arms, shadow = (found[name] for name in (ONE, ARMS, SHADOW))
    rate, cpu, p99 = compare(arms.rates, one.rates), compare(arms.cpu, one.cpu), compare(shadow.p99s, one.p99s)
    click.echo(f"two arms: requests/s  {median(arms.rates):8,.0f} of {median(one.rates):8,.0f}  {rate:.3f}, min {RATE}")
    click.echo(f"two arms: CPU in us   {median(arms.cpu):8.1f} of {median(one.cpu):8.1f}  {cpu:.3f}")
    click.echo(f"a shadow: p99 in ms   {median(shadow.p99s):8.3f} of {median(one.p99s):8.3f}  {p99:.3f}, max {P99}")
    raise SystemExit(0 if rate >= RATE and p99 <= P99 else 1)


if __name__ == "__main__":
    main()
