"""What a model accepts, applied to what a client sent: JSON values in, checked tensors out.

A model accepts either one matrix (one input of two dimensions, perhaps with column names), a frame (several
inputs of one dimension, one per column), or tensors that only their names describe. Rows are the first
dimension everywhere.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np

from berth.errors import InvalidInput, UnknownOutput, shown
from berth.tensors.arrays import DATATYPES, Array, TensorSpec, convert_array, decode_array

Specs: TypeAlias = Sequence[TensorSpec]
_CELLS = frozenset({float, int})


def is_matrix(specs: Specs) -> bool:
    """Whether rows of numbers make the whole input."""
    return len(specs) == 1 and len(specs[0].shape) == 2


def is_frame(specs: Specs) -> bool:
    """Whether the input is columns: one tensor of one dimension each."""
    return bool(specs) and all(len(spec.shape) == 1 for spec in specs)


def required(specs: Specs) -> tuple[TensorSpec, ...]:
    """The inputs that the model reads; the outputs that a request without a choice gets."""
    return tuple(spec for spec in specs if not spec.optional)


def column_names(specs: Specs) -> tuple[str, ...] | None:
    """The names a row's values may go by, in order; None where the model knows none."""
    if is_matrix(specs):
        return specs[0].columns
    return tuple(spec.name for spec in specs) if is_frame(specs) else None


def quoted(names: Sequence[str]) -> str:
    """The first of some names, as messages list them."""
    return ", ".join(shown(name) for name in names[:20]) + (", …" if len(names) > 20 else "")


def check_columns(given: Sequence[str], wanted: Sequence[str], optional: Collection[str] = ()) -> None:
    """That the wanted columns are given, in any order, and no unknown ones. Raises InvalidInput naming the first fault.

    Of the wanted, those that are `optional` may be missing.
    """
    have, known = set(given), set(wanted)
    if missing := [name for name in wanted if name not in have and name not in optional]:
        raise InvalidInput(f"missing column {quoted(missing)}; the model expects {quoted(wanted)}")
    if unknown := [name for name in given if name not in known]:
        raise InvalidInput(f"unknown column {quoted(unknown)}; the model expects {quoted(wanted)}")
    if len(given) != len(have):
        raise InvalidInput(f"a column is duplicated in {quoted(given)}")


def _wanted_columns(specs: Specs) -> tuple[str, ...]:
    if (names := column_names(specs)) is None:
        raise InvalidInput("this model's columns have no names; send rows as lists of values")
    return names


def _squeeze(array: Array) -> Array:
    """A column that came as rows of one value each."""
    return array[:, 0] if array.ndim == 2 and array.shape[1] == 1 else array


def optional_names(specs: Specs) -> frozenset[str]:
    """The columns that a request may leave out."""
    return frozenset(spec.name for spec in specs if spec.optional)


def decode_columns(columns: Mapping[str, Any], specs: Specs) -> dict[str, Array]:
    """Column lists by name, as the model's tensors. Raises InvalidInput."""
    wanted = _wanted_columns(specs)
    check_columns(list(columns), wanted, optional_names(specs))
    if is_frame(specs):
        tensors = {
            spec.name: decode_array(columns[spec.name], spec.datatype, f"column {spec.name!r}")
            for spec in required(specs)
        }
        for name, array in tensors.items():
            if array.ndim != 1:
                raise InvalidInput(f"column {name!r} must be a list of single values")
        return tensors
    arrays = [decode_array(columns[name], specs[0].datatype, f"column {name!r}") for name in wanted]
    lengths = {len(array) if array.ndim == 1 else -1 for array in arrays}
    if len(lengths) != 1 or -1 in lengths:
        raise InvalidInput("every column must be a list of single values, all equally long")
    return {specs[0].name: np.stack(arrays, axis=1)}


def _unnest(column: Any) -> Any:
    """A column that came as rows of one value each, as its values."""
    if isinstance(column, np.ndarray):
        return _squeeze(column)
    if type(column) is list and column and all(type(row) is list and len(row) == 1 for row in column):
        return [row[0] for row in column]
    return column


def decode_whole_columns(columns: Mapping[str, Any], specs: Specs) -> dict[str, Array]:
    """Columns by name, each a list of n values or of n lists of one, as the model's tensors. Raises InvalidInput."""
    return decode_columns({name: _unnest(column) for name, column in columns.items()}, specs)


