"""scipy's sparse matrices: their compiled routines believe that the index arrays fit the shape."""

from __future__ import annotations

from typing import Any

import numpy as np

from berth.loaders.unpickle.native_refusals import brief, check_dimensions, check_inside, refuse

_NUMBERS = "biufc"
_WHOLE = "iu"


def _shape_of(matrix: Any) -> tuple[int, ...] | None:
    """The shape, or none where there is none: such a matrix raises whatever is done with it."""
    shape = vars(matrix).get("_shape")
    if shape is None:
        return None
    if type(shape) is not tuple or not 1 <= len(shape) <= 2:
        refuse(matrix, f"shape is {brief(shape)}")
    if not all(isinstance(size, int | np.integer) and 0 <= size < 2**62 for size in shape):
        refuse(matrix, f"shape is {brief(shape)}")
    return tuple(int(size) for size in shape)


def _arrays(matrix: Any, *names: str) -> list[Any] | None:
    found = [vars(matrix).get(name) for name in names]
    return None if any(array is None for array in found) else found


def _parts(matrix: Any, *names: str) -> list[Any] | None:
    """The shape and the arrays; none where one is missing."""
    shape, arrays = _shape_of(matrix), _arrays(matrix, *names)
    return None if shape is None or arrays is None else [shape, *arrays]


def _check_pointers(matrix: Any, indptr: Any, rows: int, stored: int) -> int:
    """How many entries the pointers speak of. They begin at 0, never fall, and end within what is stored."""
    check_dimensions(matrix, "indptr", indptr, 1, _WHOLE)
    if len(indptr) != rows + 1:
        refuse(matrix, f"indptr has {len(indptr)} entries where the shape implies {rows + 1}")
    check_inside(matrix, "indptr", indptr, 0, stored)
    if indptr[0] != 0 or (np.diff(indptr) < 0).any():
        at = 0 if indptr[0] != 0 else int(np.argmax(np.diff(indptr) < 0)) + 1
        refuse(matrix, f"indptr[{at}] is {indptr[at]}: it does not rise from 0")
    return int(indptr[-1])


def _check_compressed(matrix: Any, by_row: bool) -> None:
    if (parts := _parts(matrix, "data", "indices", "indptr")) is None:
        return
    shape, data, indices, indptr = parts
    rows, columns = shape if len(shape) == 2 else (1, shape[0])
    if not by_row:
        rows, columns = columns, rows
    check_dimensions(matrix, "data", data, 1, _NUMBERS)
    check_dimensions(matrix, "indices", indices, 1, _WHOLE)
    used = _check_pointers(matrix, indptr, rows, min(len(data), len(indices)))
    check_inside(matrix, "indices", indices[:used], 0, columns - 1)


def check_csr(matrix: Any) -> None:
    """Rows of entries. Raises UnsafeArtifact, as all checks here do."""
    _check_compressed(matrix, by_row=True)


def check_csc(matrix: Any) -> None:
    """Columns of entries."""
    _check_compressed(matrix, by_row=False)


def check_bsr(matrix: Any) -> None:
    """Rows of blocks."""
    if (parts := _parts(matrix, "data", "indices", "indptr")) is None:
        return
    shape, data, indices, indptr = parts
    check_dimensions(matrix, "data", data, 3, _NUMBERS)
    check_dimensions(matrix, "indices", indices, 1, _WHOLE)
    height, width = data.shape[1:]
    if len(shape) != 2 or not height or not width or shape[0] % height or shape[1] % width:
        refuse(matrix, f"data has blocks of {height} x {width} where the shape is {shape}")
    used = _check_pointers(matrix, indptr, shape[0] // height, min(len(data), len(indices)))
    check_inside(matrix, "indices", indices[:used], 0, shape[1] // width - 1)


def check_coo(matrix: Any) -> None:
    """Entries with their coordinates."""
    shape, data = _shape_of(matrix), vars(matrix).get("data")
    coordinates = vars(matrix).get("coords") or _arrays(matrix, "row", "col")
    if shape is None or data is None or coordinates is None:
        return
    check_dimensions(matrix, "data", data, 1, _NUMBERS)
    if type(coordinates) not in (tuple, list) or len(coordinates) != len(shape):
        refuse(matrix, f"coords is {brief(coordinates)} where the shape is {shape}")
    for axis, positions in enumerate(coordinates):
        check_dimensions(matrix, f"coords[{axis}]", positions, 1, _WHOLE)
        if len(positions) != len(data):
            refuse(matrix, f"coords[{axis}] has {len(positions)} entries for {len(data)} numbers")
        check_inside(matrix, f"coords[{axis}]", positions, 0, shape[axis] - 1)


def check_dia(matrix: Any) -> None:
    """Diagonals, each with its offset."""
    if (parts := _parts(matrix, "data", "offsets")) is None:
        return
    shape, data, offsets = parts
    check_dimensions(matrix, "data", data, 2, _NUMBERS)
    check_dimensions(matrix, "offsets", offsets, 1, _WHOLE)
    if len(offsets) != len(data) or len(shape) != 2:
        refuse(matrix, f"offsets has {len(offsets)} entries for {len(data)} diagonals")
    check_inside(matrix, "offsets", offsets, 1 - shape[0] if shape[0] else 0, max(shape[1] - 1, 0))


def check_lil(matrix: Any) -> None:
    """A list of columns and a list of numbers for each row."""
    if (parts := _parts(matrix, "rows", "data")) is None:
        return
    shape, rows, data = parts
    for name, lists in (("rows", rows), ("data", data)):
        if not isinstance(lists, np.ndarray) or lists.dtype != object or len(shape) != 2 or lists.shape != shape[:1]:
            refuse(matrix, f"{name} is {brief(lists)} where the shape is {shape}")
    for columns, numbers in zip(rows, data, strict=True):
        if type(columns) is not list or type(numbers) is not list or len(columns) != len(numbers):
            refuse(matrix, "rows and data have rows of different lengths")
        if not all(isinstance(at, int | np.integer) and 0 <= at < shape[1] for at in columns):
            refuse(matrix, f"rows names a column outside 0 to {shape[1] - 1}")
