"""Rows as lines: one value of `features` a line in, one object with the outputs a line out, in the same order.

A line that has no prediction is `{"error", "code", "line"}`, and the others are not affected: a batch that fails is
halved until the bad rows stand alone, as `berth score` does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple
from urllib.parse import parse_qs

from berth.errors import BerthError, InvalidInput, PredictionFailed, shown
from berth.experiments.live import Decision
from berth.models.model import Model
from berth.score.answering import answer_chunk, list_values
from berth.score.value_texts import encode_line
from berth.serving.predictor import WouldWait
from berth.telemetry.feedback.tally import PREDICTION
from berth.tensors.arrays import Array, Tensors
from berth.tensors.codec import decode_line
from berth.tensors.instances import decode_lines
from berth.tensors.output_names import name_outputs
from berth.tensors.schema import usual_outputs
from berth.web import wire
from berth.web.access import choose_model
from berth.web.arms import assign_lines
from berth.web.exchange import Backend, Exchange, Reply
from berth.web.line_arms import ArmPart, LineArms, choose_rows, group_places, put_back

NDJSON = "application/x-ndjson"
# Rows of one model call.
CHUNK_ROWS = 1000
_QUERY_KEYS = ("model", "version", "outputs", "receipts")
# Keys of a line beside the outputs.
ARM, RECEIPT = "arm", "receipt"
# A line by its number in the stream, which begins with 1.
Numbered = tuple[int, bytes]


class ServedLines(NamedTuple):
    """What one version predicted of a chunk: its lines, the lines of its response, and its last call.

    `decisions` are those of single lines, each with the status that it would have had as a request.
    """

    model: Model
    request: bytes
    response: bytes
    decisions: Sequence[tuple[Decision, int]]
    tensors: Tensors
    outputs: Mapping[str, Array]


def _place(at: int, row: Any) -> Any:
    """A row with its place in the chunk, which halves of it keep; an error as it is."""
    return row if isinstance(row, BerthError) else (at, row)


@dataclass(frozen=True)
class LineAnswers:
    """The model and the outputs of one stream; `predict` is what calls a model, `arms` assign lines where they have to.

    `make_receipt` gives a line's receipt, where the client wants one.
    """

    model: Model
    outputs: tuple[str, ...]
    predict: Callable[[Model, Tensors], Mapping[str, Array]]
    arms: LineArms | None = None
    make_receipt: Callable[[Model, Mapping[str, Array], Decision | None], str | None] | None = None

    @property
    def columns(self) -> tuple[str, ...]:
        """The keys of a line: the outputs, and what else it says where no output has that name."""
        more: tuple[str, ...] = (ARM,) if self.arms is not None else ()
        more += (RECEIPT,) if self.make_receipt is not None else ()
        return (*self.outputs, *(name for name in more if name not in self.outputs))

    def _ask(self, numbers: Sequence[int], parts: dict[str, ArmPart], rows: Sequence[Any]) -> dict[str, list[Any]]:
        """The columns of rows, each with its place in the chunk."""
        places = [place for place, _ in rows]
        tensors = decode_lines([row for _, row in rows], self.model.inputs)
        try:
            if self.arms is None:
                return self._predict(parts[""], tensors, [None] * len(rows))
            decisions = self.arms.decide(self.model.inputs, tensors, [numbers[place] for place in places])
            return self._predict_arms(self.arms, parts, places, tensors, decisions)
        except PredictionFailed as error:  # `berth score` prints the cause, which a client must not see
            raise PredictionFailed(error.message) from None

    def _predict(self, part: ArmPart, tensors: Tensors, decisions: Sequence[Decision | None]) -> dict[str, list[Any]]:
        found = self.predict(part.model, tensors)
        part.tensors, part.outputs = tensors, found
        columns = list_values(found, self.outputs)
        if ARM in self.columns and ARM not in columns:
            columns[ARM] = [each.arm.key for each in decisions if each is not None]
        if self.make_receipt is not None and RECEIPT not in columns:
            rows = ({name: array[at : at + 1] for name, array in found.items()} for at in range(len(decisions)))
            columns[RECEIPT] = [self.make_receipt(part.model, *pair) for pair in zip(rows, decisions, strict=True)]
        return columns

    def _predict_arms(
        self, arms: LineArms, parts: dict[str, ArmPart], places: Sequence[int], tensors: Tensors,
        decisions: Sequence[Decision],
    ) -> dict[str, list[Any]]:  # fmt: skip
        columns: dict[str, list[Any]] = {name: [None] * len(places) for name in self.columns}
        for key, group in group_places(decisions).items():
            arm = decisions[group[0]].arm
            part = parts.setdefault(key, ArmPart(arms.resolve(arm.model, arm.version)))
            part.decisions |= {places[at]: decisions[at] for at in group}
            put_back(columns, self._predict(part, choose_rows(tensors, group), [decisions[at] for at in group]), group)
        return columns

    def answer(self, lines: Sequence[Numbered]) -> tuple[bytes, list[ServedLines]]:
        """The lines that respond to these, and which version predicted which of them.

        Raises Overloaded, DeadlineExceeded, which concern all of them.
        """
        rows = [_place(at, decode_line(line)) for at, (_, line) in enumerate(lines)]
        numbers, columns = [number for number, _ in lines], self.columns
        parts: dict[str, ArmPart] = {} if self.arms is not None else {"": ArmPart(self.model)}
        answers, failures = answer_chunk(
            rows, 0, columns, lambda chosen, _: self._ask(numbers, parts, chosen), lambda placed: placed[1]
        )
        values = zip(*(answers[name] for name in columns), strict=True)
        written = [encode_line(dict(zip(columns, row, strict=True))) for row in values]
        for failure in failures:
            written[failure.row] = error_line(failure.message, failure.code, numbers[failure.row])
        failed = {failure.row: 500 if failure.code == PredictionFailed.code else 400 for failure in failures}
        return b"".join(written), list_served(lines, written, list(parts.values()) or [ArmPart(self.model)], failed)


def list_served(
    lines: Sequence[Numbered], written: Sequence[bytes], parts: Sequence[ArmPart], failed: Mapping[int, int]
) -> list[ServedLines]:
    """Each version's part of a chunk; lines that reached no arm belong to the first one. `failed`: status by place."""
    reached = {place for part in parts for place in part.decisions}
    others = [place for place in range(len(lines)) if place not in reached]
    found = []
    for part in parts:
        places, others = sorted([*part.decisions, *others]), []
        decisions = [(decision, failed.get(place, 200)) for place, decision in part.decisions.items()]
        request = b"\n".join(lines[place][1] for place in places)
        response = b"".join(written[place] for place in places)
        found.append(ServedLines(part.model, request, response, decisions, part.tensors, part.outputs))
    return found


