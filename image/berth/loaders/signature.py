"""What an estimator accepts and returns: the specs, and the table that is built from the inputs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from berth.loaders.categories import encode_values
from berth.loaders.columns import (
    Column,
    feature_names,
    find_columns,
    selects_by_name,
    takes_text,
)
from berth.loaders.fitted import is_sklearn_only, walk_fitted
from berth.tensors.arrays import DATATYPES, Array, Tensors, TensorSpec

if TYPE_CHECKING:
    import pandas as pd

# What `estimator.predict` is called with: a matrix, a data frame, or a list of strings.
Table: TypeAlias = Any


def _column_spec(column: Column, estimator: Any) -> TensorSpec:
    if column.unused and feature_names(estimator) is not None:
        return TensorSpec(column.name, "BYTES", (-1,), optional=True)
    return TensorSpec(column.name, column.datatype, (-1,))


def guessed_columns(estimator: Any) -> tuple[str, ...]:
    """The columns whose datatypes a fitted estimator does not know, so that a sample knows them better."""
    return tuple(column.name for column in find_columns(estimator) if column.unsure)


def describe_inputs(estimator: Any) -> tuple[TensorSpec, ...]:
    """The inputs that a fitted estimator knows; none where it does not say how many columns it accepts."""
    if takes_text(estimator):
        return (TensorSpec("text", "BYTES", (-1,)),)
    columns = find_columns(estimator)
    if not columns:
        return ()
    if selects_by_name(estimator) or any(column.datatype == "BYTES" or column.categories for column in columns):
        return tuple(_column_spec(column, estimator) for column in columns)
    return (TensorSpec("features", "FP64", (-1, len(columns)), feature_names(estimator)),)


def _input_names(inputs: Sequence[TensorSpec]) -> tuple[str, ...] | None:
    if len(inputs) == 1 and len(inputs[0].shape) == 2:
        return inputs[0].columns
    return tuple(spec.name for spec in inputs) or None


def needs_frame(estimator: Any, inputs: Sequence[TensorSpec] = ()) -> bool:
    """Whether a plain matrix would not do: something in it reads the names of the columns.

    Somebody else's class may do so wherever the inputs have names, whatever it was fitted with.
    """
    from sklearn.compose import ColumnTransformer
    from sklearn.preprocessing import FunctionTransformer

    if feature_names(estimator) is None and _input_names(inputs) is None:
        return False
    if not is_sklearn_only(estimator):
        return True
    return feature_names(estimator) is not None and any(
        isinstance(part, (ColumnTransformer, FunctionTransformer)) or "_sklearn_output_config" in vars(part)
        for part in walk_fitted(estimator)
    )


def _fill_missing(values: Array, keeps_none: bool) -> Array:
    """Strings as they stood in the training frame, where a missing one is NaN unless it was None there."""
    if values.dtype != object or keeps_none:
        return values
    missing = np.array([value is None for value in values.tolist()])
    return np.where(missing, np.nan, values) if missing.any() else values


def _stack(inputs: Tensors, names: Sequence[str], columns: dict[str, Column]) -> Array:
    """One column an input, side by side; objects if any of them is."""
    plain = Column("")
    arrays = [_fill_missing(inputs[name], columns.get(name, plain).keeps_none) for name in names]
    if any(array.dtype == object for array in arrays):
        arrays = [array.astype(object) for array in arrays]
    return np.column_stack(arrays)


def _frame(inputs: Tensors, names: Sequence[str], columns: dict[str, Column]) -> pd.DataFrame:
    import pandas as pd

    plain = Column("")
    known = {name: columns.get(name, plain) for name in names if name in inputs}
    filled = {name: _fill_missing(inputs[name], column.keeps_none) for name, column in known.items()}
    # A Series keeps objects as objects; from a bare array pandas 3 would make its own string type.
    frame = pd.DataFrame({name: pd.Series(values, dtype=values.dtype) for name, values in filled.items()})
    for name, column in known.items():
        if column.categories is not None:
            codes = np.nan_to_num(encode_values(inputs[name], column.categories), nan=-1).astype(np.int64)
            categories: Any = list(column.categories)
            frame[name] = pd.Categorical.from_codes(codes, categories)
    # What no part reads must be there all the same.
    return frame if len(filled) == len(names) else frame.reindex(columns=list(names))


def table_builder(estimator: Any, inputs: Sequence[TensorSpec]) -> Callable[[Tensors], Table]:
    """The function from inputs to what the estimator was fitted with. `inputs` are the specs that are served."""
    if takes_text(estimator):
        return lambda tensors: next(iter(tensors.values())).tolist()
    columns = {column.name: column for column in find_columns(estimator)}
    framed = needs_frame(estimator, inputs)
    names = feature_names(estimator) or (_input_names(inputs) if framed else None)
    unused = {column.name for column in columns.values() if column.unused}
    if framed:
        import pandas as pd  # so that a missing library is reported now, not at the first request
    order = names or tuple(spec.name for spec in inputs)

    def build(tensors: Tensors) -> Table:
        first = next(iter(tensors.values()))
        if len(tensors) == 1 and first.ndim > 1:
            return pd.DataFrame(first, columns=list(names)) if framed and names else first
        wanted = order if set(order) - unused <= tensors.keys() else tuple(tensors)
        return _frame(tensors, wanted, columns) if framed else _stack(tensors, wanted, columns)

    return build


def _example_of(spec: TensorSpec, known: Any) -> Array:
    """One value of a column; a text only where the spec says so: its datatype may have been a guess."""
    usual = "" if spec.datatype == "BYTES" else 0
    fits = known is not None and isinstance(known, str) == isinstance(usual, str)
    return np.array([known if fits else usual], DATATYPES[spec.datatype])


def example_row(estimator: Any, inputs: Sequence[TensorSpec]) -> dict[str, Array]:
    """One row that the estimator should accept: a known category where it has some, zero or nothing elsewhere."""
    columns = find_columns(estimator)
    if len(inputs) == 1 and len(inputs[0].shape) == 2:
        values = [column.example for column in columns] or [0.0] * max(inputs[0].shape[1], 1)
        return {inputs[0].name: np.array([values], np.float64)}
    if len(columns) == len(inputs):  # by position: their names may have been dropped
        known = {spec.name: column.example for spec, column in zip(inputs, columns, strict=True)}
    else:
        known = {column.name: column.example for column in columns}
    return {spec.name: _example_of(spec, known.get(spec.name)) for spec in inputs if not spec.optional}
