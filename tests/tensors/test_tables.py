"""CSV with a header: typed by column, and every fault named."""

from __future__ import annotations

import csv
import io
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from berth.errors import InvalidInput
from berth.tensors.tables import Table, parse_csv


def _parse(text: str | bytes, datatypes: dict[str, str] | None = None, default: str = "FP64", most: int = 100) -> Table:
    return parse_csv(text.encode() if isinstance(text, str) else text, datatypes or {}, default, most)


def test_columns_are_read_as_their_datatypes() -> None:
    datatypes = {"age": "FP64", "city": "BYTES", "count": "INT64", "member": "BOOL"}
    table = _parse('age,city,count,member\n1.5,"Rome, It",3,true\n,"",-4,0\n', datatypes)
    assert table.columns == ("age", "city", "count", "member")
    assert table.values == ([1.5, None], ["Rome, It", None], [3, -4], [True, False])
    assert table.rows() == [[1.5, "Rome, It", 3, True], [None, None, -4, False]]


@pytest.mark.parametrize(
    ("cell", "datatype", "value"),
    [
        ("NaN", "FP64", None),
        (" 2e3 ", "FP32", 2000.0),
        ("9007199254740993", "INT64", 9007199254740993),
        ("18446744073709551615", "UINT64", 2**64 - 1),
        ("5.0", "INT32", 5.0),
        ("1.5", "INT32", 1.5),
        ("TRUE", "BOOL", True),
        (" a ", "BYTES", " a "),
    ],
)
def test_cells(cell: str, datatype: str, value: Any) -> None:
    assert _parse(f"a,b\n{cell},x\n", {"a": datatype}, "BYTES").values[0] == [value]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "empty"),
        ("\n\n", "empty"),
        ("a,b\n", "no rows"),
        ("a,b\n1\n", "row 1 has 1 values, but the header has 2 columns"),
        ("a,b\n1,2\n1,2,3\n", "row 2 has 3 values"),
        ("a,b\n1,x\n", "column 'b', row 1: want a number .FP64., got 'x'"),
        ("a,b\n1,inf\n", "got 'inf'"),
        ("a,b\n1,1e999\n", "got '1e999'"),
        ("a,b\n1,1_0\n", "got '1_0'"),
        (b"a,b\n\xff,1\n", "not UTF-8: invalid start byte at byte 4"),
        ('a,b\n1,"2\n', "cannot be read"),
        ("a\n" + "1\n" * 101, "more than 100 rows"),
        ("a,b\n1," + "9" * 200_000 + "\n", "cannot be read: field larger"),
    ],
)
def test_faults(text: str | bytes, message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        _parse(text)


@pytest.mark.parametrize(("cell", "datatype"), [("nan", "INT64"), ("x", "UINT8"), ("inf", "INT8"), ("2", "BOOL")])
def test_cells_of_the_wrong_kind(cell: str, datatype: str) -> None:
    with pytest.raises(InvalidInput, match=f"want .* .{datatype}."):
        _parse(f"a\n{cell}\n", {"a": datatype})


def test_a_byte_order_mark_and_blank_lines_are_nothing() -> None:
    assert _parse("\ufeffa, b\r\n\r\n1,2\r\n") == Table(("a", "b"), ([1.0], [2.0]))


_TEXT = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=8)


@given(st.lists(st.tuples(_TEXT, st.floats(allow_nan=False, allow_infinity=False)), min_size=1, max_size=8))
def test_what_the_csv_module_writes_is_read(rows: list[tuple[str, float]]) -> None:
    written = io.StringIO(newline="")
    csv.writer(written).writerows([("word", "number"), *rows])
    table = _parse(written.getvalue(), {"word": "BYTES", "number": "FP64"})
    assert table.values == ([word for word, _ in rows], [number for _, number in rows])


@given(st.binary(max_size=60))
def test_any_bytes_are_read_or_refused(body: bytes) -> None:
    try:
        table = _parse(body)
    except InvalidInput:
        return
    assert {len(column) for column in table.values} == {len(table.rows())}
