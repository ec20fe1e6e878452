"""What a loaded model cannot do when it predicts, wherever in the file the estimator lies, in pickle and skops."""

from __future__ import annotations

import pickle
from collections import OrderedDict, deque
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.feature_extraction.text import CountVectorizer, HashingVectorizer
from sklearn.linear_model import LinearRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import FunctionTransformer
from sklearn.utils import Bunch

from berth.errors import LoadError, UnsafeArtifact
from berth.loaders.estimator import read_estimator, serve_estimator
from berth.loaders.fitted import reset_jobs, walk_objects
from berth.loaders.formats import LoadOptions
from berth.loaders.unpickle.loading import default_allow, load_pickle, parse_allow
from malicious_models import threads_model


class Holder:
    """A user's own class that holds estimators."""

    def __init__(self, part: Any) -> None:
        self.part = part


def keep(rows: Any, part: Any = None) -> Any:
    """A user's own function with an estimator among its keywords."""
    return rows


def _record(part: Any) -> Any:
    array = np.empty(1, [("number", int), ("part", object)])
    array[0] = (1, part)
    return array


def _objects(part: Any) -> Any:
    array = np.empty((1, 1), object)
    array[0, 0] = part
    return array


CONTAINERS: dict[str, Callable[[Any], Any]] = {
    "list": lambda part: [("a", part)],
    "deque": lambda part: deque([("a", part)]),
    "ordered": lambda part: OrderedDict(a=part),
    "key": lambda part: {part: "a"},
    "set": lambda part: {(1, part)},
    "frozenset": lambda part: frozenset([part]),
    "bunch": lambda part: Bunch(a=part),
    "objects": _objects,
    "record": _record,
    "nested": lambda part: {"a": deque([{"b": (_objects(part),)}])},
    "keywords": lambda part: FunctionTransformer(partial(keep, part=part)),
    "holder": Holder,
    "pipeline": lambda part: Pipeline([("a", part)]),
}
_ALLOW = default_allow() | set(parse_allow(f"{__name__}:Holder,{__name__}:keep"))


def _load(value: Any, path: Path) -> Any:
    path.write_bytes(pickle.dumps(value))
    return load_pickle(path, _ALLOW)


def _find(value: Any, kind: type) -> Any:
    return next(thing for thing in walk_objects(value) if isinstance(thing, kind))


@pytest.mark.parametrize("name", CONTAINERS)
def test_jobs_are_reset_in_every_container(name: str, tmp_path: Path) -> None:
    loaded = _load(CONTAINERS[name](KNeighborsClassifier(n_jobs=-1)), tmp_path / "m.pkl")
    reset_jobs(loaded)
    assert _find(loaded, KNeighborsClassifier).n_jobs == 1


@pytest.mark.parametrize("source", ["file", "filename"])
@pytest.mark.parametrize("name", CONTAINERS)
def test_vectorizer_of_files_is_refused_in_every_container(name: str, source: str, tmp_path: Path) -> None:
    with pytest.raises(UnsafeArtifact, match="would read any file that a request names"):
        _load(CONTAINERS[name](CountVectorizer(input=source)), tmp_path / "m.pkl")


def test_a_vectorizer_of_files_whose_state_is_forged_is_refused(tmp_path: Path) -> None:
    vectorizer = CountVectorizer(input="filename")
    del vars(vectorizer)["decode_error"]  # it would raise only after it had read the file
    with pytest.raises(UnsafeArtifact, match="would read any file that a request names"):
        _load(vectorizer, tmp_path / "m.pkl")


def test_threads_printing_and_caches_are_reset(tmp_path: Path) -> None:
    loaded = _load(threads_model(), tmp_path / "m.pkl")
    assert loaded._n_threads == 20_000
    serve_estimator(loaded, (), {})
    assert loaded._n_threads == 1
    pipe = Pipeline([("a", LinearRegression())], memory=str(tmp_path / "cache"), verbose=True)
    reset_jobs(pipe)
    assert (pipe.memory, pipe.verbose) == (None, 0)


def test_usual_sizes_load(tmp_path: Path) -> None:
    for features in (2**18, 2**20, 2**24):
        loaded = _load(HashingVectorizer(n_features=features), tmp_path / "m.pkl")
        assert loaded.transform(["one two"]).shape == (1, features)


# skops reads the file itself; what it has read is held to the same rules.

_SKOPS: dict[str, tuple[Callable[[], Any], type[Exception]]] = {
    "class": (lambda: FunctionTransformer(np.ndarray), UnsafeArtifact),
    "out": (lambda: FunctionTransformer(np.log1p, kw_args={"out": np.zeros(1)}), UnsafeArtifact),
    "partial": (lambda: FunctionTransformer(partial(np.clip, a_min=0, out=np.zeros(1))), UnsafeArtifact),
    "filename": (lambda: Pipeline([("a", CountVectorizer(input="filename"))]), UnsafeArtifact),
    "size": (lambda: HashingVectorizer(n_features=2**31 - 1), LoadError),
}


@pytest.mark.parametrize("name", _SKOPS)
def test_skops_file_is_held_to_the_same_rules(name: str, tmp_path: Path) -> None:
    from skops import io

    make, error = _SKOPS[name]
    io.dump(make(), tmp_path / "m.skops")
    with pytest.raises(error):
        read_estimator(tmp_path / "m.skops", "skops", LoadOptions())


def test_honest_function_loads_from_skops(tmp_path: Path) -> None:
    from skops import io

    io.dump(FunctionTransformer(np.log1p), tmp_path / "m.skops")
    assert read_estimator(tmp_path / "m.skops", "skops", LoadOptions())[0].func is np.log1p
