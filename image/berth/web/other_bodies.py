"""Bodies of /predict that are not its JSON: lines and events."""

from __future__ import annotations

from berth.errors import UnsupportedMediaType
from berth.web import wire
from berth.web.cloudevents import EVENT, Answer, answer_structured
from berth.web.exchange import Backend, Exchange, Reply
from berth.web.ndjson import NDJSON, answer_whole


def answer_other(exchange: Exchange, backend: Backend, refused: UnsupportedMediaType, answer: Answer) -> Reply:
    """The response to a body of another media type; `answer` responds to the JSON in it.

    Raises `refused` where there is none, RequestError, ServerError.
    """
    media_type = wire.media_type(exchange.environ)
    if media_type == NDJSON:
        return answer_whole(exchange, backend)
    if media_type == EVENT:
        return answer_structured(exchange, backend, answer)
    raise refused
