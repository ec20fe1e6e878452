"""What each column of a native model may hold, found out by predicting rows that hold it.

A try is a prediction, so tens of thousands of columns are not tried one by one: all of them together first, then those
that go through the same parts, then halves of these.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from berth.accelerate.limits import ColumnLimits, Limits
from berth.tensors.arrays import Tensors, TensorSpec
from berth.tensors.schema import required

_UNKNOWN: dict[str, Any] = {"BYTES": "\ufdd1unknown", "FP64": 1234567.5, "INT64": 1234567}
_MOST_CANDIDATES = 2000
_MOST_TRIES = 20_000
# Of a table of this many cells a try takes milliseconds.
_MOST_CELLS = 1 << 18
# Of more columns that go the same way, some stand for all where each of these is refused.
_MOST_HALVED = 200
_STANDING_FOR_ALL = 8
_HUGE = 1e39


class _Asker:
    """Tries whether the model accepts a row with some cells changed; at most `_MOST_TRIES` times.

    `ways` has one key a cell: cells with the same go through the same parts of the model.
    """

    def __init__(
        self,
        takes: Callable[[Tensors], bool],
        row: Tensors,
        cells: Sequence[tuple[TensorSpec, int]],
        ways: Sequence[object],
    ) -> None:
        self._takes = takes
        self._row = row
        self._tries = 0
        self.cells, self._ways = cells, ways

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

    def taken(self, places: Sequence[int], value: Any) -> set[int]:
        """Which of the cells may hold the value."""
        if not places or self.takes(places, [value]):
            return set(places)
        groups: dict[object, list[int]] = {}
        for place in places:
            groups.setdefault(self._ways[place], []).append(place)
        if len(groups) == 1:
            return self._of_one_way(places, value)
        return set().union(*(self._of_one_way(group, value) for group in groups.values()))

    def _of_one_way(self, places: Sequence[int], value: Any) -> set[int]:
        if len(places) > _MOST_HALVED:
            if self.takes(places, [value]):
                return set(places)
            some = np.linspace(0, len(places) - 1, _STANDING_FOR_ALL).astype(int).tolist()
            if not any(self.takes([places[at]], [value]) for at in some):
                return set()
        return self._halved(places, value)

    def _halved(self, places: Sequence[int], value: Any) -> set[int]:
        if self.takes(places, [value]):
            return set(places)
        if len(places) == 1:
            return set()
        half = len(places) // 2
        return self._halved(places[:half], value) | self._halved(places[half:], value)

    def accepted(self, place: int, values: Sequence[Any]) -> list[Any]:
        """Which of the values the cell may hold, in their order. An encoder's follow one another, so halves are few."""
        rows = max(_MOST_CELLS // len(self.cells), 1)
        if len(values) <= rows and (not values or self.takes([place], values)):
            return list(values)
        if len(values) == 1:
            return []
        half = len(values) // 2
        return self.accepted(place, values[:half]) + self.accepted(place, values[half:])


def _ways(estimator: Any, inputs: Sequence[TensorSpec], row: Tensors) -> list[object]:
    """For each cell of the row the parts that its column goes into first; of an unused input there is no cell."""
    from berth.loaders.columns import walk_entrances

    seen: dict[int, list[int]] = {}
    for number, entrance in enumerate(walk_entrances(estimator, None)):
        for position in entrance.positions or ():
            seen.setdefault(position, []).append(number)
    found: list[object] = []
    position = 0
    for spec in inputs:
        for _ in range(1 if spec.optional else row[spec.name].size):
            if not spec.optional:
                found.append(tuple(seen.get(position, ())))
            position += 1
    return found


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
        found |= set(places) - asker.taken(places, unknown)
    return found


def learn_limits(
    estimator: Any, takes: Callable[[Tensors], bool], row: Tensors, inputs: Sequence[TensorSpec]
) -> Limits | None:
    """The limits of the model behind `takes`; None if it does not even accept `row`.

    Raises ValueError where finding them out would take too long.
    """
    if not takes(row):
        return None
    cells = [(spec, at) for spec in required(inputs) for at in range(row[spec.name].size)]
    mixed = _is_mixed(estimator)
    asker = _Asker(takes, row, cells, _ways(estimator, inputs, row))
    kinds = [spec.datatype for spec, _ in cells]
    floats = [place for place, kind in enumerate(kinds) if kind == "FP64"]
    texts = [place for place, kind in enumerate(kinds) if kind == "BYTES"]

    def may_be(value: float) -> set[int]:
        """Without parts of different columns, all of them may or none."""
        if mixed:
            return asker.taken(floats, value)
        return set(floats) if floats and asker.takes(floats, [value]) else set()

    missing = may_be(np.nan) | asker.taken(texts, None)
    infinite = may_be(np.inf) & may_be(-np.inf)
    huge = may_be(_HUGE) & may_be(-_HUGE)
    values = candidates(estimator)
    encodes = mixed or len(values[True]) + len(values[False]) > 2
    closed = _closed(asker, kinds) if encodes else set()
    found: dict[str, list[ColumnLimits]] = {spec.name: [] for spec in required(inputs)}
    for place, (spec, _) in enumerate(cells):
        known = _known(asker, place, values[spec.datatype == "BYTES"]) if place in closed else None
        found[spec.name].append(ColumnLimits(place in missing, place in infinite, place in huge, known))
    return {name: tuple(limits) for name, limits in found.items()}
