"""Columns read all at once equal columns read cell by cell, errors included."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from berth.errors import InvalidInput
from berth.score.cell_columns import read_cells
from berth.score.chunks import ColumnRows, Columns, Scored, list_rows
from berth.score.csv_file import CsvSink, CsvSource
from berth.score.value_texts import list_values_of
from berth.tensors.arrays import Array, TensorSpec, decode_array
from berth.tensors.tables import parse_cells

CELLS = [
    "1.5", "1", "-0", "-0.0", "007", ".5", "5.", "+5", " 4.7 ", "1e5", "1E-5", "1e400", "1e-400", "inf", "-Infinity",
    "nan", "NaN", "", " ", "true", "False", "1_0", "0x10", "null", "[1", "2]", "{}", "1,5", "a", "9007199254740993",
    "18446744073709551616", "3.4e38", "3.5e38", "65519.9", "\u0663", "1\n2", "1 2", "1.0000000000000001",
]  # fmt: skip
DATATYPES = ["FP64", "FP32", "FP16", "INT64", "INT8", "UINT8", "BOOL", "BYTES"]


def _decoded(read: Callable[..., Any], cells: Sequence[str], datatype: str) -> Any:
    """The column as the model gets it: (bytes, NaN as one), or the error's words."""
    try:
        array: Array = decode_array(read(cells, "x", datatype, 7), datatype, "x")
    except InvalidInput as error:
        return error.message
    return array.tolist() if array.dtype == object else np.where(array == array, array, 0).tobytes()


@settings(max_examples=300, deadline=None)
@given(st.lists(st.sampled_from(CELLS), min_size=1, max_size=4), st.sampled_from(DATATYPES))
@example(["1.5", "[1", "2]"], "FP64")
@example(["-0", "1.5"], "FP64")
@example(["1.5", "1", "1,5"], "FP64")
def test_at_once_or_cell_by_cell(cells: list[str], datatype: str) -> None:
    assert _decoded(read_cells, cells, datatype) == _decoded(parse_cells, cells, datatype)


@pytest.mark.parametrize("cells", [["1.5"] * 3, ["7", "8", "9.25"]])
def test_numbers_are_an_array(cells: list[str]) -> None:
    assert isinstance(read_cells(cells, "x", "FP64"), np.ndarray)


@pytest.mark.parametrize(
    ("body", "plain"),
    [
        ("1,2\n3,4\n5,6\n", [True, True]),
        ("1,2\r\n3,4\r\n5,6", [True, True]),
        ('1,"2"\n3,4\n5,6\n', [False, True]),
        ("1,2\n3,4,5\n5,6\n", [False, True]),
        ("1,2\n\n3,4\n5,6\n", [False, True]),
        ("1,2\n3,4\n5,\xff\n", [True, False]),
    ],
)
def test_plain_lines_are_read_as_columns(tmp_path: Path, body: str, plain: list[bool]) -> None:
    (tmp_path / "in.csv").write_bytes(f"a,b\n{body}".encode("latin-1"))
    source = CsvSource(tmp_path / "in.csv", (TensorSpec("x", "FP64", (-1, 2), ("a", "b")),), ())
    chunks = list(source.chunks(0, 2))
    assert [isinstance(chunk.rows, ColumnRows) for chunk in chunks] == plain
    assert [len(list_rows(chunk.rows)) for chunk in chunks] == [2, 1]
    assert list_rows(chunks[0].rows)[0] == ["1", "2"]
    assert chunks[-1].position == source.size
    skipped = list(source.chunks(0, 2, lambda number: number == 0))
    assert [chunk.position for chunk in skipped] == [chunk.position for chunk in chunks]
    (after,) = source.chunks(chunks[0].position, 2)
    assert len(after.rows) == 1


def test_a_read_may_end_anywhere(tmp_path: Path) -> None:
    rows = [f"{at},{'7' * (at % 23 + 1)}" for at in range(40_000)]
    (tmp_path / "in.csv").write_text("\n".join(["a,b", *rows]))
    source = CsvSource(tmp_path / "in.csv", (TensorSpec("x", "FP64", (-1, 2), ("a", "b")),), ())
    for size in (1, 997, 5_000, 39_999):
        found = [row for chunk in islice(source.chunks(0, size), 50) for row in list_rows(chunk.rows)]
        assert found == [row.split(",") for row in rows[: 50 * size]]


def _tensors(source: CsvSource, rows: Any) -> Any:
    try:
        return source.decode(rows, 1)["x"].tobytes()
    except InvalidInput as error:
        return error.message


PLAIN_CELLS = [cell for cell in CELLS if "," not in cell and "\n" not in cell]


@settings(max_examples=300, deadline=None)
@given(st.lists(st.tuples(*[st.sampled_from(PLAIN_CELLS)] * 2), min_size=1, max_size=3))
@example([("1.5", "2"), ("3", "4.25")])
@example([("1", "[1"), ("2]", "3")])
@example([("1", "-0"), ("2", "3")])
@example([("1", "2"), ("3", "-0")])
def test_all_cells_of_a_chunk_at_once_or_row_by_row(tmp_path_factory: Any, rows: list[tuple[str, str]]) -> None:
    path = tmp_path_factory.getbasetemp() / "all.csv"
    path.write_text("\n".join(["a,b", *map(",".join, rows)]), "utf-8")
    source = CsvSource(path, (TensorSpec("x", "FP64", (-1, 2), ("b", "a")),), ())
    for chunk in source.chunks(0, 3):
        exploded = list_rows(chunk.rows)
        assert exploded == [list(row) for row in rows]
        assert _tensors(source, chunk.rows) == _tensors(source, exploded)


def test_all_cells_of_a_chunk_are_one_array(tmp_path: Path) -> None:
    (tmp_path / "in.csv").write_text("a,b\n1,2.5\n3,-4e2\n")
    source = CsvSource(tmp_path / "in.csv", (TensorSpec("x", "FP64", (-1, 2), ("a", "b")),), ())
    (chunk,) = source.chunks(0, 10)
    assert isinstance(chunk.rows, ColumnRows)
    assert chunk.rows.columns.numbers().tolist() == [[1, 2.5], [3, -400]]


@pytest.mark.parametrize("values", [[1.5, float("nan"), 1e-5], [True, False], [2**60, 1]])
def test_one_column_of_numbers_is_written_as_rows_are(values: list[Any]) -> None:
    spec = TensorSpec("y", {bool: "BOOL", int: "INT64", float: "FP64"}[type(values[0])], (-1,))
    sink = CsvSink(Columns((), (spec,), {}))
    at_once = sink.encode(Scored({}, {"y": np.array(values)}))
    listed = list_values_of(np.array(values))
    assert at_once == sink.encode(Scored({}, {"y": listed}))