def error_line(message: str, code: str, line: int) -> bytes:
    """A line for one that has no prediction."""
    return encode_line({"error": message, "code": code, "line": line})


def error_lines(error: BerthError, lines: Sequence[Numbered]) -> bytes:
    """A line for each of those that share an error."""
    return b"".join(error_line(error.message, error.code, number) for number, _ in lines)


def _read_query(exchange: Exchange) -> dict[str, str]:
    """`model`, `version` and `outputs` of the URL, where a body would have them. Raises InvalidInput."""
    query = parse_qs(exchange.environ.get("QUERY_STRING", ""), keep_blank_values=True, max_num_fields=16)
    if unknown := sorted(set(query) - set(_QUERY_KEYS)):
        raise InvalidInput(f"unknown parameter {unknown[0][:60]!r}; a stream has {', '.join(_QUERY_KEYS)}")
    return {name: values[-1] for name, values in query.items()}


def _make_receipts(
    backend: Backend, exchange: Exchange, wanted: str
) -> Callable[[Model, Mapping[str, Array], Decision | None], str | None] | None:
    """What makes a line's receipt; None where none is wanted. Raises InvalidInput."""
    if wanted not in ("true", "false"):
        raise InvalidInput(f"receipts must be true or false, got {shown(wanted)}")
    if wanted == "false":
        return None
    if not backend.tally.secrets:
        raise InvalidInput("this server makes no receipts; set BERTH_FEEDBACK_KEY_FILE, or send no receipts=true")

    def make(model: Model, outputs: Mapping[str, Array], decision: Decision | None) -> str | None:
        decision = decision or exchange.decision
        return backend.tally.make_receipt(model, outputs, "" if decision is None else decision.share.receipt)

    return make


def open_lines(exchange: Exchange, backend: Backend) -> LineAnswers:
    """What responds to the lines of a request. Raises RequestError, ServerError."""
    try:
        query = _read_query(exchange)
    except ValueError as error:  # too many fields
        raise InvalidInput(f"the URL's query cannot be read: {error}") from error
    model = choose_model(exchange, backend, query.get("model"), query.get("version"))
    outputs = usual_outputs(model.outputs)
    if "outputs" in query:
        outputs = tuple(name_outputs(query["outputs"].split(","), model.outputs).values())
    if not model.batchable:
        raise InvalidInput(f"{model.name} does not process several rows at once; send one request per row")
    arms = assign_lines(exchange, backend, query.get("model"))
    make_receipt = _make_receipts(backend, exchange, query.get("receipts", "false"))
    called = outputs
    if make_receipt is not None and PREDICTION not in outputs and PREDICTION in usual_outputs(model.outputs):
        called = (*outputs, PREDICTION)

    def predict(model: Model, tensors: Tensors) -> Mapping[str, Array]:
        return backend.predict(exchange, model, tensors, called)

    return LineAnswers(model, outputs, predict, arms, make_receipt)


def _split(body: bytes) -> Iterator[list[Numbered]]:
    lines = [(number, line) for number, line in enumerate(body.split(b"\n"), 1) if line.strip()]
    for start in range(0, len(lines), CHUNK_ROWS):
        yield lines[start : start + CHUNK_ROWS]


def answer_whole(exchange: Exchange, backend: Backend) -> Reply:
    """The response to lines that came as one body; the worker's streams do not come this way. Raises WouldWait."""
    if not exchange.may_wait:  # it has a thread of its own
        raise WouldWait
    opened = open_lines(exchange, backend)
    body = wire.read_body(exchange, backend.max_body_bytes)
    pieces, decisions = [], list[tuple[Decision, int]]()
    for lines in _split(body):
        try:
            written, served = opened.answer(lines)
        except BerthError as error:
            written, served = error_lines(error, lines), []
        pieces.append(written)
        decisions += [pair for each in served for pair in each.decisions]
    exchange.line_decisions = decisions
    return Reply(b"".join(pieces), content_type=NDJSON)
