"""pandas objects and what only fitting reads: data, which files need no allowance for."""

from __future__ import annotations

import pickle
from importlib import import_module
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pandas as pd
import pytest
import scipy.stats

from berth.errors import LoadError, UnsafeArtifact
from berth.loaders.unpickle.loading import default_allow, load_pickle, read_globals
from berth.loaders.unpickle.unread import Unread

_new_index = import_module("pandas.core.indexes.base")._new_Index
_DAYS = pd.to_datetime(["2020-01-01", "2020-01-02"])
FRAME = pd.DataFrame({"count": [1, 2], "city": ["Rome", None], "size": pd.Categorical(["s", "l"]), "when": _DAYS})

SAME: dict[str, Any] = {
    "columns": FRAME.columns,
    "rows": FRAME.index,
    "numbers": pd.Index([1.5, 2.5], name="x"),
    "objects": pd.Index(["a", "b"], dtype=object),
    "pairs": pd.MultiIndex.from_tuples([("a", 1), ("b", 2)], names=["word", None]),
    "days": pd.DatetimeIndex(_DAYS),
    "spans": pd.IntervalIndex.from_breaks([0, 1, 2]),
    "categories": pd.CategoricalIndex(["a", "b"]),
    "series": FRAME["count"],
    "texts": FRAME["city"],
    "means": FRAME.groupby("city")["count"].mean(),
    "frame": FRAME[["count", "city", "when"]],
}
ARRAYS: dict[str, tuple[Any, list[Any]]] = {
    "unique": (FRAME["city"].dropna().unique(), ["Rome"]),
    "categorical": (FRAME["size"].array, ["s", "l"]),
    "counts": (pd.Categorical([3, 1]), [3, 1]),
}
UNREAD: dict[str, Any] = {
    "randint": scipy.stats.randint(2, 6),
    "loguniform": scipy.stats.loguniform(1e-3, 1.0),
    "memory": joblib.Memory(None, verbose=0),
}


def _write(path: Path, value: object, how: str) -> Path:
    if how == "joblib":
        joblib.dump(value, path)
    else:
        path.write_bytes(pickle.dumps(value, int(how)))
    return path


def _read(path: Path) -> Any:
    assert all(name.allowed for name in read_globals(path, default_allow()))
    return load_pickle(path, default_allow())


@pytest.mark.parametrize("how", ["3", "4", "5", "joblib"])
@pytest.mark.parametrize("name", sorted(SAME))
def test_pandas_objects_come_back_as_they_were(name: str, how: str, tmp_path: Path) -> None:
    first, second = _read(_write(tmp_path / "m.pkl", [SAME[name], SAME[name]], how))
    assert first is second
    assert first.equals(SAME[name].astype("str") if name == "objects" else SAME[name])
    assert getattr(first, "name", None) == getattr(SAME[name], "name", None)


@pytest.mark.parametrize("how", ["4", "joblib"])
@pytest.mark.parametrize("name", sorted(ARRAYS))
def test_arrays_of_pandas_become_arrays_of_numpy(name: str, how: str, tmp_path: Path) -> None:
    given, wanted = ARRAYS[name]
    found = _read(_write(tmp_path / "m.pkl", given, how))
    assert type(found) is np.ndarray
    assert found.tolist() == wanted


def test_missing_categories_are_nan(tmp_path: Path) -> None:
    found = _read(_write(tmp_path / "m.pkl", pd.Categorical(["a", None]), "4"))
    assert found[0] == "a"
    assert found[1] != found[1]


@pytest.mark.parametrize("how", ["4", "joblib"])
@pytest.mark.parametrize("name", sorted(UNREAD))
def test_what_only_fitting_reads_is_not_loaded(name: str, how: str, tmp_path: Path) -> None:
    found = _read(_write(tmp_path / "m.pkl", {"parameter": UNREAD[name]}, how))
    assert isinstance(found["parameter"], Unread)
    assert vars(found["parameter"]) == {}


@pytest.mark.parametrize("name", sorted(UNREAD))
def test_a_file_of_nothing_else_is_no_model(name: str, tmp_path: Path) -> None:
    with pytest.raises(UnsafeArtifact, match="not allowed"):
        load_pickle(_write(tmp_path / "m.pkl", UNREAD[name], "4"), default_allow())


class Trap:
    """Names pandas' makers with what pandas itself would never hand them."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.call = (function, arguments)

    def __reduce__(self) -> Any:
        return self.call


@pytest.mark.parametrize(
    "trap",
    [
        Trap(pd.Series, 0, range(10)),
        Trap(pd.DataFrame, {"a": [1]}),
        Trap(pd.Index, [1]),
        Trap(_new_index, pd.Index, {"data": [1], "name": None}),
        Trap(_new_index, pd.Index, {"data": np.array([{}], object), "name": None}),
        Trap(_new_index, pd.Index, {"data": np.array([1]), "name": {}}),
    ],
)
def test_pandas_makers_take_data_only(trap: Trap, tmp_path: Path) -> None:
    with pytest.raises((LoadError, UnsafeArtifact)):
        load_pickle(_write(tmp_path / "m.pkl", trap, "4"), default_allow())
