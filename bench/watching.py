#!/usr/bin/env python3
"""What watching for drift costs: a model that is watched beside one that is not, in one server.

Usage: bench/watching.py [--rounds 4] [--turns 5]

Logistic regression on iris, added with its sample and without it, one row a request, 16 connections, two workers. In
turns of a second both are loaded as fast as they go, and then at half the rate of the one that is not watched, at which
the 99th percentile is read. A third, not watched either, says how far two equal models differ. Memory is that of
servers of their own, with BERTH_WATCH_MINUTES and without.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from statistics import median

import click
from server_turns import compare, fill_iris_store, measure_memory, measure_models

RATE, P99, MEMORY_MIB = 0.97, 1.05, 1.9
OFF, ON, EQUAL = "not watched", "watched", "not watched either"
_MODELS = {OFF: "plain", ON: "watched", EQUAL: "equal"}


def measure_more_memory(store: Path, folder: Path) -> float:
    """MiB that a worker has more where it watches: the median of three pairs of servers."""
    on: dict[str, object] = {"models": _MODELS[ON]}
    off = {**on, "watch_minutes": 0}
    pairs = [[measure_memory(store, folder, settings, _MODELS[ON]) for settings in (on, off)] for _ in range(3)]
    return median(watched - plain for watched, plain in pairs)


@click.command(help=(__doc__ or "").split("\n")[0])
@click.option("--rounds", default=4, show_default=True, help="New servers.")
@click.option("--turns", default=5, show_default=True, help="Turns in each, there and back; medians count.")
def main(rounds: int, turns: int) -> None:
    """Measure, print a table, and exit 1 if watching costs more than it may."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        fill_iris_store(folder, {_MODELS[OFF]: "1", _MODELS[EQUAL]: "1"}, sample=False)
        store = fill_iris_store(folder, {_MODELS[ON]: "1"})
        settings: dict[str, object] = {"models": ",".join(_MODELS.values())}
        found = measure_models(store, folder, settings, _MODELS, rounds, turns, list(_MODELS))
        more = measure_more_memory(store, folder)
    on, off, equal = found[ON], found[OFF], found[EQUAL]
    rate, p99 = compare(on.rates, off.rates), compare(on.p99s, off.p99s)
    noise, noise_p99 = compare(equal.rates, off.rates), compare(equal.p99s, off.p99s)
    click.echo(f"requests/s  {median(on.rates):8,.0f} of {median(off.rates):8,.0f}  {rate:.3f}  at least {RATE}")
    click.echo(f"p99 in ms   {median(on.p99s):8.3f} of {median(off.p99s):8.3f}  {p99:.3f}  at most {P99}")
    click.echo(f"MiB a worker                      {more:+.1f}  at most {MEMORY_MIB}")
    click.echo(f"two equal models: requests/s {noise:.3f}, p99 {noise_p99:.3f}")
    raise SystemExit(0 if rate >= RATE and p99 <= P99 and more <= MEMORY_MIB else 1)


if __name__ == "__main__":
    main()
