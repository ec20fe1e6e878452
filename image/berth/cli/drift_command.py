"""`berth drift`: what drifted, over the pods of a service, or in a file of rows."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from berth.cli.pods import Report, add_pods, choose_urls, fetch_reports, pod_options
from berth.cli.store_option import find_store, store_option
from berth.errors import LoadError
from berth.models.manifest import Manifest
from berth.models.profile import Profile, decode_profile
from berth.models.store import LATEST, find_version, verify_version
from berth.publishing.samples import decode_sample, read_sample
from berth.telemetry.drift.report import add_reports, describe_features
from berth.telemetry.drift.watcher import Watched, count_block, split_counts

_BARS = " ▁▂▃▄▅▆▇█"
_SHOWN_BINS = 14


def _profile_of(manifest: Manifest) -> Profile:
    profile = decode_profile(manifest.metadata)
    if profile is None:
        raise LoadError(f"{manifest.name}@{manifest.version} has no profile: add the model with --sample")
    return profile


def report_rows(path: Path, manifest: Manifest) -> dict[str, Any]:
    """The report on a CSV file of rows. Raises LoadError."""
    profile = _profile_of(manifest)
    tensors = decode_sample(read_sample(path), manifest.inputs)
    watched = Watched(manifest.inputs, Profile(profile.columns))
    rows = next(iter(tensors.values())).shape[0]
    rows, counts = split_counts(watched.profile, count_block(watched, tensors, {}, rows))
    return {
        "model": manifest.name,
        "version": manifest.version,
        "window_seconds": None,
        "rows": rows,
        "features": describe_features(watched.profile, counts),
    }


def draw_bars(counts: Sequence[int]) -> str:
    """A small histogram: a character a bin, the fullest one full."""
    fullest = max(counts, default=0) or 1
    shown = counts if len(counts) <= _SHOWN_BINS else [*counts[: _SHOWN_BINS - 3], *counts[-3:]]
    return "".join(_BARS[-(-count * (len(_BARS) - 1) // fullest)] for count in shown)


def _describe_shift(feature: Report) -> str:
    """The bin whose share grew the most, in words; nothing where there are too few rows."""
    if feature["psi"] is None:
        return ""
    observed, expected = feature["observed"], feature["expected"]
    rows, sample = sum(observed) or 1, sum(expected) or 1
    growth = [now / rows - then / sample for now, then in zip(observed, expected, strict=True)]
    most = growth.index(max(growth))
    return f"{feature['labels'][most]}: {expected[most] / sample:.0%} -> {observed[most] / rows:.0%}"


def _print(report: Report) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    click.echo(f"{report['model']}@{report['version']}: {report['rows']} rows in the window")
    table = Table("feature", "psi", "threshold", "sample", "now", "grew the most", "unusual", box=None)
    for feature in report["features"]:
        figures = ("-", "-") if feature["psi"] is None else (f"{feature['psi']:.3f}", f"{feature['threshold']:.3f}")
        unusual = ", ".join(f"{count} {kind}" for kind, count in feature["unusual"].items())
        bars = [draw_bars(feature[kind]) for kind in ("expected", "observed")]
        words = (feature["name"], *figures, *bars, _describe_shift(feature), unusual)
        table.add_row(*map(Text, words), style="bold red" if feature["drifted"] else "")
    Console().print(table)
    drifted = [feature["name"] for feature in report["features"] if feature["drifted"]]
    if drifted:
        click.echo(f"drifted: {', '.join(drifted)}")
    elif report["rows"] < 100:
        click.echo("fewer than 100 rows: no figure yet")
    else:
        click.echo("nothing drifted")


@click.command()
@click.argument("targets", nargs=-1, metavar="[URL]... | ROWS.csv")
@pod_options
@click.option("--model", help="NAME[@VERSION] of the store whose profile ROWS.csv is compared with.")
@store_option
def drift(
    targets: tuple[str, ...], headless_host: str | None, port: int, api_key_file: Path | None, as_json: bool,
    model: str | None, store: str | None,
) -> None:  # fmt: skip
    """Compare recent requests, or a file of rows, with the sample that a model was added with.

    \b
    berth drift http://localhost:8000                    a server
    berth drift --headless-host iris-berth-blue-pods     every pod of a slot, added up
    berth drift rows.csv --model churn@3                 a file, offline

    Exit code 1: something drifted. Exit code 0: nothing did, or there are fewer than 100 rows.
    """
    if model is not None:
        if len(targets) != 1:
            raise click.UsageError("--model wants one file of rows: berth drift ROWS.csv --model NAME")
        name, _, version = model.partition("@")
        manifest = verify_version(find_version(find_store(store), name, version or LATEST))
        reports = [report_rows(Path(targets[0]), manifest)]
    else:
        urls = choose_urls(targets, headless_host, port, "ROWS.csv with --model NAME")
        reports = add_pods([fetch_reports(url, "/drift", api_key_file) for url in urls], add_reports)
    if as_json:
        click.echo(json.dumps({"models": reports}, indent=2))
    else:
        for report in reports:
            _print(report)
        if not reports:
            click.echo("no profile: add the model with --sample", err=True)
    drifted = any(feature["drifted"] for report in reports for feature in report["features"])
    sys.exit(1 if drifted else 0)


COMMANDS = (drift,)
