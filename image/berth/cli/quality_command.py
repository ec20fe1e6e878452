"""`berth quality`: what came true of a model's predictions, over the pods of a service, or in two files."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from berth.cli.pods import add_pods, choose_urls, fetch_reports, is_url, pod_options, show_reports
from berth.cli.quality_table import print_quality
from berth.cli.store_option import find_store, store_option
from berth.errors import BerthError
from berth.models.store import find_version, read_manifest
from berth.telemetry.feedback.labelled import JoinedLabels, join_labels, read_labels
from berth.telemetry.feedback.offline_quality import describe_version, split_versions
from berth.telemetry.feedback.quality import add_quality, read_reference
from berth.telemetry.payloads.logged_bodies import read_payloads

_FILES = "PAYLOADS.jsonl TRUTH.csv"


def _find_reference(store: str | None, name: str, version: str) -> dict[str, float]:
    """The figures that the version was added with; none where the store has no such version."""
    try:
        return read_reference(read_manifest(find_version(find_store(store), name, version)).metadata)
    except BerthError:
        return {}


def join_files(payloads: Path, truth: Path, options: Mapping[str, Any]) -> JoinedLabels:
    """The labelled rows of a payload log. Raises OperatorError."""
    labels = read_labels(truth, options["on"], options["truth"])
    return join_labels(read_payloads(payloads), labels, options["on"], options["by"] or "")


def _explain(joined: JoinedLabels) -> None:
    click.echo(f"{len(joined.rows)} of {joined.labels} labels belong to a prediction in the log", err=True)
    if joined.unreadable:
        click.echo(f"{joined.unreadable} requests have no readable prediction in the log", err=True)


@click.command()
@click.argument("targets", nargs=-1, metavar=f"[URL]... | {_FILES}")
@pod_options
@click.option("--on", default="request_id", help="Column of TRUTH.csv and field of the log by which they are joined.")
@click.option("--truth", default="truth", help="Column of TRUTH.csv that holds the true value.")
@click.option("--by", help="Column of TRUTH.csv, field of the log or named input by which the rows are sliced.")
@click.option("--numbers/--classes", default=None, help="What the model predicts [default: detected].")
@store_option
def quality(
    targets: tuple[str, ...], headless_host: str | None, port: int, key: str, as_json: bool,
    store: str | None, **options: Any,
) -> None:  # fmt: skip
    """Compare predictions with true values.

    \b
    berth quality http://localhost:8000                    what POST /feedback has counted
    berth quality --headless-host iris-berth-blue-pods     every pod of a slot, added up
    berth quality payloads.jsonl truth.csv                 a payload log and a file of labels

    Exit code 1: a model is worse than metadata.metrics.accuracy (or .mae) of its version. Exit code 0: none is, or
    there are fewer than 200 labels.
    """
    if len(targets) == 2 and not headless_host and not any(map(is_url, targets)):
        joined = join_files(Path(targets[0]), Path(targets[1]), options)
        _explain(joined)
        reports = [
            describe_version(rows, _find_reference(store, *version), options["numbers"])
            for version, rows in split_versions(joined.rows).items()
        ]
    else:
        urls = choose_urls(targets, headless_host, port, _FILES)
        reports = add_pods([fetch_reports(url, "/quality", key) for url in urls], add_quality)
    show_reports(reports, as_json, print_quality, "no labels: nothing to compare with")
    sys.exit(1 if any(report["worse"] for report in reports) else 0)


COMMANDS = (quality,)
