"""A chunk with bad rows: which are asked apart, in how many calls, and that every row has its own outcome."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from berth.errors import InvalidInput
from berth.score.answering import answer_chunk
from berth.score.odd_rows import split_odd

GOOD = [1.5, 2.0]
ODD = [[1.5], ["a", 2.0], [None, 2.0], {"x": 1}, "text", None, [[1.5, 2.0]]]


class Summing:
    """Adds the values of rows, refuses all rows if one is not two numbers, and counts what it was asked."""

    def __init__(self) -> None:
        self.rows: list[int] = []

    def __call__(self, rows: Sequence[Any], number: int) -> dict[str, list[Any]]:
        del number
        self.rows.append(len(rows))
        for row in rows:
            if not (isinstance(row, list) and len(row) == 2 and all(type(each) in (int, float) for each in row)):
                raise InvalidInput(f"bad: {row!r}")
        return {"sum": [sum(row) for row in rows]}


def test_odd_rows_are_asked_apart() -> None:
    rows: list[Any] = [GOOD] * 1000
    for at, row in enumerate(ODD):
        rows[140 * at + 7] = row
    ask = Summing()
    found, failures = answer_chunk(rows, 0, ["sum"], ask)
    assert [failure.row for failure in failures] == [140 * at + 7 for at in range(len(ODD))]
    assert list(found["sum"]).count(3.5) == 993
    assert ask.rows[:2] == [1000, 993]
    assert sum(ask.rows[2:]) < 40


def test_bad_rows_that_look_like_the_others_are_found() -> None:
    class Picky(Summing):
        def __call__(self, rows: Sequence[Any], number: int) -> dict[str, list[Any]]:
            if [9.0, 9.0] in rows:
                self.rows.append(len(rows))
                raise InvalidInput("nine")
            return super().__call__(rows, number)

    rows = [GOOD] * 64
    rows[11] = [9.0, 9.0]
    found, failures = answer_chunk(rows, 0, ["sum"], ask := Picky())
    assert [failure.row for failure in failures] == [11]
    assert list(found["sum"]).count(None) == 1
    assert len(ask.rows) == 13  # 2 for each halving, and the whole


@pytest.mark.parametrize(
    ("rows", "odd"),
    [
        ([[1, 2]] * 40 + [[1.5, True]], []),  # numbers are numbers
        ([{"a": 1, "b": "x"}] * 40 + [{"a": "1", "b": "x"}], [40]),
        ([{"a": 1, "b": "x"}] * 40 + [{"a": 1}], [40]),
        ([[1.0]] * 30 + [[None]] * 10, []),  # missing values are usual there
        ([1.0] * 40 + ["x"], [40]),
    ],
)
def test_which_rows_are_odd(rows: list[Any], odd: list[int]) -> None:
    assert split_odd(range(len(rows)), rows.__getitem__) == ([at for at in range(len(rows)) if at not in odd], odd)


@given(st.lists(st.just(GOOD) | st.sampled_from(ODD), max_size=60))
def test_every_row_has_its_own_outcome(rows: list[Any]) -> None:
    found, failures = answer_chunk(rows, 5, ["sum"], Summing())
    bad = [at for at, row in enumerate(rows) if row != GOOD]
    assert [failure.row for failure in failures] == [5 + at for at in bad]
    assert list(found["sum"]) == [None if at in bad else 3.5 for at in range(len(rows))]


def test_rows_with_their_places_are_looked_into() -> None:
    rows = [(at, GOOD if at != 30 else ["a", 2.0]) for at in range(100)]
    ask = Summing()
    _, failures = answer_chunk(
        rows, 0, ["sum"], lambda chosen, number: ask([row for _, row in chosen], number), lambda placed: placed[1]
    )
    assert [failure.row for failure in failures] == [30]
    assert ask.rows == [100, 99, 1]
