"""Rows as lines: one value of `features` a line in, one object with the outputs a line out, in the same order.

A line that has no prediction is `{"error", "code", "line"}`, and the others are not affected: a batch that fails is
halved until the bad rows stand alone, as `berth score` does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qs

from berth.errors import BerthError, InvalidInput, MalformedJson, PredictionFailed, shown
from berth.models.model import Model
from berth.score.answering import answer_chunk, list_values
from berth.score.jsonl_file import encode_line
from berth.serving.predictor import WouldWait
from berth.tensors.arrays import Array, Tensors
from berth.tensors.codec import decode_json
from berth.tensors.instances import decode_instances
from berth.tensors.output_names import name_outputs
from berth.web import wire
from berth.web.access import choose_model
from berth.web.exchange import Backend, Exchange, Reply

NDJSON = "application/x-ndjson"
# Rows of one model call.
CHUNK_ROWS = 1000
_QUERY_KEYS = ("model", "version", "outputs")
# A line by its number in the stream, which begins with 1.
Numbered = tuple[int, bytes]


def _decode_line(line: bytes) -> Any:
    """The value of a line, or the error that it is."""
    try:
        return decode_json(line)
    except MalformedJson as error:
        return MalformedJson(error.message.replace("the body", "the line", 1))


@dataclass(frozen=True)
class LineAnswers:
    """The model and the outputs of one stream; `predict` is what calls the model."""

    model: Model
    outputs: tuple[str, ...]
    predict: Callable[[Tensors], Mapping[str, Array]]

    def _ask(self, rows: Sequence[Any], number: int) -> dict[str, list[Any]]:
        del number
        tensors = decode_instances(list(rows), self.model.inputs)
        if any(array.shape[:1] != (len(rows),) for array in tensors.values()):
            raise InvalidInput(f"each line must be one row, got {shown(rows[0])}")
        try:
            return list_values(self.predict(tensors), self.outputs)
        except PredictionFailed as error:  # `berth score` prints the cause, which a client must not see
            raise PredictionFailed(error.message) from None

    def answer(self, lines: Sequence[Numbered]) -> bytes:
        """The lines that respond to these. Raises Overloaded, DeadlineExceeded, which concern all of them."""
        rows = [_decode_line(line) for _, line in lines]
        answers, failures = answer_chunk(rows, 0, self.outputs, self._ask)
        columns = [answers[name] for name in self.outputs]
        written = [encode_line(dict(zip(self.outputs, row, strict=True))) for row in zip(*columns, strict=True)]
        for failure in failures:
            written[failure.row] = error_line(failure.message, failure.code, lines[failure.row][0])
        return b"".join(written)


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


def open_lines(exchange: Exchange, backend: Backend) -> LineAnswers:
    """What responds to the lines of a request. Raises RequestError, ServerError."""
    try:
        query = _read_query(exchange)
    except ValueError as error:  # too many fields
        raise InvalidInput(f"the URL's query cannot be read: {error}") from error
    model = choose_model(exchange, backend, query.get("model"), query.get("version"))
    names = tuple(spec.name for spec in model.outputs if not spec.optional)
    outputs = ("prediction",) if "prediction" in names else names
    if "outputs" in query:
        outputs = tuple(name_outputs(query["outputs"].split(","), model.outputs).values())
    if not model.batchable:
        raise InvalidInput(f"{model.name} does not process several rows at once; send one request a row")
    return LineAnswers(model, outputs, lambda tensors: backend.predict(exchange, model, tensors, outputs))


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
    pieces = []
    for lines in _split(body):
        try:
            pieces.append(opened.answer(lines))
        except BerthError as error:
            pieces.append(error_lines(error, lines))
    return Reply(b"".join(pieces), content_type=NDJSON)
