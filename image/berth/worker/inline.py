"""Predictions served from bytes to bytes, by the thread that found them, where nothing has to be waited for.

Handing a request to another thread, and the connection back, costs several times what a small model does.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import NamedTuple

from berth.errors import BerthError
from berth.serving.predictor import WouldWait
from berth.web.arms import find_running
from berth.web.endpoints import match_prediction
from berth.web.exchange import Endpoint
from berth.web.pipeline import Pipeline
from berth.web.status_lines import STATUS_LINES
from berth.web.streams import StreamAnswers
from berth.worker.http1 import count_missing, encode_response, parse_request


class InlineAnswer(NamedTuple):
    """What to send, and whether the connection must close then.

    Without data the request can be served here so far, and its rest is on the way: all of it has `whole_bytes`.
    """

    data: bytes
    closes: bool = False
    whole_bytes: int = 0


# A longer line is rare, and would fill the cache with what a client made up.
_MOST_LINE_BYTES = 256


def _read_line(data: bytes) -> tuple[str, Endpoint, Mapping[str, str]] | None:
    """Path, endpoint and variable parts where a request's first line reaches a prediction as it stands."""
    end = data.find(b"\r\n", 0, _MOST_LINE_BYTES)
    return _match_line(data[:end]) if end > 0 else None


@lru_cache(maxsize=1024)
def _match_line(line: bytes) -> tuple[str, Endpoint, Mapping[str, str]] | None:
    method, _, rest = line.decode("latin-1").partition(" ")
    path, _, version = rest.partition(" ")
    found = match_prediction(path) if (method, version) == ("POST", "HTTP/1.1") else None
    return None if found is None else (path, *found)


class InlineAnswers:
    """Serves predictions on the worker's main thread, through the same pipeline as all others."""

    def __init__(self, pipeline: Pipeline) -> None:
        self._pipeline = pipeline
        self._backend = pipeline.backend

    @staticmethod
    def is_prediction(data: bytes) -> bool:
        """Whether bytes begin with the line of a request for a prediction."""
        return _read_line(data) is not None

    def answer_plain(self, data: bytes, client: str, waiting: int = 0) -> InlineAnswer | None:
        """The response to a request as it came, or how long all of it is.

        `waiting` is how many more predictions have arrived and will be served by this thread: they count as in
        flight. None, and nothing has happened, for a request that is not for a prediction or would have to wait.
        """
        gate = self._pipeline.gate
        gate.waiting = waiting  # reported by the gate's next ticket, or below where there is none
        answer = self._answer(data, client)
        gate.report()
        return answer

    def _answer(self, data: bytes, client: str) -> InlineAnswer | None:
        found = _read_line(data)
        if found is None or not self._may_try(found[2]):
            return None
        path, endpoint, args = found
        environ = parse_request(data, "POST", path, client)
        if environ is None or "gzip" in environ.get("HTTP_CONTENT_ENCODING", "").lower():
            return None  # few bytes of gzip may be many of JSON: not on a thread that has others to serve
        if missing := count_missing(environ):
            if StreamAnswers.is_stream(environ.get("CONTENT_TYPE", "")):
                return None  # it is served line by line, as they come
            return InlineAnswer(b"", whole_bytes=len(data) + missing)
        try:
            status, headers, body = self._pipeline.run(endpoint, environ, args, may_wait=False)
        except WouldWait:
            return None
        closes = ("Connection", "close") in headers
        if closes:
            headers.remove(("Connection", "close"))
        return InlineAnswer(encode_response(STATUS_LINES[status], headers, body, closes), closes)

    def _may_try(self, args: Mapping[str, str]) -> bool:
        """Whether it is worth trying to serve without waiting; the model that a body names is not known yet."""
        name, version = args.get("name"), args.get("version")
        if self._backend.experiments is not None and find_running(self._backend, name, version) is not None:
            return True  # which arm it gets is not known yet; `predict` decides
        try:
            model = self._backend.catalog.resolve(name, version)
        except BerthError:  # not loaded or unknown, which is said at once
            return True
        return self._backend.predictor.may_answer_at_once(model)
