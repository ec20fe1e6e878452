"""What is known of one request while it is answered, and where to find it.

A thread answers one request at a time, so the current one is the thread's.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

from berth.errors import BerthError
from berth.models.model import Model
from berth.web.auth import ApiKey, check_allowed

_here = threading.local()
_PREDICTS = "berth_predicts"
View = TypeVar("View", bound=Callable[..., Any])


@dataclass(slots=True)
class Exchange:
    """One request: filled in by the edge and the view, read by the log line and the metrics.

    `began` and `deadline` are `time.monotonic()` seconds.
    """

    environ: dict[str, Any]
    request_id: str
    began: float
    deadline: float
    trace_id: str = ""
    protocol: str = ""
    model: Model | None = None
    rows: int = 0
    age_seconds: float | None = None
    api_key: ApiKey | None = None
    ticket: int | None = None
    error: BerthError | None = None
    # False on a thread that has others to serve: what would make it wait raises WouldWait instead.
    may_wait: bool = True
    # The body as it was read, where it is kept for the payload log.
    keeps_body: bool = False
    body: bytes | None = None
    # The span, and of each prediction when it began (monotonic) and its seconds.
    span: Any = None
    calls: list[tuple[float, float]] = field(default_factory=list)


def attach(exchange: Exchange) -> None:
    """Make `exchange` the one that this thread answers."""
    _here.exchange = exchange


def current() -> Exchange:
    """The exchange that this thread answers."""
    exchange: Exchange = _here.exchange
    return exchange


def choose_model(model: Model) -> Model:
    """Note the request's model, once the caller's key is known to be good for it. Raises Forbidden."""
    exchange = current()
    check_allowed(exchange.api_key, model.name)
    exchange.model = model
    return model


def predicts(protocol: str) -> Callable[[View], View]:
    """Mark a view that runs a model: the edge admits it through the gate and counts it under `protocol`."""

    def mark(view: View) -> View:
        setattr(view, _PREDICTS, protocol)
        return view

    return mark


def predict_protocol(view: Callable[..., Any]) -> str:
    """The protocol a view was marked with; empty for one that runs no model."""
    protocol: str = getattr(view, _PREDICTS, "")
    return protocol
