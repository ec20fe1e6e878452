"""`berth experiment`: what the arms of all pods were worth, and a state for a bandit to begin with."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from berth.cli.option_types import FILE
from berth.cli.pods import choose_urls, fetch_document, pod_options, show_reports
from berth.cli.printed_tables import print_table
from berth.errors import OperatorError
from berth.experiments.arm_counts import VALUES, WIDTH, ArmKey
from berth.experiments.count_state import CountState, decode_state, encode_state, merge_states
from berth.experiments.experiment_file import Experiment, parse_experiments
from berth.experiments.verdicts import GOOD, MARGIN, STOP, describe_experiment

_UNDECIDED = 3


def fetch_pod(url: str, key: str) -> tuple[tuple[Experiment, ...], CountState]:
    """What /experiments/state of one pod says. Raises OperatorError."""
    address = f"{url.rstrip('/')}/experiments/state"
    document = fetch_document(address, key)
    try:
        found = {"experiments": document["experiments"]}
        return parse_experiments(json.dumps(found)), decode_state(document["state"])
    except (KeyError, TypeError, ValueError) as error:
        raise OperatorError(f"{address}: {error}; is it of the same version of Berth?") from error


def add_states(pods: Sequence[tuple[tuple[Experiment, ...], CountState]]) -> tuple[tuple[Experiment, ...], CountState]:
    """The experiments, and the counts of all pods. Raises OperatorError where the pods have different files."""
    experiments, state = pods[0]
    for others, more in pods[1:]:
        if others != experiments:
            raise OperatorError("the pods have different experiments; wait until all have read the same file")
        state = merge_states(state, more)
    return experiments, state


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{value:.1%}"


def _figure(value: float | None) -> str:
    return "-" if value is None else f"{value:.4g}"


def _row(arm: Mapping[str, Any]) -> list[str]:
    low, high = arm["interval"] or (None, None)
    interval = "-" if low is None else f"{low:.4g} to {high:.4g}"
    seconds = "-" if arm["p99_seconds"] is None else f"{arm['p99_seconds'] * 1000:g} ms"
    requests = [str(arm["units"]), str(arm["requests"]), _percent(arm["share"]), str(arm["failed"]), seconds]
    return [arm["arm"], *requests, f"{arm['rewards']:g}", _figure(arm["mean_reward"]), interval]


def _print(report: Mapping[str, Any]) -> None:
    click.echo(f"{report['name']} ({report['policy']}) on {report['model']}")
    if report["arms"]:
        heads = ("arm", "units", "requests", "share", "failed", "p99", "rewards", "mean", "95 % interval")
        print_table(heads, map(_row, report["arms"]), box=None, width=140)
    if report["arms"] and report["policy"] == "fixed":
        known = report["split_p"] is not None
        click.echo(f"split: p = {report['split_p']:.3g}" if known else "split: more units than can be counted")
    if (shadow := report["shadow"]) is not None:
        counts = ", ".join(f"{shadow[word]} {word}" for word in ("agree", "differ", "failed", "dropped"))
        click.echo(f"shadow {shadow['model']}: {counts}; agreement {_percent(shadow['agreement'])}")
    click.echo(report["sentence"])


def exit_code(reports: Sequence[Mapping[str, Any]]) -> int:
    """1 where one must stop, else 3 where one with arms is undecided, else 0."""
    words = {report["verdict"] for report in reports if report["arms"]}
    return 1 if STOP in words else _UNDECIDED if words - {GOOD} else 0


@click.group()
def experiment() -> None:
    """Report on experiments, or seed a bandit."""


@experiment.command()
@click.argument("urls", nargs=-1, metavar="[URL]...")
@pod_options
@click.option("--name", help="Report on this experiment only.")
@click.option("--margin", default=MARGIN, help="Difference of mean rewards that does not matter.")
def report(
    urls: tuple[str, ...], headless_host: str | None, port: int, name: str | None, margin: float,
    key: str, as_json: bool,
) -> None:  # fmt: skip
    """Add up the counts of the pods, and report which arm is better.

    \b
    berth experiment report http://localhost:8000
    berth experiment report --headless-host iris-berth-blue-pods --json

    Exit code 0: decided (an arm is better, or no difference matters). 1: stop. 3: undecided, keep going.
    """
    addresses = choose_urls(urls, headless_host, port, "both")
    experiments, state = add_states([fetch_pod(url, key) for url in addresses])
    chosen = [each for each in experiments if name in (None, each.name)]
    if not chosen:
        known = ", ".join(each.name for each in experiments) or "none"
        raise OperatorError(f"no experiment {name or ''} here; there is {known}")
    reports = [describe_experiment(each, state, time.time(), margin) for each in chosen]
    show_reports(reports, as_json, _print, key="experiments")
    sys.exit(exit_code(reports))


def _parse_seed(text: str, known: Experiment) -> tuple[str, float, float]:
    """ARM=REWARDS:SUM. Raises click.BadParameter."""
    arm, _, figures = text.partition("=")
    count, _, total = figures.partition(":")
    try:
        pair = float(count), float(total)
    except ValueError:
        pair = (-1.0, 0.0)
    arms = [each.key for each in known.arms]
    if arm not in arms or not 0 <= pair[1] <= pair[0] < 1e12:
        raise click.BadParameter(f"{text!r}: want ARM=REWARDS:SUM with an arm of {', '.join(arms)}, as churn@3=500:61")
    return (arm, *pair)


@experiment.command()
@click.argument("file", type=FILE)
@click.argument("arms", nargs=-1, required=True, metavar="ARM=REWARDS:SUM...")
@click.option("--name", required=True, help="Name of the experiment in FILE.")
@click.option(
    "--directory", required=True, type=click.Path(path_type=Path), help="The server's BERTH_EXPERIMENT_STATE_DIR."
)
def seed(file: Path, arms: tuple[str, ...], name: str, directory: Path) -> None:
    """Write what is known about the arms, as a starting point for a bandit.

    \b
    berth experiment seed experiments.json price@1=500:60 price@2=500:75 --name price --directory state

    500:60 means 500 rewards with a sum of 60. Running the command again replaces the seed.
    """
    known = next((each for each in parse_experiments(file.read_text("utf-8")) if each.name == name), None)
    if known is None:
        raise OperatorError(f"{file} has no experiment {name!r}")
    start, sums = time.time(), {}
    for arm, count, total in (_parse_seed(text, known) for text in arms):
        values = [0.0] * WIDTH
        for word, amount in (("rewards", count), ("sum", total), ("squares", total)):
            values[VALUES.index(word)] = values[VALUES.index(f"faded_{word}")] = amount
        sums[ArmKey(name, arm, known.half_life_days).encode()] = tuple(values)
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / f"seed-{name}.json"
    path.write_text(json.dumps(encode_state(CountState({f"seed-{name}@{start:.3f}": sums}))), "utf-8")
    click.echo(f"wrote {path}: {', '.join(arms)}")


COMMANDS = (experiment,)
