"""The tree of errors: its drawing, statuses and codes are one and the same thing."""

from __future__ import annotations

import re
from typing import Any

import pytest

from berth import errors
from berth.errors import BerthError, OperatorError, RequestError, ServerError, shown


def walk(kind: type[BerthError], depth: int = 0) -> list[tuple[int, type[BerthError]]]:
    """Every class of the tree with its depth, as the drawing has them."""
    return [(depth, kind), *(pair for child in kind.__subclasses__() for pair in walk(child, depth + 1))]


def drawn() -> list[tuple[int, str, str, str]]:
    """(depth, name, status, sentence) of each line of the drawing in the module's docstring."""
    found = re.findall(r"^    ([ │├└─]*)(\w+)(?: +(\d{3})?[ ]*(.*))?$", errors.__doc__ or "", re.MULTILINE)
    return [(len(lines) // 4, name, status, sentence) for lines, name, status, sentence in found]


def test_the_drawing_shows_every_class_where_it_is() -> None:
    classes = [(depth, kind.__name__) for depth, kind in walk(BerthError) if kind.__module__ == "berth.errors"]
    assert [(depth, name) for depth, name, _, _ in drawn()] == classes


def test_the_drawing_shows_every_status() -> None:
    by_name = {kind.__name__: kind for _, kind in walk(BerthError)}
    for depth, name, status, sentence in drawn():
        if depth:
            assert sentence, name
        if status:
            assert by_name[name].status == int(status), name
        else:
            assert by_name[name].__subclasses__() or issubclass(by_name[name], OperatorError), name


def test_statuses_are_on_their_branch() -> None:
    assert all(400 <= kind.status < 500 for _, kind in walk(RequestError))
    assert all(500 <= kind.status < 600 for _, kind in walk(ServerError))


def test_codes_are_words_and_none_is_used_twice() -> None:
    codes = [kind.code for _, kind in walk(BerthError) if not kind.__subclasses__()]
    assert len(set(codes)) == len(codes)
    assert all(re.fullmatch(r"[a-z]+(_[a-z]+)*", code) for code in codes)


def test_every_class_says_when_it_happens() -> None:
    for _, kind in walk(BerthError):
        assert kind.__dict__.get("__doc__"), kind.__name__


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ({"a": 1}, "an object"),
        ([1, 2], "a list of 2"),
        (True, "true"),
        (None, "null"),
        (1.5, "1.5"),
        (10**60, "1" + "0" * 59),
        (-(10**2000), "a whole number of 6644 bits"),
        ("a\nb", r"'a\nb'"),
        ("x" * 100, repr("x" * 60)),
    ],
)
def test_values_are_shown_in_one_short_line(value: Any, text: str) -> None:
    assert shown(value) == text
