"""One request and what serves it: the endpoint, what is known of the request so far, and the reply."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Literal, NamedTuple

from berth.errors import BerthError, Unauthenticated
from berth.experiments.live import Decision, LiveExperiments, Running, Shadowing
from berth.experiments.units import read_unit
from berth.models.model import Model
from berth.serving.catalog import Catalog
from berth.serving.lifecycle import Lifecycle
from berth.serving.predictor import Predictor
from berth.telemetry.drift.monitor import DriftMonitor
from berth.telemetry.feedback.tally import FeedbackTally
from berth.tensors.arrays import Array, Tensors
from berth.web.auth import ApiKey

JSON, TEXT, HTML, CSV = "application/json", "text/plain", "text/html", "text/csv"
BINARY, GRPC = "application/octet-stream", "application/grpc"
# How many bytes of a body are JSON, where tensors follow it.
LENGTH_HEADER = "Inference-Header-Content-Length"
# The statuses of a body that cannot be read, decoded or predicted.
BODY_ERRORS = (400, 408, 413, 415, 429, 500, 503, 504)


class Reply(NamedTuple):
    """A response before any framework has seen it."""

    body: bytes
    status: int = 200
    content_type: str = JSON
    headers: Mapping[str, str] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One method on one path: `answer` makes the reply, everything else describes it.

    `response` and `body` name a schema and a request body of the OpenAPI document, `errors` the statuses beside 200.
    `access` says who needs a key: every caller, none, or as BERTH_PROTECT_METRICS says. An endpoint with a `protocol`
    runs a model: it passes the gate and counts under that name. A `probe` is not logged while it says what it should.
    `page` makes what a browser gets instead, without a key: a page that holds no data and fetches it; None for others.
    """

    method: str
    path: str
    id: str
    tag: str
    summary: str
    answer: Callable[[Exchange, Backend], Reply]
    response: str = "Object"
    media: str = JSON
    body: str = ""
    errors: tuple[int, ...] = ()
    access: Literal["key", "open", "metrics"] = "key"
    protocol: str = ""
    probe: bool = False
    page: Callable[[Exchange], Reply | None] | None = None
    # The path as Flask, the log and the metrics' labels write it: made once, as every request wants it.
    rule: str = field(init=False)

    def __post_init__(self) -> None:
        rule = self.path.replace("{model}", "<name>").replace("{", "<").replace("}", ">")
        object.__setattr__(self, "rule", rule)

    def needs_key(self, protect_metrics: bool) -> bool:
        """Whether a caller must send a key, where keys are on."""
        return self.access == "key" or (self.access == "metrics" and protect_metrics)


@dataclass(frozen=True, slots=True)
class ApiFacts:
    """What the OpenAPI document says beside the models. `secured`: keys are on; `protect_metrics`: for /metrics too."""

    version: str
    secured: bool = False
    protect_metrics: bool = False

    def needs_key(self, endpoint: Endpoint) -> bool:
        """Whether a caller of `endpoint` must send a key."""
        return self.secured and endpoint.needs_key(self.protect_metrics)


@dataclass(frozen=True, slots=True)
class Backend:
    """What replies are made from: the models, what calls them, and the limits."""

    catalog: Catalog
    predictor: Predictor
    lifecycle: Lifecycle
    max_body_bytes: int
    max_rows: int
    api: ApiFacts
    endpoints: Sequence[Endpoint]
    # What /info shows beside the models, and what /metrics returns.
    facts: Mapping[str, Any]
    render_metrics: Callable[[], bytes]
    # Makes receipts, and counts what comes true; what all workers have counted.
    tally: FeedbackTally
    read_quality: Callable[[], list[dict[str, Any]]]
    # None where watching is off.
    drift: DriftMonitor | None = None
    # None without an experiment file.
    experiments: LiveExperiments | None = None

    def predict(self, exchange: Exchange, model: Model, tensors: Tensors, outputs: Sequence[str]) -> dict[str, Array]:
        """The wanted outputs for a request. Raises what `Predictor.predict` raises."""
        if exchange.unsettled is not None:
            model = self._settle(exchange, exchange.unsettled, model, tensors)
        elif exchange.decision is not None and exchange.model is not None:
            model = exchange.model  # of several calls for one request, those after the first go to the settled arm
        found = self.predictor.predict(model, tensors, outputs, exchange.deadline, may_wait=exchange.may_wait)
        exchange.rows += found.rows
        exchange.age_seconds = found.age_seconds
        exchange.calls.append((found.began, found.seconds))
        exchange.outputs = found.outputs
        if exchange.shadowing is not None:
            exchange.tensors = tensors
        if self.drift is not None and (offer := self.drift.offers.get((model.name, model.version))) is not None:
            offer(tensors, found.outputs, found.rows)
        return found.outputs

    def count_elsewhere(self, model: Model, tensors: Tensors, outputs: Mapping[str, Array], seconds: float) -> None:
        """Count a prediction that another process made, as `predict` does."""
        rows = self.predictor.count_elsewhere(model, tensors, outputs, seconds)
        if self.drift is not None and (offer := self.drift.offers.get((model.name, model.version))) is not None:
            offer(tensors, outputs, rows)

    def _settle(self, exchange: Exchange, running: Running, model: Model, tensors: Tensors) -> Model:
        """The arm of a request whose unit is a column. Raises ModelFailed, NotReady."""
        unit = read_unit(model.inputs, tensors, running.experiment.unit.name)
        decision, exchange.unsettled = running.decide(unit, exchange.request_id), None
        exchange.decision = decision
        settled = exchange.model = self.catalog.resolve(decision.arm.model, decision.arm.version)
        return settled


@dataclass(slots=True)
class Exchange:
    """One request: filled in by the pipeline and the endpoint, read by the log line, the metrics and the recorder.

    `args` are the path's variable parts; `began` and `deadline` are `time.monotonic()` seconds.
    """

    endpoint: Endpoint
    environ: Mapping[str, Any]
    args: Mapping[str, str]
    request_id: str
    began: float
    deadline: float
    trace_id: str = ""
    model: Model | None = None
    rows: int = 0
    age_seconds: float | None = None
    api_key: ApiKey | None = None
    ticket: int | None = None
    error: BerthError | None = None
    # What an experiment decided; until its unit, a column, is decoded, the experiment that has to.
    decision: Decision | None = None
    unsettled: Running | None = None
    # Of a stream whose lines have an arm each: the experiment, and the decisions with the status of each line.
    by_line: str = ""
    line_decisions: Sequence[tuple[Decision, int]] = ()
    # The shadow that predicts it again, and with what.
    shadowing: Shadowing | None = None
    tensors: Tensors | None = None
    # False on a thread that has others to serve: what would make it wait raises WouldWait instead.
    may_wait: bool = True
    # What responds in this thread's place when the time runs out (worker/outbox.py); None where nothing can.
    late: Any = None
    # The body as it was read, where it is kept for the payload log.
    keeps_body: bool = False
    body: bytes | None = None
    # Of the last prediction, for its receipt.
    outputs: Mapping[str, Array] = field(default_factory=dict)
    # The span, and of each prediction when it began (monotonic) and its seconds.
    span: Any = None
    calls: list[tuple[float, float]] = field(default_factory=list)

    @property
    def counts(self) -> bool:
        """Whether it requests a prediction and its caller is known: only such requests are counted and recorded."""
        return bool(self.endpoint.protocol) and not isinstance(self.error, Unauthenticated)
