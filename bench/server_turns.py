"""Servers that differ in a setting, loaded in turns: rates at full load, and the 99th percentile at half of it."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

from own import list_workers, memory_mib, serving
from servers import cpu_seconds
from wrk import Seen, run_wrk

ROW = [5.1, 3.5, 1.4, 0.2]
_BODY = json.dumps({"features": ROW}).encode()


@dataclass
class Turns:
    """One server's figures, one a round: requests a second, CPU microseconds a request, p99 in ms at half the rate.

    `mib` is the memory of its largest worker in the end.
    """

    rates: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)
    p99s: list[float] = field(default_factory=list)
    mib: float = 0.0


def fill_iris_store(folder: Path, versions: Sequence[str] = ("1",)) -> Path:
    """A store with these versions of `lr`, a logistic regression added with its sample. Raises CalledProcessError."""
    import joblib
    import numpy as np
    from sklearn.datasets import load_iris
    from sklearn.linear_model import LogisticRegression

    features, target = load_iris(return_X_y=True)
    np.savetxt(folder / "sample.csv", features, delimiter=",")
    for version in versions:
        file = folder / f"{version}.joblib"
        joblib.dump(LogisticRegression(max_iter=1000, C=float(version)).fit(features, target), file)
        command = [sys.executable, "-m", "berth", "add", str(file), "--name", "lr", "--version", version]
        more = ["--store", str(folder / "store"), "--sample", str(folder / "sample.csv")]
        subprocess.run([*command, *more], check=True, stdout=subprocess.DEVNULL)
    return folder / "store"


def load_well(name: str, url: str, body: bytes, folder: Path, **how: Any) -> Seen:
    """16 connections' load (see run_wrk). Raises RuntimeError when a response is an error."""
    seen = run_wrk(url, body, folder, connections=16, **how)
    if seen.wrong or seen.broken:
        raise RuntimeError(f"{name}: {seen.wrong} errors, {seen.broken} broken connections")
    return seen


def compare(found: Sequence[float], base: Sequence[float]) -> float:
    """The median of the ratios, round by round."""
    return median(now / then for now, then in zip(found, base, strict=True))


def measure_turns(
    store: Path, folder: Path, settings: Mapping[str, Mapping[str, object]], rounds: int, seconds: float,
    full: Sequence[str], half: Sequence[str],
) -> dict[str, Turns]:  # fmt: skip
    """Servers by name: those in `full` at full load, those in `half` at half the rate of the first in `full`.

    Raises RuntimeError when a response is an error.
    """
    found = {name: Turns() for name in settings}
    with ExitStack() as stack:
        servers = {
            name: stack.enter_context(serving(store, folder / f"{name}.log", workers=2, **own))
            for name, own in settings.items()
        }

        def load(name: str, duration: float, rate: float | None = None) -> Seen:
            return load_well(
                name, f"http://127.0.0.1:{servers[name][1]}/predict", _BODY, folder, seconds=duration, rate=rate
            )

        for at in range(rounds):
            turn = -1 if at % 2 else 1
            for name in full[::turn]:
                load(name, 1)
                workers = list_workers(servers[name][0])
                before = sum(map(cpu_seconds, workers))
                seen = load(name, seconds)
                found[name].rates.append(seen.rate)
                found[name].cpu.append(1e6 * (sum(map(cpu_seconds, workers)) - before) / max(seen.good, 1))
            for name in half[::turn]:
                found[name].p99s.append(load(name, seconds, found[full[0]].rates[-1] / 2).p99)
        for name, (pid, _) in servers.items():
            found[name].mib = max(memory_mib(pid))
    return found