def decode_records(records: Sequence[Mapping[str, Any]], specs: Specs) -> dict[str, Array]:
    """A list of {column: value}, as the model's tensors. Raises InvalidInput."""
    wanted = _wanted_columns(specs)
    known, optional = set(wanted), optional_names(specs)
    for record in records:
        if record.keys() != known:
            check_columns(list(record), wanted, optional)
    read = [name for name in wanted if name not in optional]
    return decode_columns({name: [record[name] for record in records] for name in read}, specs)


def listed(value: Any) -> Any:
    """A value whose numbers the parser made an array of, as the lists that it was sent as."""
    return value.tolist() if isinstance(value, np.ndarray) else value


def decode_matrix(rows: Sequence[Any] | Array, specs: Specs, columns: Sequence[str] | None = None) -> dict[str, Array]:
    """A list of rows, each a list of values in the model's order (or in that of `columns`). Raises InvalidInput."""
    if columns is None and is_matrix(specs):
        return {specs[0].name: decode_array(rows, specs[0].datatype, specs[0].name)}
    wanted = column_names(specs)
    if columns is not None and wanted is not None:
        check_columns(columns, wanted, optional_names(specs))
    if is_matrix(specs) and (wanted is None or tuple(columns or ()) == wanted):
        return {specs[0].name: decode_array(rows, specs[0].datatype, specs[0].name)}
    order = list(columns if columns is not None else wanted or ())
    rows = listed(rows)
    if set(map(type, rows)) != {list} or set(map(len, rows)) != {len(order)}:
        bad = next((row for row in rows if type(row) is not list or len(row) != len(order)), rows)
        got = f"{len(bad)} values" if type(bad) is list else shown(bad)
        raise InvalidInput(f"every row must be a list of {len(order)} values ({quoted(order)}), got {got}")
    return decode_columns({name: [row[at] for row in rows] for at, name in enumerate(order)}, specs)


def _decode_tensor_rows(rows: list[Any], specs: Specs) -> dict[str, Array]:
    """Rows for a model with one tensor that is neither matrix nor column; one row may stand without its list."""
    if len(specs) != 1:
        raise InvalidInput(
            f'this model has several inputs; send {{"inputs": {{…}}}} with {quoted([spec.name for spec in specs])}'
        )
    spec = specs[0]
    array = decode_array(rows, spec.datatype, spec.name)
    return {spec.name: array[None] if array.ndim == len(spec.shape) - 1 else array}


def decode_features(value: Any, specs: Specs) -> dict[str, Array]:
    """Whatever `features` or `instances` may be: a row, rows, a record or records. Raises InvalidInput."""
    if type(value) is list and value and type(value[0]) in _CELLS and is_matrix(specs):  # a row, as nearly always
        return decode_matrix([value], specs)
    if isinstance(value, np.ndarray) and value.ndim == 2 and is_matrix(specs):
        return decode_matrix(value, specs)
    value = listed(value)
    if isinstance(value, dict):
        whole = bool(value) and all(type(column) in (list, np.ndarray) for column in value.values())
        return decode_whole_columns(value, specs) if whole else decode_records([value], specs)
    if not isinstance(value, list):
        raise InvalidInput(f"features must be a list or an object, got {shown(value)}")
    if not value:
        raise InvalidInput("features is empty; send at least one row")
    if isinstance(value[0], dict):
        if not all(isinstance(record, dict) for record in value):
            raise InvalidInput("features mixes objects with other values; make every row an object")
        return decode_records(value, specs)
    if not (is_matrix(specs) or is_frame(specs)):
        return _decode_tensor_rows(value, specs)
    if is_frame(specs) and len(specs) == 1 and not isinstance(value[0], list):
        return decode_columns({specs[0].name: value}, specs)
    return decode_matrix(value if isinstance(value[0], list) else [value], specs)


