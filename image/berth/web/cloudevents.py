"""CloudEvents on /predict: an event whose data is a request, and the event that responds to it.

Binary mode has the attributes in `ce-*` headers, structured mode in the JSON around `data`. The response comes in the
mode of the request; errors are plain responses, of which Knative retries 429 and 5xx by their status.
https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/bindings/http-protocol-binding.md
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Mapping
from random import getrandbits
from typing import Any, TypeAlias

from berth.errors import InvalidInput, shown
from berth.telemetry.logs import timestamp
from berth.tensors.codec import decode_json, encode_json
from berth.web import wire
from berth.web.exchange import JSON, Backend, Exchange, Reply

EVENT = "application/cloudevents+json"
# What makes a request an event in binary mode.
MARK = "HTTP_CE_SPECVERSION"
_TYPE = "dev.berth.prediction"
_VERSION = "1.0"
_REQUIRED = ("id", "source", "type")
_MOST_CHARACTERS = 1024
# Responds to a /predict body.
Answer: TypeAlias = Callable[[Exchange, Backend, dict[str, Any]], Reply]


def _check(attributes: Mapping[str, Any]) -> None:
    """That an event is one. Raises InvalidInput."""
    if (version := attributes.get("specversion")) != _VERSION:
        raise InvalidInput(f"the event's specversion is {shown(version)}; send {_VERSION}")
    for name in (*_REQUIRED, *({"subject"} & attributes.keys())):
        value = attributes.get(name)
        if not isinstance(value, str) or not 0 < len(value) <= _MOST_CHARACTERS:
            raise InvalidInput(
                f"the event's {name} must be a string of 1 to {_MOST_CHARACTERS} characters, got {shown(value)}"
            )


def _make_attributes(exchange: Exchange, subject: Any) -> dict[str, str]:
    """The attributes of the response, in the order in which they are written."""
    model = exchange.model
    source = f"/models/{model.name}/versions/{model.version}" if model else "/predict"
    made = {"specversion": _VERSION, "id": f"{getrandbits(128):032x}", "source": source, "type": _TYPE}
    return {**made, **({"subject": subject} if subject else {}), "time": timestamp()}


def answer_binary(exchange: Exchange, backend: Backend, answer: Answer) -> Reply:
    """An event in headers, with a /predict body. Raises RequestError, ServerError."""
    environ = exchange.environ
    names = ("specversion", *_REQUIRED, "subject")
    attributes = {name: environ[key] for name in names if (key := f"HTTP_CE_{name.upper()}") in environ}
    _check(attributes)
    reply = answer(exchange, backend, wire.read_json_object(exchange, backend.max_body_bytes))
    # A subject stays percent-encoded as it came.
    made = _make_attributes(exchange, attributes.get("subject"))
    return reply._replace(headers={**reply.headers, **{f"ce-{name}": value for name, value in made.items()}})


def _read_data(event: Mapping[str, Any]) -> dict[str, Any]:
    data = event.get("data")
    if "data_base64" in event:
        try:
            data = decode_json(base64.b64decode(event["data_base64"], validate=True))
        except (binascii.Error, TypeError, ValueError) as error:
            raise InvalidInput(f"the event's data_base64 is not base64: {error}") from error
    if not isinstance(data, dict):
        raise InvalidInput(f"the event's data must be a body of /predict, an object, got {shown(data)}")
    return data


def answer_structured(exchange: Exchange, backend: Backend, answer: Answer) -> Reply:
    """An event as one JSON object, whose data is a /predict body. Raises RequestError, ServerError."""
    event = decode_json(wire.read_body(exchange, backend.max_body_bytes))
    if not isinstance(event, dict):
        raise InvalidInput(f"an event must be an object, got {shown(event)}")
    _check(event)
    if (media := event.get("datacontenttype", JSON)) != JSON:
        raise InvalidInput(f"the event's datacontenttype is {shown(media)}; send {JSON}")
    reply = answer(exchange, backend, _read_data(event))
    made = {**_make_attributes(exchange, event.get("subject")), "datacontenttype": JSON}
    # The data as it was encoded once.
    body = b"%s,\"data\":%s}" % (encode_json(made)[:-1], reply.body)  # fmt: skip
    return reply._replace(body=body, content_type=EVENT)
