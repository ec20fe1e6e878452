"""Models of one server, loaded in turns of a second: rates at full load, and the 99th percentile at half of it.

Two servers of one setting differ by 2 % in their rate and by 40 % in their p99, as long as they run. Models that differ
in a feature share the processes, so that these differences are in all of them.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

from own import list_workers, memory_mib, serving
from servers import cpu_seconds
from wrk import Seen, run_wrk

ROW = [5.1, 3.5, 1.4, 0.2]


@dataclass
class Turns:
    """One model's figures, one a turn: requests a second, CPU microseconds a request, p99 in ms at half the rate."""

    rates: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)
    p99s: list[float] = field(default_factory=list)


def fill_iris_store(folder: Path, models: Mapping[str, Sequence[str]], sample: bool = True) -> Path:
    """A store with versions of logistic regressions, by name, added with their sample or without it.

    Raises CalledProcessError.
    """
    import joblib
    import numpy as np
    from sklearn.datasets import load_iris
    from sklearn.linear_model import LogisticRegression

    features, target = load_iris(return_X_y=True)
    np.savetxt(folder / "sample.csv", features, delimiter=",")
    more = ["--store", str(folder / "store"), *(["--sample", str(folder / "sample.csv")] if sample else [])]
    for name, versions in models.items():
        for version in versions:
            file = folder / f"{version}.joblib"
            joblib.dump(LogisticRegression(max_iter=1000, C=float(version)).fit(features, target), file)
            command = [sys.executable, "-m", "berth", "add", str(file), "--name", name, "--version", version]
            subprocess.run([*command, *more], check=True, stdout=subprocess.DEVNULL)
    return folder / "store"


def load_well(name: str, url: str, body: bytes, folder: Path, **how: Any) -> Seen:
    """16 connections' load (see run_wrk). Raises RuntimeError when a response is an error."""
    seen = run_wrk(url, body, folder, connections=16, **how)
    if seen.wrong or seen.broken:
        raise RuntimeError(f"{name}: {seen.wrong} errors, {seen.broken} broken connections")
    return seen


def compare(found: Sequence[float], base: Sequence[float]) -> float:
    """The median of the ratios, turn by turn."""
    return median(now / then for now, then in zip(found, base, strict=True))


def measure_models(
    store: Path, folder: Path, settings: Mapping[str, object], models: Mapping[str, str], rounds: int, turns: int,
    half: Sequence[str],
) -> dict[str, Turns]:  # fmt: skip
    """Models of one server, by what they are called here: all at full load, some (`half`) at half the first one's rate.

    Raises RuntimeError when a response is an error.
    """
    found = {name: Turns() for name in models}
    bodies = {name: json.dumps({"features": ROW, "model": model}).encode() for name, model in models.items()}
    for _ in range(rounds):
        with serving(store, folder / "server.log", workers=2, **settings) as (pid, port):

            def load(name: str, rate: float | None = None, port: int = port) -> Seen:
                return load_well(name, f"http://127.0.0.1:{port}/predict", bodies[name], folder, seconds=1, rate=rate)

            for name in models:
                load(name)
            for order in (1, -1) * turns:
                _take_turn(load, list_workers(pid), list(models)[::order], half[::order], next(iter(models)), found)
    return found


def _take_turn(
    load: Callable[..., Seen], workers: Sequence[int], full: Sequence[str], half: Sequence[str], base: str,
    found: Mapping[str, Turns],
) -> None:  # fmt: skip
    load(full[0])  # the first one after half a load would be the fastest
    for name in full:
        before = sum(map(cpu_seconds, workers))
        seen = load(name)
        found[name].rates.append(seen.rate)
        found[name].cpu.append(1e6 * (sum(map(cpu_seconds, workers)) - before) / max(seen.good, 1))
    rate = found[base].rates[-1] / 2
    for name in half:
        found[name].p99s.append(load(name, rate).p99)


def measure_memory(store: Path, folder: Path, settings: Mapping[str, object], model: str) -> float:
    """MiB of the largest worker of a new server, after a second of load."""
    with serving(store, folder / "server.log", workers=2, **settings) as (pid, port):
        body = json.dumps({"features": ROW, "model": model}).encode()
        load_well(model, f"http://127.0.0.1:{port}/predict", body, folder, seconds=1)
        return max(memory_mib(pid))
