"""Which arm of an experiment serves a request, and what a public name stands for where nothing is predicted."""

from __future__ import annotations

from berth.errors import ModelNotFound
from berth.experiments.live import Running, Shadowing
from berth.experiments.shadowing import is_shadowed
from berth.models.model import Model
from berth.models.store import Entry
from berth.web.auth import check_allowed
from berth.web.exchange import Backend, Exchange
from berth.web.line_arms import LineArms


def find_running(backend: Backend, name: str | None, version: str | None) -> Running | None:
    """The experiment that a request's words reach; naming a version bypasses it."""
    live = backend.experiments
    if live is None or version is not None:
        return None
    return live.running.get(backend.catalog.entries[0].name if name is None else name)


def public_names(backend: Backend) -> list[str]:
    """The names of experiments that no served model has."""
    running = {} if backend.experiments is None else backend.experiments.running
    return [name for name in running if not backend.catalog.versions(name)]


def assign_arm(exchange: Exchange, backend: Backend, running: Running) -> Model:
    """Note the request's arm; of a unit that is a column, only until it is decoded.

    Raises Forbidden, ModelFailed, NotReady.
    """
    if exchange.api_key is not None:
        check_allowed(exchange.api_key, running.experiment.model)
    if running.is_by_column:
        exchange.unsettled = running
        arm = running.experiment.arms[0]
    else:
        unit = None if running.header is None else exchange.environ.get(running.header)
        decision = exchange.decision = running.decide(unit or None, exchange.request_id)
        arm = decision.share.arm
    model = exchange.model = backend.catalog.resolve(arm.model, arm.version)
    return model


def assign_lines(exchange: Exchange, backend: Backend, name: str | None) -> LineArms | None:
    """What assigns the lines of a stream, whose model is chosen; None where all have one, by the header it carries."""
    decision = exchange.decision
    if exchange.unsettled is None and (decision is None or decision.sticky):
        return None
    running = exchange.unsettled or find_running(backend, name, None)
    assert running is not None  # noqa: S101 - it has just decided
    exchange.unsettled, exchange.decision, exchange.by_line = None, None, running.experiment.name
    model = running.experiment.model

    def find() -> Running:  # the shares may change while the stream is open
        live = backend.experiments
        return running if live is None else live.running.get(model) or running

    return LineArms(find, backend.catalog.resolve, exchange.request_id)


def note_shadow(exchange: Exchange, found: Shadowing) -> None:
    """Note the shadow of a request's public name, where the request belongs to its share."""
    if is_shadowed(exchange.request_id, found.shadow.share):
        exchange.shadowing = found


def stand_in(backend: Backend, running: Running) -> Model | None:
    """What describes a public name that no served model has: its first arm, once all are ready; None for others.

    Raises ModelFailed, NotReady.
    """
    if backend.catalog.versions(running.experiment.model):
        return None
    arms = [backend.catalog.resolve(arm.model, arm.version) for arm in running.experiment.arms]
    return arms[0]


def first_entry(backend: Backend, name: str) -> Entry:
    """The first arm's entry for a public name. Raises ModelNotFound."""
    if (running := find_running(backend, name, None)) is None:
        raise ModelNotFound(f"no model {name[:128]!r} here")
    arm = running.experiment.arms[0]
    return backend.catalog.find(arm.model, arm.version)
