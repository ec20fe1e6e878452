"""A row that a model accepts: the proof that it can predict, without which no version is added."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from math import prod
from typing import Any

import numpy as np

from berth.accelerate.convert import unwrap
from berth.accelerate.ranges import learn_ranges
from berth.errors import BerthError, LoadError
from berth.loaders.signature import example_row
from berth.models.model import Loaded
from berth.serving.opening import compare_versions
from berth.tensors.arrays import Array, TensorSpec
from berth.tensors.schema import blank_inputs, column_names, required

_SHOWN = 300
# Of free dimensions, such as the sides of an image, where one of 1 is refused; and how many numbers a try may have.
_USUAL_SIZES = (2, 3, 4, 8, 16, 32, 64, 128, 224, 256)
_MOST_NUMBERS = 1 << 22


def shorten(error: BaseException) -> str:
    """The first lines of what a library says, on one line."""
    return " ".join(str(error).split())[:_SHOWN] or type(error).__name__


def _fill(row: Mapping[str, Array], values: Sequence[float]) -> dict[str, Array]:
    """The row with the numbers in `values`, one for each cell; text stays."""
    filled, at = {}, 0
    for name, array in row.items():
        numbers = np.array(values[at : at + array.size]).reshape(array.shape)
        at += array.size
        filled[name] = array if array.dtype.kind not in "fiu" else numbers.astype(array.dtype)
    return filled


def _typical(estimator: Any, row: Mapping[str, Array]) -> dict[str, Array]:
    """The row with numbers from the middle of what the estimator was fitted on."""
    size = sum(array.size for array in row.values())
    ranges = learn_ranges(unwrap(estimator), size)
    return _fill(row, [float(np.median(one.seen)) if one.seen else sum(one.bounds()) / 2 for one in ranges])


def _ones(row: Mapping[str, Array]) -> dict[str, Array]:
    return _fill(row, [1.0] * sum(array.size for array in row.values()))


def _sizes(inputs: Sequence[TensorSpec]) -> Iterator[int]:
    """Sizes of free dimensions to try: those that other dimensions have, then usual ones, as long as they are small."""
    free = max((sum(size == -1 for size in spec.shape) for spec in inputs), default=0)
    if not any(size == -1 for spec in inputs for size in spec.shape[1:]) and len(inputs) == 1:
        return  # a matrix or rows of images: more of the same
    fixed = sorted({size for spec in inputs for size in spec.shape if 1 < size <= _USUAL_SIZES[-1]})
    known = prod(size for spec in inputs for size in spec.shape if size > 0)
    yield from (size for size in (*fixed, *_USUAL_SIZES) if known * size**free <= _MOST_NUMBERS)


def _with_size(spec: TensorSpec, size: int) -> TensorSpec:
    return replace(spec, shape=(*spec.shape[:1], *(size if one == -1 else one for one in spec.shape[1:])))


def _rows(loaded: Loaded, inputs: Sequence[TensorSpec]) -> Iterator[dict[str, Array]]:
    """Rows to try, the likeliest first: known categories and zeros, usual numbers, ones."""
    if loaded.estimator is not None:
        known = example_row(loaded.estimator, inputs)
        yield known
        yield _ones(known)
        if all(not spec.optional for spec in inputs):
            yield _typical(loaded.estimator, known)
    blank = blank_inputs(required(inputs), 1)
    yield blank
    yield _ones(blank)
    for size in _sizes(inputs) if loaded.estimator is None else ():
        for rows in (1, size):
            sized = blank_inputs([_with_size(spec, size) for spec in required(inputs)], rows)
            yield sized
            yield _ones(sized)


def _refusal(loaded: Loaded, inputs: Sequence[TensorSpec], error: BaseException) -> LoadError:
    """What is wrong, the version that made the file first: that is the usual reason."""
    versions = compare_versions(loaded.built_with)
    made = f"{'; '.join(versions)}; " if versions else ""
    advice = "give --sample X.csv with some rows of its inputs"
    if loaded.estimator is None and (inputs and column_names(inputs) is None):
        named = ", ".join(f'"{spec.name}": …' for spec in required(inputs))
        advice = f'give --sample request.json with a request that it accepts: {{"inputs": {{{named}}}}}'
    return LoadError(
        f"{made}the model accepts no row that could be made up for it ({type(error).__name__}: {shorten(error)}); "
        + advice
    )


def find_row(loaded: Loaded, inputs: Sequence[TensorSpec], outputs: Sequence[str]) -> tuple[dict[str, Array], bool]:
    """The first made-up row that the model predicts, and whether likelier ones were tried in vain.

    Raises LoadError with what the model says of the likeliest one.
    """
    first: BaseException | None = None
    rows = _rows(loaded, inputs)
    while True:
        try:
            row = next(rows, None)
            if row is None:
                break
            with np.errstate(all="ignore"):
                loaded.predict(row, outputs)
        except BerthError:
            raise
        except Exception as error:  # whatever a model raises, it does not predict this row
            first = first or error
            continue
        return row, first is not None
    assert first is not None  # noqa: S101 - for the type checker
    raise _refusal(loaded, inputs, first) from first


def _first(array: Array) -> int:
    return array.shape[0] if array.ndim else -1


def is_batchable(
    loaded: Loaded, inputs: Sequence[TensorSpec], rows: Mapping[str, Array], outputs: Sequence[TensorSpec]
) -> bool:
    """Whether first dimensions are rows: all inputs have the same, and every output follows it, doubled as well."""
    read, names = required(inputs), [spec.name for spec in required(outputs)]
    firsts = {spec.shape[:1] for spec in read}
    if len(firsts) != 1 or () in firsts or len({_first(array) for array in rows.values()}) != 1:
        return False
    count = _first(next(iter(rows.values())))
    if any(_first(array) != count for array in loaded.predict(rows, names).values()):
        return False
    if firsts != {(-1,)} or loaded.estimator is not None:  # a fixed number of rows; a table, which is rows
        return True
    twice = {name: np.concatenate([array, array]) for name, array in rows.items()}
    try:
        return all(_first(array) == 2 * count for array in loaded.predict(twice, names).values())
    except Exception:  # it was exported for one row
        return True


def with_shape(spec: TensorSpec, loaded: Loaded, rows: Mapping[str, Array]) -> TensorSpec:
    """An output of a model without rows: any number of whatever dimensions it has."""
    answer = loaded.predict(rows, [spec.name])[spec.name]
    return replace(spec, shape=(-1,) * answer.ndim)
