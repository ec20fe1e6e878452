#!/usr/bin/env python3
"""What watching for drift costs: one server that watches beside one that does not, in turns.

Usage: bench/watching.py [--rounds 5] [--seconds 3]

Logistic regression on iris, added with its sample, one row a request, 16 connections, two workers. Each round loads
both as fast as they go, and then at half the rate of the one that does not watch, at which the 99th percentile is
read. Memory is what a worker holds after the last round.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from statistics import median

import click
from server_turns import compare, fill_iris_store, measure_turns

RATE, P99, MEMORY_MIB = 0.97, 1.05, 1.9
ON, OFF = "on", "off"
_SETTINGS: dict[str, dict[str, object]] = {ON: {"models": "lr"}, OFF: {"models": "lr", "watch_minutes": 0}}


@click.command(help=(__doc__ or "").split("\n")[0])
@click.option("--rounds", default=5, show_default=True, help="Turns of both servers; medians are compared.")
@click.option("--seconds", default=3.0, show_default=True, help="Load per turn.")
def main(rounds: int, seconds: float) -> None:
    """Measure, print a table, and exit 1 if watching costs more than it may."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        found = measure_turns(fill_iris_store(folder), folder, _SETTINGS, rounds, seconds, (OFF, ON), (OFF, ON))
    on, off = found[ON], found[OFF]
    rate, p99, more = compare(on.rates, off.rates), compare(on.p99s, off.p99s), on.mib - off.mib
    click.echo(f"requests/s  {median(on.rates):8,.0f} of {median(off.rates):8,.0f}  {rate:.3f}  at least {RATE}")
    click.echo(f"p99 in ms   {median(on.p99s):8.3f} of {median(off.p99s):8.3f}  {p99:.3f}  at most {P99}")
    click.echo(f"MiB a worker {on.mib:7.1f} of {off.mib:8.1f}  {more:+.1f}  at most {MEMORY_MIB}")
    raise SystemExit(0 if rate >= RATE and p99 <= P99 and more <= MEMORY_MIB else 1)


if __name__ == "__main__":
    main()
