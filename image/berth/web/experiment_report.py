"""GET /experiments: what the arms got and what they were worth; /experiments/state is what peers and reports add up."""

from __future__ import annotations

import time
from collections.abc import Container
from typing import Any

from berth.experiments.arm_counts import decode_key
from berth.experiments.count_state import CountState, encode_state
from berth.experiments.experiment_file import Experiment, encode_experiment
from berth.experiments.marks import Mark, encode_mark
from berth.experiments.peer_tokens import is_peer
from berth.web import wire
from berth.web.access import is_visible
from berth.web.console import VARY, page_for_browsers
from berth.web.exchange import Backend, Endpoint, Exchange, Reply

_OFF = "no experiments: set BERTH_EXPERIMENT_FILE"


def _is_peer(exchange: Exchange, backend: Backend) -> bool:
    return is_peer(backend.tally.secrets, exchange.environ.get("HTTP_X_BERTH_PEER", ""), time.time())


def _chosen(exchange: Exchange, backend: Backend, everything: bool) -> list[Experiment]:
    """The experiments whose public names the caller may use."""
    found = () if backend.experiments is None else backend.experiments.experiments
    return [each for each in found if everything or is_visible(exchange, backend, each.model)]


def _experiments(exchange: Exchange, backend: Backend) -> Reply:
    document: dict[str, Any] = {"slot": backend.facts["slot"], "experiments": []}
    if backend.experiments is None:
        return wire.json_reply({**document, "reason": _OFF})._replace(headers=VARY)
    visible = {each.name for each in _chosen(exchange, backend, False)}
    found = [each for each in backend.experiments.report() if each["name"] in visible]
    return wire.json_reply({**document, "experiments": found})._replace(headers=VARY)


def _select(state: CountState, names: Container[str]) -> CountState:
    """The part of a state that is about some experiments."""
    sources = {
        source: {key: values for key, values in arms.items() if decode_key(key).experiment in names}
        for source, arms in state.sources.items()
        if names
    }
    cells = {key: bits for key, bits in state.cells.items() if decode_key(key).experiment in names}
    return CountState(sources, cells)


def _state(exchange: Exchange, backend: Backend) -> Reply:
    """Without a key, or the token of a pod with the same secret, where keys are on: nothing."""
    peer, live = _is_peer(exchange, backend), backend.experiments
    chosen = _chosen(exchange, backend, peer)
    state, mark = (CountState(), Mark()) if live is None else (live.state(), live.mark())
    if not peer:
        names = {each.name for each in chosen}
        state, mark = _select(state, names), Mark(mark.minute, _select(mark.state, names))
    definitions = [encode_experiment(each) for each in chosen]
    document = {"experiments": definitions, "state": encode_state(state), "mark": encode_mark(mark)}
    return wire.json_reply(document)


ENDPOINTS = (
    Endpoint("get", "/experiments", "experiments", "operate", "Each experiment's arms, intervals and verdict",
             _experiments, "Object", page=page_for_browsers("experiments.html")),
    Endpoint("get", "/experiments/state", "experiments_state", "operate", "Counts of the arms, for peers and reports",
             _state, "Object", access="open"),
)  # fmt: skip
