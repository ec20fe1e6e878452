"""bench/RESULTS.md: what was measured, against what was promised, how sure it is, and how to do it again."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import TypeVar

from cases import CASES, Case
from compared_servers import PEERS, Peer
from figures import Cell, Figures
from promises import check_promises, known

_TITLES = {peer.name: peer.title for peer in PEERS}
_HOW = """Each server runs alone, with two workers, on the same cores as wrk (one thread). Within a round the servers
take turns, and the rounds follow each other, so that a slow minute of the machine meets all of them; a figure is the
median of the rounds. Before and after each load the response is compared with the model's own prediction,
and a load with one response that is an error counts for nothing. Requests and responses are JSON in each server's own
format, over connections that stay open. Where a peer's documentation leaves a choice, each way was tried and the best
was used for each model. Berth runs with every setting at its default, its request log on and its cache off; the peers'
access logs are off. BLAS and torch have one thread a worker everywhere. `CPU ms` is the server's processor
time for each response."""
_PACED = """Half of what each server can do at most, sent to a timetable by wrk: a connection that is free takes the
next place, so that a slow response is not followed by a pause. `held` is the share of the timetable that was kept."""
_MEMORY = """After the loads, for the scikit-learn model with the largest memory. PSS divides a page among the processes
that share it, so it adds up; a worker is the heaviest process. Start is from the command to the first correct response
of a scikit-learn model, the median of all starts."""
_AGAIN = (
    "Again: `make bench`; it needs wrk, and its first run installs the peers. `bench/run --help` lists the options."
)

Value = TypeVar("Value")


def _number(value: float, form: str = ",.0f") -> str:
    return format(value, form) if known(value) else "–"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]], words: int = 1) -> list[str]:
    """A Markdown table; the first `words` columns are text, the others figures to the right. None without rows."""
    line = "|" + "---|" * words + "---:|" * (len(head) - words)
    return [f"| {' | '.join(head)} |", line, *(f"| {' | '.join(row)} |" for row in rows), ""] if rows else []


def _section(title: str, lines: Sequence[str], words: str = "") -> list[str]:
    return [f"## {title}", "", *([words, ""] if words else []), *lines] if lines else []


def _promises(figures: Figures) -> list[str]:
    rows = [
        [kept.what, f"{_TITLES[kept.against]}{kept.note}" if kept.against else "", kept.wanted, kept.reached,
         "yes" if kept.fine else "**no**"]
        for kept in check_promises(figures)
    ]  # fmt: skip
    return _table(["", "against", "wanted", "reached", "kept"], rows, words=2)


def _case_rows(figures: Figures, case: Case) -> Iterator[list[str]]:
    row = figures.cells.get(case.name, {})
    berth = row.get("berth", Cell()).rate
    for name, cell in sorted(row.items(), key=lambda item: -item[1].rate if known(item[1].rate) else math.inf):
        if not known(cell.rate):
            yield [_TITLES[name], "failed" if cell.problem else "–", "", "", "", "", ""]
            continue
        yield [
            _TITLES[name],
            _number(cell.rate),
            f"± {cell.spread:.0%}" if known(cell.spread) else "–",
            _number(berth / cell.rate, ".2f") if cell.rate else "–",
            _number(median(cell.cpu_ms), ".2f"),
            _number(cell.middle("p50"), ".1f"),
            _number(cell.middle("p99"), ".1f"),
        ]


def _rates(figures: Figures) -> Iterator[str]:
    head = ["", "requests/s", "noise", "Berth ÷ it", "CPU ms", "p50 ms", "p99 ms"]
    for case in CASES:
        if lines := _table(head, list(_case_rows(figures, case))):
            yield from [f"### {case.title[0].upper()}{case.title[1:]}", "", *lines]


def _paced(figures: Figures) -> Iterator[str]:
    head = ["", "requests/s sent", "held", "p50 ms", "p99 ms"]
    for case in CASES:
        rows = [
            [
                _TITLES[name],
                _number(cell.paced_rate),
                f"{min(1.0, cell.paced.rate / cell.paced_rate):.0%}",
                f"{cell.paced.p50:.1f}",
                f"{cell.paced.p99:.1f}",
            ]
            for name, cell in figures.cells.get(case.name, {}).items()
            if cell.paced and cell.paced_rate
        ]
        if rows:
            yield from [f"### {case.title[0].upper()}{case.title[1:]}", "", *_table(head, rows)]


def _without_net(found: Mapping[str, Value]) -> list[Value]:
    return [value for model, value in found.items() if model != "mlp"]


def _weights(figures: Figures) -> list[str]:
    rows = []
    for name, weights in figures.weights.items():
        starts = [second for seconds in _without_net(figures.starts.get(name, {})) for second in seconds]
        most = max(_without_net(weights), key=lambda one: one.worker_pss, default=None)
        sizes = [most.processes, most.total_pss, most.worker_pss, most.worker_rss] if most else [math.nan] * 4
        net = weights["mlp"].worker_pss if "mlp" in weights else math.nan
        start = median(starts) if starts else math.nan
        rows.append([_TITLES[name], _number(start, ".1f"), *map(_number, sizes), _number(net)])
    head = ["", "start s", "processes", "PSS MiB", "a worker's PSS", "a worker's RSS", "a worker's PSS with torch"]
    return _table(head, rows)


def _settings(figures: Figures, peer: Peer) -> str:
    """How a peer is set up; where the best was looked for, for each model."""
    chosen: dict[str, list[str]] = {}
    for model in dict.fromkeys(case.model for case in CASES if peer.takes(case)):
        if title := figures.variant(peer, model).title:
            chosen.setdefault(title, []).append(model)
    return "; ".join([peer.settings, *(f"{title} ({', '.join(models)})" for title, models in chosen.items())])


def _failures(figures: Figures) -> list[str]:
    lines = [f"- {_TITLES[name]} could not be installed: {why}" for name, why in figures.missing.items()]
    lines += [f"- no model `{name}`: {why}" for name, why in figures.untrained.items()]
    for case, row in figures.cells.items():
        lines += [f"- {_TITLES[name]}, {case}: {cell.problem}" for name, cell in row.items() if cell.problem]
    return [*lines, ""] if lines else []


def _noise(figures: Figures) -> str:
    spreads = [cell.spread for row in figures.cells.values() for cell in row.values() if known(cell.spread)]
    if not spreads:
        return "One round says nothing about the noise: these figures are a sketch."
    return (
        f"Between the rounds a figure moved by ± {median(spreads):.0%} in the median and ± {max(spreads):.0%} at most;"
        " a second run should agree within that, and a ratio of two figures within twice that."
    )


def _before(figures: Figures, path: Path | None) -> str:
    """How far away the run before this one was."""
    if path is None or not path.exists():
        return ""
    earlier = json.loads(path.read_text("utf-8"))
    shifts = [
        abs(cell.rate / then - 1)
        for case, row in figures.cells.items()
        for name, cell in row.items()
        if known(cell.rate) and (then := earlier["cells"].get(case, {}).get(name, {}).get("rate"))
    ]
    if not shifts:
        return ""
    date = earlier["facts"]["date"]
    return f" The run before, of {date}, was {median(shifts):.0%} away in the median and {max(shifts):.0%} at most."


def describe(figures: Figures, before: Path | None) -> str:
    """The whole page; `before` is the JSON of the run before."""
    plan, facts = figures.plan, figures.facts
    versions = [
        [peer.title, f"{peer.package} {figures.versions[peer.name]}", _settings(figures, peer)]
        for peer in PEERS
        if peer.name in figures.versions
    ]
    lines = [
        "# Berth beside its peers",
        "",
        f"{facts['date']}. {facts['machine']}; {facts['system']}. {plan.rounds} round{'s' * (plan.rounds > 1)} of"
        f" {plan.seconds:g} s after {plan.warm_seconds:g} s of warm-up, {plan.connections} connections.",
        "",
        _noise(figures) + _before(figures, before),
        "",
        _HOW,
        "",
        _AGAIN,
        "",
        *_section("What Berth promises", _promises(figures)),
        *_section("Requests per second", list(_rates(figures))),
        *_section("Latency at half load", list(_paced(figures)), _PACED),
        *_section("Memory and start", _weights(figures), _MEMORY),
        *_section("Versions and settings", _table(["", "version", "settings"], versions, words=3)),
        *_section("What is missing", _failures(figures)),
    ]
    return "\n".join(lines).rstrip() + "\n"
