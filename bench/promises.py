"""What Berth promises of its speed, memory and start, and whether a run saw it."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from statistics import median

from cases import CASES
from figures import Cell, Figures

_NOT_PEERS = ("berth", "floor")
_MOST_WORKER_MIB = 160
_MOST_START_SECONDS = 2
_TITLES = {case.name: case.title for case in CASES}


@dataclass(frozen=True)
class Kept:
    """One line: what was promised against whom, and what came of it."""

    what: str
    against: str
    note: str
    wanted: str
    reached: str
    fine: bool


@dataclass(frozen=True)
class Promise:
    """Requests per second in a case, as a multiple of another's; "best" is the best of all peers."""

    case: str
    against: str
    factor: float


PROMISES = (
    Promise("lr-1", "best", 1.3),
    Promise("lr-1", "floor", 0.5),
    Promise("forest-1", "best", 5),
    Promise("lr-64", "best", 2),
    Promise("forest-64", "best", 2),
    Promise("ridge-1000", "best", 1.3),
    Promise("ridge-1000-v2", "best", 2),
    Promise("mlp-1", "best", 1.5),
)


def known(number: float) -> bool:
    """Whether a figure was measured."""
    return not math.isnan(number)


def _other(promise: Promise, figures: Figures) -> tuple[float, str]:
    """The rate of the one that Berth is compared with, and its name; NaN if there is none."""
    row = figures.cells.get(promise.case, {})
    if promise.against != "best":
        return row.get(promise.against, Cell()).rate, promise.against
    rates = [(cell.rate, name) for name, cell in row.items() if name not in _NOT_PEERS and known(cell.rate)]
    return max(rates, default=(math.nan, ""))


def _check_rates(figures: Figures) -> Iterator[Kept]:
    for promise in PROMISES:
        mine = figures.cells.get(promise.case, {}).get("berth", Cell()).rate
        rate, name = _other(promise, figures)
        if known(mine) and known(rate) and rate:
            note = ", the best peer" if promise.against == "best" else ""
            reached, wanted = f"{mine / rate:.2f} ×", f"≥ {promise.factor:g} ×"
            yield Kept(_TITLES[promise.case], name, note, wanted, reached, mine / rate >= promise.factor)


def check_promises(figures: Figures) -> Iterator[Kept]:
    """Every promise that this run measures."""
    yield from _check_rates(figures)
    weights = [weight.worker_pss for model, weight in figures.weights.get("berth", {}).items() if model != "mlp"]
    starts = [one for model, all_ in figures.starts.get("berth", {}).items() if model != "mlp" for one in all_]
    if weights:
        most, wanted = max(weights), f"≤ {_MOST_WORKER_MIB} MiB"
        yield Kept("memory of a worker", "", "", wanted, f"{most:.0f} MiB", most <= _MOST_WORKER_MIB)
    if starts:
        middle, wanted = median(starts), f"< {_MOST_START_SECONDS} s"
        yield Kept("start to first response", "", "", wanted, f"{middle:.2f} s", middle < _MOST_START_SECONDS)
