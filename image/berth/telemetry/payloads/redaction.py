"""Hiding named fields in requests and responses, whatever format they come in.

A name may be a key, a tensor's name, a column of a table or of a model's rows. Where a row is not as wide as it
should be nobody knows which value is which: then all of it is hidden. Hiding too much is a nuisance, too little a leak.
"""

from __future__ import annotations

import csv
import io
import math
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from berth.tensors.arrays import TensorSpec

HIDDEN = "***"
# Keys that hold rows in one protocol or another, beside the names of a model's inputs.
_ROW_KEYS = frozenset({"features", "instances", "inputs", "data", "dataframe_records"})
# Keys of the protocols that hold no row.
_OTHER_KEYS = frozenset(
    {"model", "version", "id", "outputs", "parameters", "params", "signature_name", "dataframe_split"}
    | {"columns", "index", "name", "shape", "datatype", "content_type"}
    | {"binary_data", "binary_data_size", "binary_data_output"}
)


def plain_name(name: str) -> str:
    """A name as names are compared: without spaces, whatever its case and its width."""
    return "".join(unicodedata.normalize("NFKC", name).split()).casefold()


def _is_nested(value: Any) -> bool:
    return isinstance(value, list | dict)


@dataclass(frozen=True, slots=True)
class Redaction:
    """`fields` are the plain names to hide; `columns` are a row's values in the model's order, `hidden` those to hide.

    Where a record or a table lacks a column to hide, a value under a name that nobody knows may be that column's.
    """

    fields: frozenset[str]
    columns: tuple[str, ...] = ()
    row_keys: frozenset[str] = field(default=frozenset())
    hidden: frozenset[str] = field(default=frozenset())
    # Which of a row's values are hidden; empty where none is.
    places: tuple[bool, ...] = ()

    def hides(self, name: object) -> bool:
        """Whether values under this name are hidden."""
        return isinstance(name, str) and plain_name(name) in self.fields

    def _lacks(self, names: Iterable[Any]) -> bool:
        """Whether a column to hide is not among `names`."""
        return bool(self.hidden) and not self.hidden <= {plain_name(name) for name in names if isinstance(name, str)}

    def apply(self, value: Any) -> Any:
        """`value`, a decoded JSON document, with what is named replaced."""
        if isinstance(value, list):
            return [self.apply(item) for item in value]
        if not isinstance(value, dict):
            return value
        lacks = self._lacks(value)
        shown = {key: self._item(key, item, lacks) for key, item in value.items()}
        if "data" in value and not self.hides("data"):
            if isinstance(columns := value.get("columns"), list):
                shown["data"] = self._table(value["data"], columns)
            elif isinstance(value.get("name"), str):
                shown["data"] = self._tensor(value["name"], value.get("shape"), value["data"])
        return shown

    def _item(self, key: str, item: Any, lacks: bool) -> Any:
        if self.hides(key):
            return HIDDEN
        if key in self.row_keys:
            return self._rows(item, self.places)
        if not lacks or key in _OTHER_KEYS or key in self.columns:
            return self.apply(item)
        if isinstance(item, dict) or (isinstance(item, list) and all(isinstance(one, dict) for one in item)):
            return self.apply(item)
        return HIDDEN

    def _table(self, data: Any, columns: list[Any]) -> Any:
        """A table's rows under its own columns; under the model's where pandas only counted them."""
        if columns == list(range(len(columns))):
            return self._rows(data, self.places)
        places = tuple(map(self.hides, columns))
        return HIDDEN if self._lacks(columns) else self._rows(data, places if any(places) else ())

    def _rows(self, value: Any, places: tuple[bool, ...]) -> Any:
        """A row, or lists of rows."""
        if not isinstance(value, list) or not places:
            return self.apply(value)
        if value and all(map(_is_nested, value)):
            return [self._rows(item, places) for item in value]
        if len(value) != len(places) or any(map(_is_nested, value)):
            return HIDDEN
        return [HIDDEN if hidden else item for hidden, item in zip(places, value, strict=True)]

    def _tensor(self, name: str, shape: Any, data: Any) -> Any:
        """The data of one V2 tensor: one column under its name, or rows, nested or flat."""
        if self.hides(name):
            return HIDDEN
        if name in self.columns or not (places := self.places):
            return data
        if not isinstance(data, list):
            return HIDDEN
        if any(map(_is_nested, data)):
            return self._rows(data, places)
        width = len(places)
        if shape != [len(data) // width, width] or len(data) != math.prod(shape):
            return HIDDEN
        return [HIDDEN if places[at % width] else item for at, item in enumerate(data)]

    def apply_csv(self, text: str) -> str:
        """A table with a header; all of it is hidden where the header is not the model's."""
        if not self.fields:
            return text
        header, *rows = list(csv.reader(io.StringIO(text))) or [[]]
        hidden = {at for at, name in enumerate(header) if self.hides(name)}
        if self._lacks(header) or any(len(row) not in (0, len(header)) for row in rows):
            return HIDDEN
        out = io.StringIO()
        csv.writer(out, lineterminator="\n").writerows(
            [header, *([HIDDEN if at in hidden else item for at, item in enumerate(row)] for row in rows)]
        )
        return out.getvalue()


def for_request(fields: frozenset[str], inputs: Sequence[TensorSpec]) -> Redaction:
    """For requests to a model with these inputs."""
    plain = frozenset(map(plain_name, fields))
    single = inputs[0] if len(inputs) == 1 else None
    columns = tuple(spec.name for spec in inputs)
    if single is not None and single.columns is not None and plain_name(single.name) not in plain:
        columns = single.columns
    row_keys = _ROW_KEYS | ({spec.name for spec in inputs} - set(columns))
    hidden = plain & frozenset(map(plain_name, columns))
    places = tuple(plain_name(name) in plain for name in columns)
    return Redaction(plain, columns, row_keys, hidden, places if any(places) else ())


def for_answer(fields: frozenset[str], failed: bool) -> Redaction:
    """For responses; the message of a failure may quote any value."""
    plain = frozenset(map(plain_name, fields))
    more = {"error", "message"} if failed and fields else {"predictions"} if "prediction" in plain else set()
    return Redaction(plain | more)
