"""Bodies of /predict that are not its JSON: lines and events."""

from __future__ import annotations

from collections.abc import Callable

from berth.errors import UnsupportedMediaType
from berth.serving.predictor import WouldWait
from berth.web import ndjson, wire
from berth.web.exchange import Backend, Exchange, Reply

_ANSWERS: dict[str, Callable[[Exchange, Backend], Reply]] = {ndjson.NDJSON: ndjson.answer_whole}


def answer_other(exchange: Exchange, backend: Backend, refused: UnsupportedMediaType) -> Reply:
    """The response to a body of another media type. Raises `refused` where there is none, RequestError, ServerError."""
    answer = _ANSWERS.get(wire.media_type(exchange.environ))
    if answer is None:
        raise refused
    if not exchange.may_wait:  # a stream has a thread of its own
        raise WouldWait
    return answer(exchange, backend)
