"""`berth optimize`: a smaller copy of a version, as a new version, with what it costs and saves."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import click

from berth.cli.option_types import FILE
from berth.cli.printed_tables import print_table
from berth.cli.store_option import find_store, read_settings, store_option
from berth.load_settings import load_options
from berth.models.store import find_by_key
from berth.publishing.optimize.comparing import BATCH_ROWS, Pair, SizeReport
from berth.publishing.optimize.making import Method, parse_method
from berth.publishing.optimize.writing import OptimizeRequest, optimize_version
from berth.serving.trial import try_version


def _method(context: click.Context, parameter: click.Parameter, text: str) -> Method:
    try:
        return parse_method(text)
    except ValueError as error:
        raise click.BadParameter(str(error)) from error


def _rows(report: SizeReport) -> Iterator[tuple[str, str, str, str]]:
    pairs: tuple[tuple[str, Pair, str], ...] = (
        ("bytes", report.bytes, ".0f"),
        ("1 row, ms", report.one_row_ms, ".3g"),
        (f"{BATCH_ROWS} rows, ms", report.batch_ms, ".3g"),
    )
    for name, pair, form in pairs:
        ratio = f"{pair.after / pair.before:.2f}" if pair.before else ""
        yield name, format(pair.before, form), format(pair.after, form), ratio


def _print(report: SizeReport) -> None:
    print_table(("", "before", "after", "ratio"), _rows(report))
    found = report.difference
    if found.equal_labels is not None:
        click.echo(f"equal labels: {found.equal_labels:.2%} of {found.rows} rows")
    if found.max_abs is not None:
        click.echo(f"largest difference of a number: {found.max_abs:.3g} on {found.rows} rows")


@click.command()
@click.argument("model", metavar="NAME[@VERSION]")
@click.option(
    "--method", required=True, callback=_method, metavar="int8|prune[:SHARE]", help="How the model is made smaller."
)
@click.option(
    "--sample", required=True, type=FILE, help="CSV of typical inputs, for which the predictions are compared."
)
@click.option("--version", default="", show_default=False, help="Version to create [default: the next whole number].")
@click.option(
    "--max-difference",
    type=click.FloatRange(min=0),
    help="Write nothing if a number differs by more; for a model with labels alone, if a larger share of them differs.",
)
@store_option
def optimize(
    model: str, method: Method, sample: Path, version: str, max_difference: float | None, store: str | None
) -> None:
    """Make a smaller copy of a version, compare the two on a sample, and store the copy as a new version.

    int8 accepts onnx and safetensors; prune accepts safetensors, torchscript and torch-export.

    \b
    berth optimize net --method int8 --sample X_test.csv --max-difference 0.01
    berth optimize net@1 --method prune:0.3 --sample X_test.csv --version 1.1
    """
    from rich.console import Console

    directory, settings = find_store(store), read_settings()
    entry = find_by_key(directory, model)
    try_version(entry, load_options(settings), settings.version_policy)
    request = OptimizeRequest(entry, method, sample, version, max_difference)
    with Console(stderr=True).status(f"optimising {entry.key}: make, load, compare, measure"):
        made, report = optimize_version(directory, request, load_options(settings), settings.version_policy)
    click.echo(f"added {made.key}: {entry.key} by {method}")
    _print(report)


COMMANDS = (optimize,)
