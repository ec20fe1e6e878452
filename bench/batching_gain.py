#!/usr/bin/env python3
"""What batching buys a forest that scikit-learn itself evaluates, and what it costs a lone request.

Usage: bench/batching_gain.py [--rounds 3] [--seconds 4] [--alone]

The same model behind two servers with acceleration off, one after the other in every round: batching off, and as it
is decided by measurement. Each is loaded by 16 connections, then by one. The forest stands behind a scaler, as a
pipeline's steps are scikit-learn's own; Berth evaluates a lone forest tree by tree, which leaves less to win (--alone).
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from statistics import median

import click
from own import serving
from wrk import Seen, run_wrk

from berth.loaders.formats import LoadOptions
from berth.publishing.adding import AddRequest, add_version

BODY = b'{"features":[5.1,3.5,1.4,0.2]}'
WAYS = {"off": 1, "auto": "auto"}


def fill_store(folder: Path, trees: int, alone: bool = True) -> Path:
    """A store with a forest, alone or behind a scaler."""
    import joblib
    from sklearn.datasets import load_iris
    from sklearn.ensemble import RandomForestClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    rows, labels = load_iris(return_X_y=True)
    forest = RandomForestClassifier(trees, random_state=0)
    model = forest if alone else make_pipeline(StandardScaler(), forest)
    joblib.dump(model.fit(rows, labels), folder / "forest.joblib")
    add_version(folder / "store", folder / "forest.joblib", AddRequest("forest"), LoadOptions())
    return folder / "store"


def ask(store: Path, folder: Path, way: object, seconds: float) -> tuple[Seen, Seen]:
    """What 16 connections and a lone one see."""
    with serving(store, folder / "log", workers=2, accelerate="off", batch_max_rows=way) as (_, port):
        url = f"http://127.0.0.1:{port}/predict"
        run_wrk(url, BODY, folder, seconds=1, connections=16)
        many = run_wrk(url, BODY, folder, seconds=seconds, connections=16)
        return many, run_wrk(url, BODY, folder, seconds=seconds, connections=1)


@click.command(help=(__doc__ or "").split("\n")[0])
@click.option("--rounds", default=3, show_default=True, help="Turns of both servers.")
@click.option("--seconds", default=4.0, show_default=True, help="Load per turn.")
@click.option("--trees", default=100, show_default=True, help="Size of the forest.")
@click.option("--alone", is_flag=True, help="The forest without a scaler before it.")
def main(rounds: int, seconds: float, trees: int, alone: bool) -> None:
    """Measure and print."""
    seen: dict[str, list[tuple[Seen, Seen]]] = {name: [] for name in WAYS}
    with tempfile.TemporaryDirectory() as name:
        store = fill_store(Path(name), trees, alone)
        for _ in range(rounds):
            for title, way in WAYS.items():
                many, lone = ask(store, Path(name), way, seconds)
                seen[title].append((many, lone))
                click.echo(f"batching {title:<4}  16 connections {many.rate:6.0f}/s  one: p50 {lone.p50:6.2f} ms")
    rate = {title: median(many.rate for many, _ in pairs) for title, pairs in seen.items()}
    wait = {title: median(lone.p50 for _, lone in pairs) for title, pairs in seen.items()}
    click.echo(f"batching serves {rate['auto'] / rate['off']:.1f} x as many; a lone request takes"
               f" {wait['auto'] / wait['off']:.2f} x as long")  # fmt: skip


if __name__ == "__main__":
    main()
