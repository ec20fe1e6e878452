"""The rounds: every server in turn, one at a time; checked, warmed up, loaded, weighed and ended."""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import product
from pathlib import Path

import httpx
from case_requests import CaseRequest, flat, numbers_of, request_of
from cases import Case, answers_of, model_file
from compared_servers import Peer, Start, Variant
from figures import Cell, Figures, Plan
from servers import Server, ServerFailed, free_port, post, running
from wrk import run_wrk

Tell = Callable[[str], None]

_TOLERANCE = 1e-4
_PACED_CASES = frozenset({"lr-1", "forest-1"})


def _environ(peer: Peer, start: Start) -> Mapping[str, str]:
    """What the server starts with: nothing of Berth's from outside, one thread for numerics, nobody called home."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("BERTH_", "PROMETHEUS_"))}
    threads = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    silent = {"BENTOML_DO_NOT_TRACK": "True", "MLFLOW_DISABLE_TELEMETRY": "true", "DO_NOT_TRACK": "1"}
    given = {"BENCH_MODEL": str(model_file(start.case.model)), "BENCH_PORT": str(start.port)}
    kept["PATH"] = f"{Path(peer.python).parent}{os.pathsep}{kept.get('PATH', '')}"
    return {**kept, **threads, **silent, **given, **start.options}


def check_answer(server: Server, peer: Peer, case: Case, request: CaseRequest) -> None:
    """The server returns what the model itself predicts. Raises ServerFailed."""
    try:
        status, said = post(server.port, request.path, request.body, request.headers)
    except httpx.HTTPError as error:
        raise ServerFailed(f"no response: {error}") from error
    if status != 200:
        raise ServerFailed(f"it returned {status}: {said[:200]!r}")
    got = numbers_of(peer, case, said)
    want = flat(answers_of(case))
    if peer.name != "floor" and (
        len(got) != len(want) or any(abs(a - b) > _TOLERANCE for a, b in zip(got, want, strict=True))
    ):
        raise ServerFailed(f"a wrong prediction: {got[:5]}, want {want[:5]}")


@contextmanager
def serving_peer(peer: Peer, variant: Variant, case: Case) -> Iterator[tuple[Server, Path]]:
    """A peer's server, and a folder that is gone with it. Raises ServerFailed."""
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        start = Start(peer.python, case, free_port(), Path(name), variant.options)
        command = peer.command(start)
        first = request_of(peer, case)
        ask = (first.path, first.body, first.headers)
        with running(command, _environ(peer, start), start.port, ask, Path(name)) as server:
            yield server, Path(name)


def _load(server: Server, peer: Peer, case: Case, plan: Plan, folder: Path, cell: Cell, pace: bool) -> None:
    request = request_of(peer, case)
    url, body, headers = f"http://127.0.0.1:{server.port}{request.path}", request.body, request.headers
    check_answer(server, peer, case, request)
    run_wrk(url, body, folder, seconds=plan.warm_seconds, connections=plan.connections, headers=headers)
    before = server.cpu_seconds()
    seen = run_wrk(url, body, folder, seconds=plan.seconds, connections=plan.connections, headers=headers)
    cpu = server.cpu_seconds() - before
    if seen.wrong or seen.broken:
        raise ServerFailed(f"{seen.wrong} responses were errors and {seen.broken} never came")
    cell.rounds.append(seen)
    cell.cpu_ms.append(cpu * 1000 / max(1, seen.good))
    if pace and case.name in _PACED_CASES:
        cell.paced_rate = cell.rate / 2
        cell.paced = run_wrk(
            url, body, folder, seconds=plan.seconds, connections=plan.connections, rate=cell.paced_rate
        )
    check_answer(server, peer, case, request)


def _measure_server(peer: Peer, cases: Sequence[Case], figures: Figures, last: bool, tell: Tell) -> None:
    """One start of a server with one model, and all cases of that model."""
    variant = figures.variant(peer, cases[0].model)
    with serving_peer(peer, variant, cases[0]) as (server, folder):
        figures.starts.setdefault(peer.name, {}).setdefault(cases[0].model, []).append(server.ready_seconds)
        for case in cases:
            cell = figures.cell(case, peer)
            try:
                _load(server, peer, case, figures.plan, folder, cell, last)
                rate, cpu = cell.rounds[-1].rate, cell.cpu_ms[-1]
                tell(f"  {case.name:11} {peer.name:9} {rate:8.0f} requests/s, {cpu:.2f} ms CPU each")
            except (ServerFailed, subprocess.CalledProcessError) as error:
                cell.problem = str(error)
                tell(f"  {case.name:11} {peer.name:9} failed: {error}")
        figures.weights.setdefault(peer.name, {})[cases[0].model] = server.weigh()


def _try_server(peer: Peer, cases: Sequence[Case], figures: Figures, last: bool, tell: Tell) -> None:
    """The same, where a server that does not start is noted in all of its cases."""
    try:
        _measure_server(peer, cases, figures, last, tell)
    except ServerFailed as error:
        tell(f"  {cases[0].model:11} {peer.name:9} failed: {error}")
        for case in cases:
            figures.cell(case, peer).problem = str(error)


def choose(wanted: Sequence[tuple[Case, Peer]], figures: Figures, tell: Tell) -> None:
    """Try every variant of every peer for a moment, with each model's first case, and keep the best."""
    first = {(case.model, peer.name): (case, peer) for case, peer in reversed(wanted) if len(peer.variants) > 1}
    for (model, name), (case, peer) in first.items():
        rates: dict[str, float] = {}
        for variant in peer.variants:
            tell(f"  {variant.title}")
            trial = Figures(Plan(2.0, 1.0, 1, figures.plan.connections), {}, choices={name: {model: variant.title}})
            _try_server(peer, [case], trial, False, tell)
            cell = trial.cell(case, peer)
            rates[variant.title] = 0.0 if cell.problem else cell.rate
        figures.choices.setdefault(name, {})[model] = max(rates, key=lambda title: rates[title])


def measure(wanted: Sequence[tuple[Case, Peer]], figures: Figures, tell: Tell) -> Iterator[int]:
    """Every round, server after server for each model; yields the number of a round when it is over.

    What fails once is left out of the later rounds.
    """
    models = dict.fromkeys(case.model for case, _ in wanted)
    peers = dict.fromkeys(peer.name for _, peer in wanted)
    for number in range(1, figures.plan.rounds + 1):
        tell(f"round {number} of {figures.plan.rounds}")
        for model, name in product(models, peers):
            mine = [(case, peer) for case, peer in wanted if case.model == model and peer.name == name]
            cases = [case for case, peer in mine if not figures.cell(case, peer).problem]
            if cases:
                _try_server(mine[0][1], cases, figures, number == figures.plan.rounds, tell)
        yield number
