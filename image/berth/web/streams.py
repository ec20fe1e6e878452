"""Streams of rows through the pipeline: what a thread of the worker calls with the two ends of a stream.

A stream is admitted once, by its key; each chunk of it enters the gate, waits there rather than be refused, has the
request's whole time, and counts as one request of the protocol `stream`, in the payload log too; where its lines go to
several arms, as one of each. The log has one line when the stream ends.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Protocol

from berth.errors import (
    BerthError,
    BodyTimeout,
    BodyTooLarge,
    DeadlineExceeded,
    InvalidInput,
    NotReady,
    Overloaded,
    UnsupportedMediaType,
)
from berth.web import predict
from berth.web.exchange import Backend, Exchange, Reply
from berth.web.ndjson import CHUNK_ROWS, NDJSON, LineAnswers, Numbered, ServedLines, error_line, error_lines, open_lines
from berth.web.pipeline import Finished, Pipeline

# A chunk is what comes within this time of its first line.
_CHUNK_SECONDS = 0.05
_GATE_SECONDS = 0.002
_ENDPOINT = replace(predict.ENDPOINTS[0], protocol="stream")


class Ends(Protocol):
    """The transport of a stream; worker/stream_socket.py has one over a socket."""

    cut: Exception | None

    def read_lines(self, most: int, seconds: float) -> Sequence[tuple[int, bytes | None]]:
        """The next lines by number, None for one that is too long; none at the end."""

    def write(self, data: bytes) -> None:
        """Send lines. Raises OSError."""


def _open(exchange: Exchange, backend: Backend) -> LineAnswers:
    if (encoding := exchange.environ.get("HTTP_CONTENT_ENCODING", "identity").strip().lower()) not in ("identity", ""):
        raise UnsupportedMediaType(f"Content-Encoding {encoding[:60]!r} is not supported for a stream; send none")
    return open_lines(exchange, backend)


def _why_cut(cut: Exception) -> BerthError:
    """The error in the last line of a stream that ended early."""
    if isinstance(cut, InterruptedError):
        return NotReady(str(cut))
    if isinstance(cut, TimeoutError):
        return BodyTimeout(str(cut))
    return InvalidInput(f"the stream could not be read to its end: {cut}")


class StreamAnswers:
    """The pipeline's streams."""

    def __init__(self, pipeline: Pipeline, max_line_bytes: int) -> None:
        self._pipeline = pipeline
        self.max_line_bytes = max_line_bytes

    # Where a POST may be one.
    path = _ENDPOINT.rule

    @staticmethod
    def is_stream(content_type: str) -> bool:
        """Whether a request to `path` is a stream."""
        return content_type.split(";")[0].strip().lower() == NDJSON

    def open(self, environ: Mapping[str, Any]) -> tuple[Exchange, LineAnswers] | Finished:
        """An admitted stream, or the response that refuses it."""
        return self._pipeline.open(_ENDPOINT, environ, _open)

    def head_fields(self, exchange: Exchange) -> list[tuple[str, str]]:
        """The response's headers, those of its transfer aside."""
        own, more = self._pipeline.own_headers(exchange), self._pipeline.cross_origin(exchange)
        return [*own, ("Content-Type", NDJSON), *more]

    def run(self, exchange: Exchange, opened: LineAnswers, ends: Ends) -> None:
        """Respond to a stream until it ends. Raises OSError where the client is gone."""
        number = 0
        try:
            while lines := ends.read_lines(CHUNK_ROWS, _CHUNK_SECONDS):
                number = lines[-1][0]
                ends.write(self._answer_chunk(exchange, opened, lines))
            if ends.cut is not None:
                ends.write(self._end_early(exchange, _why_cut(ends.cut), number + 1))
        finally:
            self._pipeline.close(exchange, 200)

    def _end_early(self, exchange: Exchange, error: BerthError, number: int) -> bytes:
        """The last line of a stream that was cut."""
        exchange.error, exchange.body = error, b""
        line = error_line(error.message, error.code, number)
        self._pipeline.keep(exchange, Reply(line, error.status, NDJSON), 0.0)
        return line

    def _answer_chunk(
        self, exchange: Exchange, opened: LineAnswers, lines: Sequence[tuple[int, bytes | None]]
    ) -> bytes:
        """The lines that respond to a chunk; too long ones stand in their places."""
        if all(line is not None for _, line in lines):
            return self._predict_chunk(exchange, opened, [(number, line) for number, line in lines if line is not None])
        written = []
        for number, line in lines:
            if line is None:
                error = BodyTooLarge(f"the line is longer than {self.max_line_bytes} bytes")
                written.append(error_lines(error, [(number, b"")]))
            else:
                written.append(self._predict_chunk(exchange, opened, [(number, line)]))
        return b"".join(written)

    def _predict_chunk(self, exchange: Exchange, opened: LineAnswers, lines: list[Numbered]) -> bytes:
        pipeline, began = self._pipeline, time.monotonic()
        exchange.deadline = began + pipeline.timeout_seconds
        exchange.calls.clear()  # a span of a stream names its last chunk alone
        ticket = None
        try:
            ticket = self._enter(exchange)
            written, served = opened.answer(lines)
        except BerthError as error:
            if isinstance(error, Overloaded | DeadlineExceeded):
                pipeline.reject(exchange, error.code)
            return self._refuse_chunk(exchange, opened, lines, error, time.monotonic() - began)
        finally:
            if ticket is not None:
                pipeline.gate.leave(ticket)
        for part in served:
            self._finish_part(exchange, part, time.monotonic() - began)
        return written

    def _finish_part(self, exchange: Exchange, part: ServedLines, seconds: float) -> None:
        """Count and record what one version predicted of a chunk, as if it was a request."""
        exchange.model, exchange.body, exchange.line_decisions = part.model, part.request, part.decisions
        exchange.tensors, exchange.outputs = part.tensors, part.outputs
        whole = exchange.decision
        if part.decisions:
            exchange.decision = part.decisions[0][0]  # the arm; each line's own is counted
        self._pipeline.keep(exchange, Reply(part.response, content_type=NDJSON), seconds)
        exchange.decision = whole
        self._pipeline.observe(exchange, 200, seconds)
        exchange.line_decisions = ()

    def _refuse_chunk(
        self, exchange: Exchange, opened: LineAnswers, lines: list[Numbered], error: BerthError, seconds: float
    ) -> bytes:
        """The lines of a chunk that has no prediction at all."""
        written = error_lines(error, lines)
        exchange.model, exchange.tensors, exchange.outputs = opened.model, None, {}
        exchange.body, exchange.error = b"\n".join(line for _, line in lines), error
        self._pipeline.keep(exchange, Reply(written, error.status, NDJSON), seconds)
        exchange.error = None  # of this chunk alone
        self._pipeline.observe(exchange, error.status, seconds)
        return written

    def _enter(self, exchange: Exchange) -> int:
        """A place in the gate, waited for: a stream that is refused would be sent again. Raises Overloaded."""
        while True:
            try:
                return self._pipeline.gate.enter()
            except Overloaded:
                if time.monotonic() > exchange.deadline:
                    raise
            time.sleep(_GATE_SECONDS)
