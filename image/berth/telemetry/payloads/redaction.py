"""Hiding named fields in requests and answers, whatever form they come in.

A name may be a key, a tensor's name, a column of a table or of a model's rows. Where a row is not as wide as it
should be nobody knows which value is which: then all of it is hidden. Hiding too much is a nuisance, too little a leak.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from berth.tensors.arrays import TensorSpec

HIDDEN = "***"
# Keys that hold rows in one protocol or another, beside the names of a model's inputs.
_ROW_KEYS = frozenset({"features", "instances", "inputs", "data"})


def _is_nested(value: Any) -> bool:
    return isinstance(value, list | dict)


@dataclass(frozen=True, slots=True)
class Redaction:
    """`fields` are the names to hide, casefolded; `columns` are a row's values in the model's order."""

    fields: frozenset[str]
    columns: tuple[str, ...] = ()
    row_keys: frozenset[str] = field(default=frozenset())

    def hides(self, name: object) -> bool:
        """Whether values under this name are hidden."""
        return isinstance(name, str) and name.casefold() in self.fields

    def apply(self, value: Any) -> Any:
        """`value`, a decoded JSON document, with what is named replaced."""
        if isinstance(value, list):
            return [self.apply(item) for item in value]
        if not isinstance(value, dict):
            return value
        shown = {key: self._item(key, item) for key, item in value.items()}
        if "data" in value and not self.hides("data"):
            if isinstance(value.get("columns"), list):
                shown["data"] = self._rows(value["data"], self._names_of(value["columns"]))
            elif isinstance(value.get("name"), str):
                shown["data"] = self._tensor(value["name"], value.get("shape"), value["data"])
        return shown

    def _item(self, key: str, item: Any) -> Any:
        if self.hides(key):
            return HIDDEN
        return self._rows(item, self.columns) if key in self.row_keys else self.apply(item)

    def _names_of(self, columns: list[Any]) -> Sequence[Any]:
        """A table's own columns; the model's where pandas only counted them."""
        return self.columns if columns == list(range(len(columns))) else columns

    def _rows(self, value: Any, columns: Sequence[Any]) -> Any:
        """A row, or lists of rows."""
        if not isinstance(value, list) or not any(map(self.hides, columns)):
            return self.apply(value)
        if value and all(map(_is_nested, value)):
            return [self._rows(item, columns) for item in value]
        if len(value) != len(columns) or any(map(_is_nested, value)):
            return HIDDEN
        return [HIDDEN if self.hides(column) else item for column, item in zip(columns, value, strict=True)]

    def _tensor(self, name: str, shape: Any, data: Any) -> Any:
        """The data of one V2 tensor: one column under its name, or rows, nested or flat."""
        if self.hides(name):
            return HIDDEN
        if name in self.columns or not any(map(self.hides, self.columns)):
            return data
        if not isinstance(data, list):
            return HIDDEN
        if any(map(_is_nested, data)):
            return self._rows(data, self.columns)
        width = len(self.columns)
        if shape != [len(data) // width, width] or len(data) != math.prod(shape):
            return HIDDEN
        return [HIDDEN if self.hides(self.columns[at % width]) else item for at, item in enumerate(data)]

    def apply_csv(self, text: str) -> str:
        """A table with a header; all of it is hidden where the header is not the model's."""
        if not self.fields:
            return text
        header, *rows = list(csv.reader(io.StringIO(text))) or [[]]
        hidden = {at for at, name in enumerate(header) if self.hides(name.strip())}
        expected = sum(map(self.hides, self.columns))
        if len(hidden) < expected or any(len(row) not in (0, len(header)) for row in rows):
            return HIDDEN
        out = io.StringIO()
        csv.writer(out, lineterminator="\n").writerows(
            [header, *([HIDDEN if at in hidden else item for at, item in enumerate(row)] for row in rows)]
        )
        return out.getvalue()


def for_request(fields: frozenset[str], inputs: Sequence[TensorSpec]) -> Redaction:
    """For what a model with these inputs is asked."""
    single = inputs[0] if len(inputs) == 1 else None
    columns = tuple(spec.name for spec in inputs)
    if single is not None and single.columns is not None and single.name.casefold() not in fields:
        columns = single.columns
    return Redaction(fields, columns, _ROW_KEYS | ({spec.name for spec in inputs} - set(columns)))


def for_answer(fields: frozenset[str], failed: bool) -> Redaction:
    """For what is answered; the message of a failure may quote any value."""
    more = {"error", "message"} if failed and fields else {"predictions"} if "prediction" in fields else set()
    return Redaction(fields | more)
