"""pandas' indexes, series, frames and string arrays in a pickle: data, made here from arrays of checked values.

Notebooks keep `df.columns`, `series.unique()` or a table of means as parameters. A file's own account of such an
object is never handed to pandas' unpicklers. The functions that stand in here accept arrays of plain values alone, and
pandas' public constructors do the rest; string and categorical arrays become arrays of numpy, as scikit-learn makes
of them anyway.
"""

from __future__ import annotations

import datetime
from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np

from berth.errors import LoadError
from berth.loaders.unpickle.allow import Name
from berth.loaders.unpickle.nullable_data import damaged, held_values, nullable_names

_PLAIN = (str, bytes, bool, int, float, complex, type(None), np.generic, datetime.datetime, datetime.timedelta)
_NAMES = (str, int, float, type(None))


def _pandas() -> Any:
    import pandas as pd

    return pd


def _is_plain(value: object) -> bool:
    # pandas' own scalars (Timestamp is a datetime, NA is not) come from no file but through here.
    return isinstance(value, _PLAIN) or type(value).__module__.startswith("pandas.")


def _values(data: object) -> np.ndarray[Any, Any]:
    """One array of plain values, of whatever holds them."""
    if type(data).__module__.startswith("pandas"):
        data = np.asarray(data)
    if not isinstance(data, np.ndarray):
        raise damaged(f"pandas' data is a {type(data).__name__}")
    if data.dtype == object and (odd := [value for value in data.ravel().tolist() if not _is_plain(value)]):
        raise LoadError(
            f"a pandas object in the file holds a {type(odd[0]).__name__}, which is not supported: only numbers, "
            "texts and dates are; save the model with a list in its place"
        )
    return data


def _label(name: object) -> Any:
    if isinstance(name, _NAMES) or (type(name) is tuple and all(isinstance(one, _NAMES) for one in name)):
        return name
    raise damaged(f"a {type(name).__name__} names a column")


class PandasType:
    """Stands for a class of pandas that a file refers to; it makes nothing."""

    def __init__(self, name: str) -> None:
        self.name = name


class Missing:
    """Stands for pandas.NA, a value that imputers are fitted with."""

    @staticmethod
    def value() -> Any:
        """pandas.NA itself, of which there is one."""
        return _pandas().NA


class ArrayKind:
    """Stands for StringDtype, Int64Dtype and their like, whose arguments say only how values are stored."""

    def __init__(self, *storage: object) -> None:
        """Takes no notice of them."""

    def __setstate__(self, state: object) -> None:
        """Takes no notice of it."""


