"""Counts here what another process predicted: for drift, and in the metrics of predictions, like the rest.

That process may die at any time, so it counts nothing itself. Of what it has predicted, the messages are decoded again
here, and the predictions are read from their responses. Messages on which it died are not among them.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, NamedTuple

from berth.consuming.answering_process import Answer
from berth.consuming.broker_messages import PREDICTED, Message, MessageOutcome
from berth.consuming.message_answers import MessageAnswers
from berth.errors import InvalidInput
from berth.models.model import Model
from berth.models.profile import PREDICTION
from berth.tensors.arrays import Array, decode_array
from berth.tensors.codec import decode_json
from berth.web.exchange import Backend


class _Answered(NamedTuple):
    """A decoded message, and the predictions of its rows; None where its response has none."""

    item: Any
    predictions: list[Any] | None


def _read(answers: MessageAnswers, message: Message, response: bytes | None) -> _Answered:
    item, found = answers.decode(message), decode_json(response or b"{}").get(PREDICTION)
    whole = answers.is_body(item)  # a body's response has a list of them
    return _Answered(item, found if found is None or whole else [found])


def _decode_predictions(model: Model, given: Sequence[_Answered]) -> dict[str, Array]:
    """The output `prediction` of these, in the type that the model declares; empty where they have none of it."""
    values = [value for each in given for value in each.predictions or ()]
    specs = [spec for spec in model.outputs if spec.name == PREDICTION]
    with suppress(InvalidInput):  # an output unlike its declaration: the rows count all the same
        return {spec.name: decode_array(values, spec.datatype, spec.name) for spec in specs if values}
    return {}


def count_apart(answer: Answer, answers: MessageAnswers, backend: Backend, model: Model) -> Answer:
    """`answer`, whose process counts nothing, with its predictions counted in this one."""

    def count(given: Sequence[_Answered], seconds: float) -> None:
        try:
            tensors = answers.join_items([each.item for each in given])
        except InvalidInput:  # they have no common shape: they were predicted one by one
            for each in given if len(given) > 1 else ():
                count([each], seconds / len(given))
            return
        backend.count_elsewhere(model, tensors, _decode_predictions(model, given), seconds)

    def answer_and_count(messages: Sequence[Message]) -> list[MessageOutcome]:
        began = time.monotonic()
        outcomes = answer(messages)
        seconds = time.monotonic() - began
        pairs = zip(messages, outcomes, strict=True)
        read = [_read(answers, message, found.message.value) for message, found in pairs if found.result == PREDICTED]
        # Of bodies that want other outputs the prediction is not known.
        for known in (True, False):
            if group := [each for each in read if (each.predictions is not None) is known]:
                count(group, seconds * len(group) / len(read))
        return outcomes

    return answer_and_count
