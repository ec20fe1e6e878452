"""A batch of messages and the model: decoded as /predict decodes, predicted in one call, each with its own outcome.

A message is a row, as a line of NDJSON is (a list of values, an object of columns, an object of tensors), or a body of
/predict (`features` or `inputs`, perhaps `outputs`). A row gets `{"prediction": 0}`, a body the response of /predict.
A batch on which the model breaks is halved until the bad messages stand alone.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from berth.consuming.broker_messages import (
    CODE_HEADER,
    ERROR_HEADER,
    FAILED,
    MODEL_HEADER,
    PREDICTED,
    RECEIPT_HEADER,
    REFUSED,
    SOURCE_HEADER,
    Message,
    MessageOutcome,
    with_headers,
)
from berth.errors import BodyTooLarge, InvalidInput, MalformedJson, PredictionFailed, RequestError, shown
from berth.models.model import Model
from berth.score.answering import Failure, answer_chunk, list_values
from berth.tensors.arrays import Array, Tensors
from berth.tensors.codec import decode_json, encode_json
from berth.tensors.instances import decode_instances
from berth.tensors.schema import choose_outputs, column_names, decode_features, decode_tensors, usual_outputs
from berth.web import predict
from berth.web.exchange import Backend, Exchange

PROTOCOL = "message"
_ENDPOINT = replace(predict.ENDPOINTS[0], protocol=PROTOCOL)
_FORMS = ("features", "inputs")
_KEYS = frozenset({*_FORMS, "model", "version", "outputs", "parameters"})
_ANSWER = ("answer",)


class _Body(NamedTuple):
    """A message that is a body of /predict: its tensors of `rows` rows, and the outputs that it wants."""

    tensors: Tensors
    outputs: tuple[str, ...]
    rows: int


def _join(parts: Sequence[Tensors]) -> dict[str, Array]:
    """The tensors of several messages, one after another. Raises InvalidInput where they do not fit together."""
    try:
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    except (KeyError, ValueError) as error:
        raise InvalidInput("the messages have tensors of different shapes") from error


class MessageAnswers:
    """What predicts for messages, with one model of a server's parts.

    Raises InvalidInput for a model that does not process several rows at once.
    """

    def __init__(self, backend: Backend, model: Model) -> None:
        if not model.batchable:
            raise InvalidInput(
                f"{model.name} does not process several rows at once; a consumer needs a model that does"
            )
        self._backend, self._model = backend, model
        self._key = f"{model.name}@{model.version}"
        self._outputs = usual_outputs(model.outputs)
        self._signs = bool(backend.tally.secrets)
        # A model may well have a column called `features`, or several tensors of which one is.
        self._forms = frozenset(_FORMS) - set(column_names(model.inputs) or ())
        self._tensors = {spec.name for spec in model.inputs} if len(model.inputs) > 1 else set()

    def answer(self, messages: Sequence[Message]) -> list[MessageOutcome]:
        """What becomes of each message, in their order."""
        rows = [self.decode(message) for message in messages]
        exchange = Exchange(_ENDPOINT, {}, {}, "", time.monotonic(), math.inf, model=self._model)

        def ask(items: Sequence[Any], number: int) -> dict[str, list[Any]]:
            del number
            return {"answer": self._ask(exchange, items)}

        found, failures = answer_chunk(rows, 0, _ANSWER, ask)
        failed = {failure.row: failure for failure in failures}
        return [
            self._dead(message, failed[at]) if at in failed else self._predicted(message, *found["answer"][at])
            for at, message in enumerate(messages)
        ]

    def _predicted(self, message: Message, value: bytes, receipt: str | None) -> MessageOutcome:
        more = [(MODEL_HEADER, self._key)] + ([(RECEIPT_HEADER, receipt)] if receipt else [])
        return MessageOutcome(PREDICTED, with_headers(message, value, *more))

    def give_up(self, message: Message, reason: str) -> MessageOutcome:
        """The outcome of a message that the model does not survive."""
        return self._dead(message, Failure(0, PredictionFailed.code, reason))

    def _dead(self, message: Message, failure: Failure) -> MessageOutcome:
        result = FAILED if failure.code == PredictionFailed.code else REFUSED
        headers = ((CODE_HEADER, failure.code), (ERROR_HEADER, failure.message), (SOURCE_HEADER, message.place))
        return MessageOutcome(result, with_headers(message, message.value, (MODEL_HEADER, self._key), *headers))

    def decode(self, message: Message) -> Any:
        """A row, a `_Body`, or the error that the message is."""
        try:
            if message.value is None:
                raise InvalidInput("the message has no value")
            if len(message.value) > self._backend.max_body_bytes:
                raise BodyTooLarge(f"the message is longer than {self._backend.max_body_bytes} bytes")
            value = decode_json(message.value)
            if type(value) is dict and not self._forms.isdisjoint(value) and value.keys() != self._tensors:
                return self._decode_body(value)
        except MalformedJson as error:
            return MalformedJson(error.message.replace("the body", "the message", 1))
        except RequestError as error:
            return error
        return value

    def _decode_body(self, document: dict[str, Any]) -> _Body:
        """A body of /predict. Raises RequestError."""
        if unknown := sorted(set(document) - _KEYS):
            raise InvalidInput(f"unknown key {unknown[0][:60]!r}; a message has {', '.join(sorted(_KEYS))}")
        if ("features" in document) == ("inputs" in document):
            raise InvalidInput("send either features or inputs")
        self._check_model(document)
        if predict.wants_unusual(document.get("parameters")):
            raise InvalidInput("parameters.unusual is not supported in messages")
        inputs, outputs = self._model.inputs, self._outputs
        if "features" in document:
            tensors = decode_features(document["features"], inputs)
        elif isinstance(document["inputs"], dict):
            tensors = decode_tensors(document["inputs"], inputs)
            outputs = tuple(spec.name for spec in self._model.outputs if not spec.optional)
        else:
            raise InvalidInput(f"inputs must be an object of arrays by name, got {shown(document['inputs'])}")
        if "outputs" in document:
            outputs = choose_outputs(document["outputs"], self._model.outputs)
        lengths = {array.shape[:1] for array in tensors.values()}
        if len(lengths) != 1 or lengths == {()}:
            raise InvalidInput("the tensors of a message must have one number of rows")
        return _Body(tensors, outputs, int(lengths.pop()[0]))

    def _check_model(self, document: dict[str, Any]) -> None:
        name = predict.optional_word(document, "model") or self._model.name
        version = predict.optional_word(document, "version") or self._model.version
        if (name, version) != (self._model.name, self._model.version):
            raise InvalidInput(f"the message is for {name[:60]}@{version[:60]}, but this consumer has {self._key}")

    def _ask(self, exchange: Exchange, items: Sequence[Any]) -> list[tuple[bytes, str | None]]:
        """Each item's response and receipt, by one call of the model. Raises RequestError, PredictionFailed."""
        bodies = [item for item in items if isinstance(item, _Body)]
        tensors = self.join_items(items) if bodies else self._decode_rows(items)
        wanted = [() if len(bodies) == len(items) else self._outputs, *(body.outputs for body in bodies)]
        outputs = tuple(dict.fromkeys(name for names in wanted for name in names))
        exchange.calls.clear()
        arrays = self._backend.predict(exchange, self._model, tensors, outputs)
        listed = list_values(arrays, outputs)
        answers: list[tuple[bytes, str | None]] = []
        start = 0
        for item in items:
            end = start + (item.rows if isinstance(item, _Body) else 1)
            answers.append((self._encode(item, listed, start, end), self._make_receipt(arrays, start, end)))
            start = end
        return answers

    def _decode_rows(self, rows: Sequence[Any]) -> dict[str, Array]:
        tensors = decode_instances(list(rows), self._model.inputs)
        if any(array.shape[:1] != (len(rows),) for array in tensors.values()):
            raise InvalidInput(f"a message must be one row or a body of /predict, got {shown(rows[0])}")
        return tensors

    @staticmethod
    def is_body(item: Any) -> bool:
        """Whether a decoded message is a body of /predict."""
        return isinstance(item, _Body)

    def join_items(self, items: Sequence[Any]) -> dict[str, Array]:
        """The tensors of decoded messages, one after another. Raises InvalidInput where they do not fit together."""
        return _join([item.tensors if isinstance(item, _Body) else self._decode_rows([item]) for item in items])

    def _encode(self, item: Any, listed: dict[str, list[Any]], start: int, end: int) -> bytes:
        if not isinstance(item, _Body):
            return encode_json({name: listed[name][start] for name in self._outputs})
        values = {name: listed[name][start:end] for name in item.outputs}
        return encode_json({**values, "model": self._model.name, "version": self._model.version})

    def _make_receipt(self, arrays: dict[str, Array], start: int, end: int) -> str | None:
        if not self._signs:
            return None
        own = {name: array[start:end] for name, array in arrays.items()}
        return self._backend.tally.make_receipt(self._model, own)
