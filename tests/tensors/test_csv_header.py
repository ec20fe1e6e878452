"""A CSV without a header gets one; one with a header stays as it is."""

from __future__ import annotations

import pytest

from berth.tensors.csv_header import with_header

NAMES = ("a", "b")


@pytest.mark.parametrize("body", [b"a,b\n1,2\n", b"0,1\n5,6\n", b"x,1\n1,2\n", b'"a","b"\n1,2\n', b""])
def test_a_header_stays(body: bytes) -> None:
    assert with_header(body, NAMES) == body


@pytest.mark.parametrize(
    ("body", "names", "header"),
    [(b"5.1,3.5\n1,2", NAMES, b"a,b\n"), (b"5,6", None, b"0,1\n"), (b"5,6,7", NAMES, b"0,1,2\n"),
     (b"\xef\xbb\xbf-1e3,.5\n", ("a,1", "b"), b'"a,1",b\n')],
)  # fmt: skip
def test_numbers_alone_get_a_header(body: bytes, names: tuple[str, ...] | None, header: bytes) -> None:
    assert with_header(body, names) == header + body.removeprefix(b"\xef\xbb\xbf")


def test_names_that_are_numbers() -> None:
    assert with_header(b"7,8\n1,2\n", ("7", "8")) == b"7,8\n1,2\n"