class Categories:
    """Stands for CategoricalDtype: the categories that codes refer to."""

    values: np.ndarray[Any, Any] | None = None

    def __init__(self, categories: object = None, ordered: object = None) -> None:
        if categories is not None:
            self.values = _values(categories)

    def __setstate__(self, state: Any) -> None:
        self.values = _values(state["categories"])

    def look_up(self, codes: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        """The categories that `codes` stand for; NaN for -1."""
        if self.values is None or codes.dtype.kind != "i" or codes.max(initial=-1) >= len(self.values):
            raise damaged("the codes of a categorical are not those of its categories")
        found: np.ndarray[Any, Any] = self.values[np.maximum(codes, 0)] if len(self.values) else codes
        if not (codes < 0).any():
            return found
        found = found.astype(np.float64 if found.dtype.kind in "fiu" else object)
        found[codes < 0] = np.nan
        return found


def new_backed(kind: object, checksum: object, state: object = None) -> np.ndarray[Any, Any]:
    """What `__pyx_unpickle_NDArrayBacked` gives: an empty array, filled by the state that follows."""
    if not isinstance(kind, PandasType) or state is not None:
        raise damaged("an array of pandas is made of something else")
    return np.ndarray((0,), "b")


def array_state(state: Any) -> Any:
    """The state of a numpy array for that of an array of pandas; any other as it is."""
    if (held := held_values(state)) is not None:
        return _numpy_state(held)
    if type(state) is not tuple or len(state) not in (2, 3):  # numpy's own have five parts or seven
        return state
    arrays = [one for one in state[:2] if isinstance(one, np.ndarray)]
    kinds = [one for one in state[:2] if isinstance(one, (ArrayKind, Categories, np.dtype))]
    if len(arrays) != 1 or len(kinds) != 1:
        raise damaged("an array of pandas has no array in it")
    values = _values(arrays[0])
    if isinstance(kinds[0], Categories):
        values = kinds[0].look_up(values)
    return _numpy_state(values)


def _numpy_state(values: np.ndarray[Any, Any]) -> Any:
    data: Any = values.ravel().tolist() if values.dtype == object else values.tobytes()
    return (1, values.shape, values.dtype, False, data)


def _new_multi(fields: Any) -> Any:
    pd = _pandas()
    levels = [pd.Index(_values(level)) for level in fields["levels"]]
    names = [_label(name) for name in fields["names"]]
    return pd.MultiIndex(levels=levels, codes=[_values(codes) for codes in fields["codes"]], names=names)


def new_index(kind: object, fields: Any) -> Any:
    """What `_new_Index` and its relatives give, of the class that `kind` stands for."""
    pd = _pandas()
    name = kind.name if isinstance(kind, PandasType) else ""
    if name == "MultiIndex":
        return _new_multi(fields)
    label = _label(fields.get("name"))
    if name == "RangeIndex":
        return pd.RangeIndex(*(int(fields[part]) for part in ("start", "stop", "step")), name=label)
    if name == "IntervalIndex":
        left, right = _values(fields["left"]), _values(fields["right"])
        return pd.IntervalIndex.from_arrays(left, right, closed=str(fields["closed"]), name=label)
    values = _values(fields["data"])
    if name == "CategoricalIndex":
        return pd.CategoricalIndex(values, name=label)
    return pd.Index(values, name=label)


class Block:
    """Some columns of a frame of one dtype, and which ones they are."""

    def __init__(self, values: object, places: object, dimensions: object = 2) -> None:
        self.values, self.places = _values(values), places


class Blocks:
    """Stands for the managers inside series and frames: blocks of columns, and the axes."""

    def __init__(self, blocks: Any = (), axes: Any = ()) -> None:
        self.blocks, self.axes = blocks, axes

    def __setstate__(self, state: Any) -> None:
        document = state[3]["0.14.1"]
        self.axes = document["axes"]
        self.blocks = [Block(block["values"], block["mgr_locs"]) for block in document["blocks"]]

    def table(self) -> dict[Any, Any]:
        """The columns by their names, in order."""
        pd = _pandas()
        names, index = self.axes
        found: dict[int, Any] = {}
        for block in self.blocks:
            rows = block.values.reshape(-1, len(index))
            places = np.arange(len(names))[block.places] if isinstance(block.places, slice) else block.places
            found.update(zip([int(at) for at in places], rows, strict=True))
        return {names[at]: pd.Series(found[at], index=index) for at in range(len(names))}


def _empty(kind: str) -> type:
    """What makes an empty series or frame, which its state then fills; with arguments it makes none."""

    class Empty:
        pandas_class: ClassVar[str] = kind

        def __new__(cls) -> Any:
            pd = _pandas()
            made = getattr(pd, cls.pandas_class)
            return made.__new__(made)

    return Empty


def fill_pandas(target: Any, state: Any) -> bool:
    """Fill an empty series or frame by its public constructor; whether `target` is one."""
    if type(target).__name__ not in ("Series", "DataFrame") or not type(target).__module__.startswith("pandas"):
        return False
    blocks = state["_mgr"]
    if not isinstance(blocks, Blocks):
        raise damaged(f"a {type(target).__name__} of pandas has no blocks")
    if type(target).__name__ == "DataFrame":
        target.__init__(blocks.table(), index=blocks.axes[1])
        return True
    (block,), index = blocks.blocks, blocks.axes[0]
    if block.values.shape != (len(index),):
        raise damaged("a series of pandas is not as long as its index")
    target.__init__(block.values, index=index, name=_label(state.get("_name", state.get("name"))))
    return True


def new_timestamp(value: object, frequency: object = None, zone: object = None, unit: object = 10) -> Any:
    """What `_unpickle_timestamp` gives, without a time zone."""
    pd = _pandas()
    units = {7: "s", 8: "ms", 9: "us", 10: "ns"}
    if type(value) is not int or type(unit) is not int or unit not in units or zone is not None:
        raise damaged("a timestamp of pandas is made of something else")
    return pd.Timestamp(value, unit=units[unit])


# They take a dict and import pandas.
INDEX_MAKERS = (new_index,)
_HOMES = {
    "pandas": [
        *("Index", "RangeIndex", "MultiIndex", "CategoricalIndex", "DatetimeIndex", "IntervalIndex", "Categorical"),
        *("Int64Index", "Float64Index", "UInt64Index"),
    ],
    "pandas.arrays": ["StringArray", "DatetimeArray", "NumpyExtensionArray"],
    "pandas.core.indexes.base": ["Index"],
    "pandas.core.indexes.range": ["RangeIndex"],
    "pandas.core.indexes.multi": ["MultiIndex"],
    "pandas.core.indexes.category": ["CategoricalIndex"],
    "pandas.core.indexes.datetimes": ["DatetimeIndex"],
    "pandas.core.indexes.interval": ["IntervalIndex"],
    "pandas.core.indexes.numeric": ["Int64Index", "Float64Index", "UInt64Index"],
    "pandas.core.arrays.string_": ["StringArray"],
    "pandas.core.arrays.categorical": ["Categorical"],
    "pandas.core.arrays.datetimes": ["DatetimeArray"],
    "pandas.core.arrays.numpy_": ["NumpyExtensionArray", "PandasArray"],
}

# What a file names, and what that leads to. Nothing of pandas is imported before one of them is used.
PANDAS: dict[Name, Callable[..., Any] | PandasType | Missing] = {
    **{(module, name): PandasType(name) for module, names in _HOMES.items() for name in names},
    **nullable_names(ArrayKind),
    **{(module, "NA"): Missing() for module in ("pandas", "pandas._libs.missing")},
    **{(module, "CategoricalDtype"): Categories for module in ("pandas", "pandas.core.dtypes.dtypes")},
    **{(module, "Series"): _empty("Series") for module in ("pandas", "pandas.core.series")},
    **{(module, "DataFrame"): _empty("DataFrame") for module in ("pandas", "pandas.core.frame")},
    ("pandas._libs.arrays", "__pyx_unpickle_NDArrayBacked"): new_backed,
    ("pandas._libs.internals", "_unpickle_block"): Block,
    ("pandas._libs.tslibs.timestamps", "_unpickle_timestamp"): new_timestamp,
    ("pandas.core.internals.managers", "BlockManager"): Blocks,
    ("pandas.core.internals.managers", "SingleBlockManager"): Blocks,
    ("pandas.core.indexes.base", "_new_Index"): new_index,
    ("pandas.core.indexes.datetimes", "_new_DatetimeIndex"): new_index,
    ("pandas.core.indexes.interval", "_new_IntervalIndex"): new_index,
}
