#!/usr/bin/env python3
"""What experiments cost: one model beside two arms of it, and beside a shadow that predicts every request again.

Usage: bench/arm_cost.py [--rounds 5] [--seconds 3]

Logistic regression on iris, one row a request, 16 connections, two workers, in turns. Requests a second are compared
at full load, one model with two arms; the 99th percentile at half of that rate, one model with one that has a shadow.
CPU time a request is that of the workers: it says more than the rate where other work shares the machine.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from statistics import median

import click
from server_turns import compare, fill_iris_store, measure_turns

RATE, P99 = 0.95, 1.05
ONE, ARMS, SHADOW = "one model", "two arms", "a shadow"
_VERSIONS = ("1", "2")
_EXPERIMENTS: dict[str, dict[str, object]] = {
    ARMS: {"arms": [{"model": f"lr@{version}"} for version in _VERSIONS]},
    SHADOW: {"shadow": {"model": "lr@2", "share": 1}},
}


def write_settings(folder: Path, name: str) -> dict[str, object]:
    """The settings of a server."""
    settings: dict[str, object] = {"models": "lr@1,lr@2"}
    if name not in _EXPERIMENTS:
        return settings
    file = folder / f"{name.replace(' ', '-')}.json"
    file.write_text(json.dumps({"experiments": [{"name": "cost", "model": "lr", **_EXPERIMENTS[name]}]}), "utf-8")
    return {**settings, "experiment_file": file}


@click.command(help=(__doc__ or "").split("\n")[0])
@click.option("--rounds", default=5, show_default=True, help="Turns of the servers; medians are compared.")
@click.option("--seconds", default=3.0, show_default=True, help="Load per turn.")
def main(rounds: int, seconds: float) -> None:
    """Measure, print a table, and exit 1 if experiments cost more than they may."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        settings = {name: write_settings(folder, name) for name in (ONE, ARMS, SHADOW)}
        store = fill_iris_store(folder, _VERSIONS)
        found = measure_turns(store, folder, settings, rounds, seconds, (ONE, ARMS), (ONE, SHADOW))
    one, arms, shadow = (found[name] for name in (ONE, ARMS, SHADOW))
    rate, cpu, p99 = compare(arms.rates, one.rates), compare(arms.cpu, one.cpu), compare(shadow.p99s, one.p99s)
    click.echo(f"two arms: requests/s  {median(arms.rates):8,.0f} of {median(one.rates):8,.0f}  {rate:.3f}, min {RATE}")
    click.echo(f"two arms: CPU in us   {median(arms.cpu):8.1f} of {median(one.cpu):8.1f}  {cpu:.3f}")
    click.echo(f"a shadow: p99 in ms   {median(shadow.p99s):8.3f} of {median(one.p99s):8.3f}  {p99:.3f}, max {P99}")
    raise SystemExit(0 if rate >= RATE and p99 <= P99 else 1)


if __name__ == "__main__":
    main()
