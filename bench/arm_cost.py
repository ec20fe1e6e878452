#!/usr/bin/env python3
"""What experiments cost: one model beside two arms of it, and beside a shadow that predicts every request again.

Usage: bench/arm_cost.py [--rounds 4] [--turns 5]

Logistic regression on iris, one row a request, 16 connections, two workers, all models in one server, in turns of a
second. Requests a second are compared at full load, one model with two arms; the 99th percentile at half of that rate,
one model with one that has a shadow. Another single model says how far two equal ones differ.
CPU time a request is that of the workers: it says more than the rate where other work shares the machine.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from statistics import median

import click
from server_turns import compare, fill_iris_store, measure_models

RATE, P99 = 0.95, 1.05
ONE, ARMS, SHADOW, EQUAL = "one model", "two arms", "a shadow", "an equal one"
_MODELS = {ONE: "one", ARMS: "two", SHADOW: "shaded", EQUAL: "equal"}
_STORE = {"one": "1", "two": "12", "shaded": "12", "equal": "1"}
_EXPERIMENTS = [
    {"name": "arms", "model": "two", "arms": [{"model": "two@1"}, {"model": "two@2"}]},
    {"name": "shadow", "model": "shaded", "shadow": {"model": "shaded@2", "share": 1}},
]


@click.command(help=(__doc__ or "").split("\n")[0])
@click.option("--rounds", default=4, show_default=True, help="New servers.")
@click.option("--turns", default=5, show_default=True, help="Turns in each, there and back; medians count.")
def main(rounds: int, turns: int) -> None:
    """Measure, print a table, and exit 1 if experiments cost more than they may."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        store = fill_iris_store(folder, _STORE)
        file = folder / "experiments.json"
        file.write_text(json.dumps({"experiments": _EXPERIMENTS}), "utf-8")
        models = ",".join(f"{name}@{version}" for name, versions in _STORE.items() for version in versions)
        settings: dict[str, object] = {"models": models, "experiment_file": file}
        found = measure_models(store, folder, settings, _MODELS, rounds, turns, (ONE, SHADOW, EQUAL))
    one, arms, shadow, equal = (found[name] for name in (ONE, ARMS, SHADOW, EQUAL))
    rate, cpu, p99 = compare(arms.rates, one.rates), compare(arms.cpu, one.cpu), compare(shadow.p99s, one.p99s)
    noise, noise_p99 = compare(equal.rates, one.rates), compare(equal.p99s, one.p99s)
    click.echo(f"two arms: requests/s  {median(arms.rates):8,.0f} of {median(one.rates):8,.0f}  {rate:.3f}, min {RATE}")
    click.echo(f"two arms: CPU in us   {median(arms.cpu):8.1f} of {median(one.cpu):8.1f}  {cpu:.3f}")
    click.echo(f"a shadow: p99 in ms   {median(shadow.p99s):8.3f} of {median(one.p99s):8.3f}  {p99:.3f}, max {P99}")
    click.echo(f"two equal models: requests/s {noise:.3f}, p99 {noise_p99:.3f}")
    raise SystemExit(0 if rate >= RATE and p99 <= P99 else 1)


if __name__ == "__main__":
    main()
