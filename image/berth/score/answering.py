"""A chunk's outputs: all rows in one call; where that fails, rows that look alike, then halves down to the bad rows."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from berth.errors import BerthError, InvalidInput, PredictionFailed, RequestError
from berth.models.model import Model
from berth.score.chunks import ColumnRows, Rows, RowSource, Values
from berth.score.odd_rows import split_odd
from berth.score.run_drift import RunDrift
from berth.score.value_texts import list_values_of
from berth.serving.predictor import Predictor
from berth.tensors.arrays import Array
from berth.tensors.codec import encode_json

# (rows, number of the first one) -> each output's values, one a row. Raises RequestError, PredictionFailed.
Ask = Callable[[Any, int], Mapping[str, Values]]
_SHOWN_CHARACTERS = 500


def list_values(answer: Mapping[str, Array], outputs: Sequence[str]) -> dict[str, list[Any]]:
    """Each output as a list, by way of JSON: the values that a client of the server has."""
    return {name: orjson.loads(encode_json(answer[name])) for name in outputs}


def make_ask(
    source: RowSource, model: Model, outputs: Sequence[str], most_rows: int, drift: RunDrift | None = None
) -> Ask:
    """The server's own way from rows to outputs, without the server; `drift` counts the rows that were predicted."""
    predictor = Predictor(1, most_rows)

    def ask(rows: Rows, number: int) -> dict[str, Array]:
        tensors = source.decode(rows, number)
        answer = predictor.predict(model, tensors, outputs, math.inf).outputs
        seen = {name: answer[name] for name in outputs}
        if wrong := [values for values in seen.items() if values[1].shape[:1] != (len(rows),)]:
            name, array = wrong[0]
            got = len(array) if array.ndim else 1
            raise InvalidInput(f"{len(rows)} rows have {got} values of {name}; want one a row")
        if drift is not None:
            drift.add(tensors, seen, len(rows))
        return seen

    return ask


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a row has no prediction."""

    row: int
    code: str
    message: str


def _failure(row: int, error: BerthError) -> Failure:
    """As the server would report it; but of a model that broke, what the server keeps for its log."""
    if isinstance(error, PredictionFailed) and error.__cause__ is not None:
        return Failure(row, error.code, f"the model broke on these values: {error.__cause__!r}"[:_SHOWN_CHARACTERS])
    return Failure(row, error.code, error.message)


def _divide(places: list[int], whole: bool, row_at: Callable[[int], Any]) -> list[list[int]]:
    """What to ask in place of these rows, the last first: without the odd ones of a whole chunk, else halves."""
    if whole:
        usual, odd = split_odd(places, row_at)
        if usual and odd:
            return [odd, usual]
    half = len(places) // 2
    return [places[half:], places[:half]]


def answer_chunk(
    rows: Rows, number: int, outputs: Sequence[str], ask: Ask, row_of: Callable[[Any], Any] = lambda item: item
) -> tuple[Mapping[str, Values], list[Failure]]:
    """Each output's values, None where a row failed, and the failures in order. `number` is the first row's.

    `row_of` finds the row in each of `rows`, where these are more than that.
    """
    if isinstance(rows, ColumnRows):
        try:
            return ask(rows, number), []
        except (RequestError, PredictionFailed):
            rows = rows.explode()
    answers: dict[str, list[Any]] = {name: [None] * len(rows) for name in outputs}
    failures = [_failure(number + at, row) for at, row in enumerate(rows) if isinstance(row, BerthError)]
    whole = [at for at, row in enumerate(rows) if not isinstance(row, BerthError)]
    waiting = [whole]
    while waiting:
        places = waiting.pop()
        if not places:
            continue
        try:
            found = ask([rows[at] for at in places], number + places[0])
        except (RequestError, PredictionFailed) as error:
            if len(places) > 1:
                waiting += _divide(places, places is whole, lambda at: row_of(rows[at]))
            else:
                failures.append(_failure(number + places[0], error))
            continue
        if len(places) == len(rows):
            return found, []
        for name in outputs:
            for at, value in zip(places, list_values_of(found[name]), strict=True):
                answers[name][at] = value
    return answers, sorted(failures, key=lambda failure: failure.row)
