"""What labels have shown, as tables, for `berth quality`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import click

from berth.cli.printed_tables import print_table

_FIGURES = {"accuracy": "accuracy", "log_loss": "log loss", "mae": "MAE", "rmse": "RMSE"}


def _describe_figure(figure: Mapping[str, float | None] | None) -> str:
    """The figure with its 95 % interval."""
    if figure is None:
        return "-"
    if figure["low"] is None or figure["high"] is None:
        return f"{figure['value']:.4g}"
    return f"{figure['value']:.4g} ({figure['low']:.4g} to {figure['high']:.4g})"


def _print_verdict(report: Mapping[str, Any]) -> None:
    reference = ", ".join(f"{name} {value:g}" for name, value in report["reference"].items())
    if not reference:
        click.echo("no reference: add the version with --metadata 'metrics={\"accuracy\": 0.93}'")
    elif report["worse"] is None:
        click.echo(f"the version was added with {reference}; fewer than 200 labels: no verdict yet")
    else:
        click.echo(f"{'worse than' if report['worse'] else 'not worse than'} the version was added with: {reference}")


def _print_groups(report: Mapping[str, Any]) -> None:
    """Print a version's figures by day and slice."""
    click.echo(f"{report['model']}@{report['version']}: {report['rows']} labelled rows, 95 % intervals")
    groups = [*report["groups"]]
    sliced = any(group["part"] for group in groups)
    if sliced:
        groups.append(report["whole"])
    names = [name for name in _FIGURES if any(group.get(name) for group in groups)]
    heads = ["day", *(["slice"] if sliced else []), "rows", *(_FIGURES[name] for name in names)]
    rows = [
        [
            group["day"],
            *([group["part"]] if sliced else []),
            str(group["rows"]),
            *(_describe_figure(group.get(name)) for name in names),
        ]
        for group in groups
    ]
    print_table(heads, rows, box=None)


def _print_counts(report: Mapping[str, Any]) -> None:
    """Print what a server, or several, have counted for a version."""
    click.echo(f"{report['model']}@{report['version']}: {report['labels']} labels since the start, 95 % intervals")
    rows = [[_FIGURES[name], _describe_figure(report[name])] for name in ("accuracy", "mae") if report[name]]
    more = {"rmse": "RMSE", "reward": "reward", "delay_seconds": "mean delay in seconds"}
    rows += [[text, f"{report[name]:.4g}"] for name, text in more.items() if report[name] is not None]
    if rows:
        print_table(["figure", "value"], rows, box=None)
    if mistakes := [each for each in report["confusion"] if each["predicted"] != each["truth"]]:
        most = sorted(mistakes, key=lambda each: -each["rows"])[:5]
        texts = [f"{each['predicted']} for {each['truth']} ({each['rows']})" for each in most]
        click.echo(f"most frequent mistakes: {', '.join(texts)}")


def print_quality(report: Mapping[str, Any]) -> None:
    """Print a version's report, of files by day and slice, and how it compares with what it was added with."""
    (_print_groups if "groups" in report else _print_counts)(report)
    _print_verdict(report)
