"""What the native model rejects, found by trying it, so that the accelerated model rejects the same.

onnxruntime computes on with a NaN where scikit-learn raises ValueError.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from berth.tensors.arrays import Array, Tensors, TensorSpec
from berth.tensors.schema import required

# From here on a double becomes infinity as float32.
FLOAT32_EDGE = 2.0**128 - 2.0**103
_UNKNOWN: dict[str, Any] = {"BYTES": "\ufdd1unknown", "FP64": 1234567.5, "INT64": 1234567}
_MOST_CANDIDATES = 2000
# A try is a prediction. Of a table of this many cells it takes milliseconds.
_MOST_TRIES = 10_000
_MOST_CELLS = 1 << 18
_FEW = 32
_HUGE = 1e39


@dataclass(frozen=True, slots=True)
class ColumnLimits:
    """Whether one column may be missing, infinite or too large for float32; `known` if only these values may be."""

    missing: bool = True
    infinite: bool = True
    huge: bool = True
    known: tuple[Any, ...] | None = None


# By input, a ColumnLimits for each of its columns.
Limits = Mapping[str, tuple[ColumnLimits, ...]]


def encode_limits(limits: Limits) -> dict[str, list[dict[str, Any]]]:
    """Limits as JSON holds them."""
    return {name: [asdict(column) for column in columns] for name, columns in limits.items()}


def decode_limits(document: Mapping[str, list[dict[str, Any]]]) -> Limits:
    """The limits that `encode_limits` wrote."""

    def read(column: Mapping[str, Any]) -> ColumnLimits:
        known = column["known"]
        return ColumnLimits(column["missing"], column["infinite"], column["huge"], tuple(known) if known else None)

    return {name: tuple(read(column) for column in columns) for name, columns in document.items()}


class _Asker:
    """Tries whether the model accepts a row with some cells changed; at most `_MOST_TRIES` times."""

    def __init__(self, takes: Callable[[Tensors], bool], row: Tensors, inputs: Sequence[TensorSpec]) -> None:
        self._takes = takes
        self._row = row
        self._tries = 0
        self.cells = [(spec, at) for spec in inputs for at in range(row[spec.name].size)]

    def takes(self, places: Iterable[int], values: Sequence[Any]) -> bool:
        """Whether all of the values are accepted in those places, each in a row of its own."""
        self._tries += 1
        if self._tries > _MOST_TRIES:
            raise ValueError(f"what it accepts in its {len(self.cells)} columns takes more than {_MOST_TRIES} tries")
        changed = {name: np.repeat(array, len(values), axis=0) for name, array in self._row.items()}
        for place in places:
            spec, at = self.cells[place]
            changed[spec.name].reshape(len(values), -1)[:, at] = values
        return self._takes(changed)

    def taken(self, places: Sequence[int], value: Any, mixed: bool) -> set[int]:
        """Which of the cells may hold the value: all that may do so together, else found by halving."""
        if not places or self.takes(places, [value]):
            return set(places)
        if len(places) == 1 or not mixed:
            return set()
        half = len(places) // 2
        return self.taken(places[:half], value, mixed) | self.taken(places[half:], value, mixed)

    def accepted(self, place: int, values: Sequence[Any]) -> list[Any]:
        """Which of the values the cell may hold, in their order. An encoder's follow one another, so halves are few."""
        rows = max(_MOST_CELLS // len(self.cells), 1)
        if len(values) <= rows and (not values or self.takes([place], values)):
            return list(values)
        if len(values) == 1:
            return []
        half = len(values) // 2
        return self.accepted(place, values[:half]) + self.accepted(place, values[half:])


def _is_mixed(estimator: Any) -> bool:
    """Whether its columns go different ways."""
    from sklearn.compose import ColumnTransformer
    from sklearn.pipeline import FeatureUnion

    from berth.loaders.fitted import walk_fitted

    return any(isinstance(part, (ColumnTransformer, FeatureUnion)) for part in walk_fitted(estimator))


def candidates(estimator: Any) -> dict[bool, list[Any]]:
    """Every category that any encoder in it knows: the texts, and the numbers."""
    from berth.loaders.fitted import walk_fitted

    texts: dict[str, None] = {"": None}
    numbers: dict[float, None] = {0.0: None}
    for part in walk_fitted(estimator):
        categories = getattr(part, "categories_", None)
        for values in categories if isinstance(categories, list) else ():
            for value in np.asarray(values).tolist():
                if isinstance(value, str):
                    texts[value] = None
                elif isinstance(value, (int, float)) and value == value:
                    numbers[float(value)] = None
    return {True: list(texts), False: list(numbers)}


def _known(asker: _Asker, place: int, values: Sequence[Any]) -> tuple[Any, ...] | None:
    """The only values that a column may have, where an unknown one is not accepted; None if it may have any."""
    if asker.cells[place][0].datatype == "BOOL":
        taken = tuple(asker.accepted(place, (False, True)))
        return None if len(taken) == 2 else taken
    if len(values) > _MOST_CANDIDATES:
        raise ValueError(f"{len(values)} categories are too many to try one by one")
    return tuple(asker.accepted(place, values))


def _closed(asker: _Asker, kinds: Sequence[str]) -> set[int]:
    """The columns that do not accept every value of their datatype."""
    found = {place for place, kind in enumerate(kinds) if kind == "BOOL"}
    for datatype, unknown in _UNKNOWN.items():
        places = [place for place, kind in enumerate(kinds) if kind == datatype]
        found |= set(places) - asker.taken(places, unknown, mixed=True)
    return found


def learn_limits(
    estimator: Any, takes: Callable[[Tensors], bool], row: Tensors, inputs: Sequence[TensorSpec]
) -> Limits | None:
    """The limits of the model behind `takes`; None if it does not even accept `row`.

    Raises ValueError where finding them out would take too long.
    """
    if not takes(row):
        return None
    inputs = required(inputs)
    asker, mixed = _Asker(takes, row, inputs), _is_mixed(estimator)
    kinds = [spec.datatype for spec, _ in asker.cells]
    floats = [place for place, kind in enumerate(kinds) if kind == "FP64"]
    texts = [place for place, kind in enumerate(kinds) if kind == "BYTES"]
    missing = asker.taken(floats, np.nan, mixed) | asker.taken(texts, None, mixed=True)
    infinite = asker.taken(floats, np.inf, mixed) & asker.taken(floats, -np.inf, mixed)
    huge = asker.taken(floats, _HUGE, mixed) & asker.taken(floats, -_HUGE, mixed)
    values = candidates(estimator)
    encodes = mixed or len(values[True]) + len(values[False]) > 2
    closed = _closed(asker, kinds) if encodes else set()
    found: dict[str, list[ColumnLimits]] = {spec.name: [] for spec in inputs}
    for place, (spec, _) in enumerate(asker.cells):
        known = _known(asker, place, values[spec.datatype == "BYTES"]) if place in closed else None
        found[spec.name].append(ColumnLimits(place in missing, place in infinite, place in huge, known))
    return {name: tuple(limits) for name, limits in found.items()}


def _check_known(array: Array, at: int, known: tuple[Any, ...], name: str) -> None:
    allowed = frozenset(known)
    for value in array.reshape(len(array), -1)[:, at].tolist():
        if value not in allowed and value is not None and value == value:
            raise ValueError(f"{name} is {value!r}, which the model did not meet in training")


def _check_numbers(array: Array, columns: Sequence[ColumnLimits], names: Sequence[str]) -> None:
    """That no number is of a kind its column refuses."""
    matrix = array.reshape(len(array), -1)
    size = np.abs(matrix)
    infinite = np.isinf(matrix)
    for bad, taken, word in (
        (np.isnan(matrix), [column.missing for column in columns], "missing (NaN)"),
        (infinite, [column.infinite for column in columns], "infinite"),
        ((size >= FLOAT32_EDGE) & ~infinite, [column.huge for column in columns], "too large for float32"),
    ):
        refused = bad & ~np.array(taken)
        if refused.any():
            at = int(np.argwhere(refused)[0][1])
            raise ValueError(f"{names[at]} is {word}, which the model does not accept")


def _is_usual(array: Array) -> bool:
    """One check of numbers of which nearly always all are accepted. NaN is not below anything."""
    if array.size <= _FEW:  # a call of numpy's takes longer than checking them one by one
        return all(-FLOAT32_EDGE < number < FLOAT32_EDGE for number in array.ravel().tolist())
    return bool(array.max(initial=0.0) < FLOAT32_EDGE and array.min(initial=0.0) > -FLOAT32_EDGE)


def make_check(limits: Limits, inputs: Sequence[TensorSpec]) -> Callable[[Tensors], None]:
    """The function that raises ValueError for what the native model would reject."""
    inputs = required(inputs)
    numeric = [spec for spec in inputs if spec.datatype == "FP64"]
    texts = [spec.name for spec in inputs if spec.datatype == "BYTES" and not limits[spec.name][0].missing]
    names = {
        spec.name: spec.columns or tuple(f"{spec.name}[{at}]" for at in range(len(limits[spec.name])))
        for spec in inputs
    }
    known = [
        (spec.name, at, column.known)
        for spec in inputs
        for at, column in enumerate(limits[spec.name])
        if column.known is not None
    ]

    def check(tensors: Tensors) -> None:
        for spec in numeric:
            array = tensors[spec.name]
            if not _is_usual(array):
                shown = names[spec.name] if array.ndim > 1 else (spec.name,)
                _check_numbers(array, limits[spec.name], shown)
        for name in texts:
            if None in tensors[name].tolist():
                raise ValueError(f"{name} is missing, which the model does not accept")
        for name, at, allowed in known:
            _check_known(tensors[name], at, allowed, name)

    return check
