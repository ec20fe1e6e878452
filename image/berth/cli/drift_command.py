"""`berth drift`: what drifted, over the pods of a service, or in a file of rows."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import click

from berth.cli.drift_files import report_file
from berth.cli.pods import Report, add_pods, choose_urls, fetch_reports, pod_options, show_reports
from berth.cli.printed_tables import print_table
from berth.cli.store_option import find_store, store_option
from berth.models.store import find_by_key, verify_version
from berth.telemetry.drift.report import add_reports

_BARS = " ▁▂▃▄▅▆▇█"
_SHOWN_BINS = 14


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
    place = "in the window" if report["window_seconds"] else "in the file"
    click.echo(f"{report['model']}@{report['version']}: {report['rows']} rows {place}")
    if report.get("unreadable"):
        click.echo(f"{report['unreadable']} rows or requests could not be read and are left out", err=True)
    rows = []
    for feature in report["features"]:
        figures = ("-", "-") if feature["psi"] is None else (f"{feature['psi']:.3f}", f"{feature['threshold']:.3f}")
        unusual = ", ".join(f"{count} {kind}" for kind, count in feature["unusual"].items())
        bars = [draw_bars(feature[kind]) for kind in ("expected", "observed")]
        rows.append((feature["name"], *figures, *bars, _describe_shift(feature), unusual))
    drifted = [at for at, feature in enumerate(report["features"]) if feature["drifted"]]
    heads = ("feature", "psi", "threshold", "sample", "now", "grew the most", "unusual")
    print_table(heads, rows, marked=drifted, box=None)
    if drifted:
        click.echo(f"drifted: {', '.join(rows[at][0] for at in drifted)}")
    elif report["rows"] < 100:
        click.echo("fewer than 100 rows: no figure yet")
    else:
        click.echo("nothing drifted")


@click.command()
@click.argument("targets", nargs=-1, metavar="[URL]... | FILE")
@pod_options
@click.option("--model", help="NAME[@VERSION] in the store; its profile is compared with FILE.")
@store_option
def drift(
    targets: tuple[str, ...], headless_host: str | None, port: int, key: str, as_json: bool,
    model: str | None, store: str | None,
) -> None:  # fmt: skip
    """Compare recent requests, or a file of rows, with the sample of a model.

    \b
    berth drift http://localhost:8000                    a server
    berth drift --headless-host iris-berth-blue-pods     every pod of a slot, added up
    berth drift rows.csv --model churn@3                 a file: csv, jsonl, parquet or a payload log

    Exit code 1: a feature or the prediction drifted. Exit code 0: none did, or there are fewer than 100 rows.
    """
    if model is not None:
        if len(targets) != 1:
            raise click.UsageError("--model wants one file: berth drift FILE --model NAME")
        manifest = verify_version(find_by_key(find_store(store), model))
        reports: Sequence[Report] = [report_file(Path(targets[0]), manifest)]
    else:
        urls = choose_urls(targets, headless_host, port, "FILE with --model NAME")
        reports = add_pods([fetch_reports(url, "/drift", key) for url in urls], add_reports)
    show_reports(reports, as_json, _print, "no profile: add the model with --sample")
    drifted = any(feature["drifted"] for report in reports for feature in report["features"])
    sys.exit(1 if drifted else 0)


COMMANDS = (drift,)