def decode_tensors(inputs: Mapping[str, Any], specs: Specs) -> dict[str, Array]:
    """`{"inputs": {name: array}}`: the model's own inputs by name, or its columns. Raises InvalidInput."""
    names = [spec.name for spec in specs]
    if is_matrix(specs) and set(inputs) != set(names) and specs[0].columns is not None:
        return decode_whole_columns(inputs, specs)
    if len(read := required(specs)) < len(specs):
        check_columns(list(inputs), names, optional_names(specs))
        inputs, specs, names = {spec.name: inputs[spec.name] for spec in read}, read, [spec.name for spec in read]
    check_inputs(list(inputs), names)
    tensors = {spec.name: decode_array(inputs[spec.name], spec.datatype, f"input {spec.name!r}") for spec in specs}
    return {name: _squeeze(array) for name, array in tensors.items()} if is_frame(specs) else tensors


def check_inputs(given: Sequence[str], wanted: Sequence[str]) -> None:
    """That exactly the wanted tensors are given. Raises InvalidInput."""
    have, known = set(given), set(wanted)
    if missing := [name for name in wanted if name not in have]:
        raise InvalidInput(f"missing input {quoted(missing)}; the model expects {quoted(wanted)}")
    if unknown := [name for name in given if name not in known]:
        raise InvalidInput(f"unknown input {quoted(unknown)}; the model expects {quoted(wanted)}")


def _check_shape(array: Array, spec: TensorSpec) -> None:
    wanted = spec.shape
    if array.ndim and (-1, *array.shape[1:]) == wanted:
        return  # as nearly always
    if len(wanted) == 2 == array.ndim and -1 != wanted[1] != array.shape[1]:
        names = f": {quoted(spec.columns)}" if spec.columns else ""
        raise InvalidInput(f"{spec.name}: got {array.shape[1]} values in a row, want {wanted[1]}{names}")
    fits = array.ndim == len(wanted) and all(want in (-1, have) for want, have in zip(wanted, array.shape, strict=True))
    if not fits:
        raise InvalidInput(f"{spec.name}: got shape {list(array.shape)}, want {list(wanted)} (-1 is any)")


def check_tensors(
    tensors: Mapping[str, Array], specs: Specs, max_rows: int, batchable: bool = True
) -> dict[str, Array]:
    """The tensors in the declared datatypes and shapes, with one number of rows. Raises InvalidInput.

    Where the model is not `batchable`, first dimensions are like any other.
    """
    checked, rows = {}, set()
    for spec in specs:
        if spec.optional:
            continue
        array = convert_array(tensors[spec.name], spec.datatype, spec.name)
        _check_shape(array, spec)
        rows.add(array.shape[0] if batchable else 1)
        checked[spec.name] = array
    if len(rows) > 1:
        raise InvalidInput(f"the inputs have different numbers of rows: {sorted(rows)}")
    if rows == {0}:
        raise InvalidInput("there are no rows; send at least one")
    if max(rows, default=1) > max_rows:
        raise InvalidInput(f"{max(rows)} rows in one request, but the maximum is {max_rows}; send several requests")
    return checked


def usual_outputs(specs: Specs) -> tuple[str, ...]:
    """The outputs for a request that names none: `prediction`, or all where there is no such output."""
    names = tuple(spec.name for spec in required(specs))
    return ("prediction",) if "prediction" in names else names


def choose_outputs(wanted: Any, specs: Specs) -> tuple[str, ...]:
    """The output names a client requested, in its order. Raises UnknownOutput, InvalidInput."""
    if not isinstance(wanted, list) or not wanted or not all(isinstance(name, str) for name in wanted):
        raise InvalidInput(f"outputs must be a list of names, got {shown(wanted)}")
    known = [spec.name for spec in specs]
    if unknown := [name for name in wanted if name not in known]:
        raise UnknownOutput(f"unknown output {unknown[0][:60]!r}; the model has {quoted(known)}")
    if len(set(wanted)) != len(wanted):
        raise InvalidInput(f"outputs lists one twice: {quoted(wanted)}")
    return tuple(wanted)


def blank_inputs(specs: Sequence[TensorSpec], rows: int) -> dict[str, Array]:
    """Zeros and empty strings in the declared shapes, to warm a model up."""

    def blank(spec: TensorSpec) -> Array:
        first = (rows if spec.shape[0] == -1 else spec.shape[0],) if spec.shape else ()
        shape = (*first, *(max(size, 1) for size in spec.shape[1:]))
        return np.full(shape, "", object) if spec.datatype == "BYTES" else np.zeros(shape, DATATYPES[spec.datatype])

    return {spec.name: blank(spec) for spec in required(specs)}
