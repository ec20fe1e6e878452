"""Hostile files of allowed names only: models whose library would call, read or allocate what the file says.

Each was loaded, or killed or stalled the process that loaded it, while names alone decided.
"""

from __future__ import annotations

import pickle
import zlib
from collections import OrderedDict, deque
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
from scipy import sparse
from sklearn.cluster import KMeans
from sklearn.compose import TransformedTargetRegressor
from sklearn.dummy import DummyClassifier
from sklearn.ensemble import RandomForestClassifier, VotingClassifier
from sklearn.feature_extraction.text import CountVectorizer, HashingVectorizer
from sklearn.feature_selection import SelectKBest
from sklearn.gaussian_process import GaussianProcessRegressor, kernels
from sklearn.kernel_approximation import Nystroem
from sklearn.linear_model import LinearRegression, LogisticRegression, Ridge
from sklearn.metrics.pairwise import euclidean_distances, pairwise_distances
from sklearn.naive_bayes import MultinomialNB
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import FunctionTransformer, PolynomialFeatures, SplineTransformer, StandardScaler
from sklearn.tree import DecisionTreeClassifier
from sklearn.utils import Bunch

from malicious_states import body
from pickle_assembler import Builder, call, named, stacked, text, whole

_MODULUS = 2**61 - 1


@cache
def _rows() -> tuple[Any, Any]:
    rng = np.random.RandomState(0)
    return rng.normal(size=(40, 4)), np.arange(40) % 2


def _dump(make: Callable[[], Any]) -> Builder:
    return lambda path: path.write_bytes(pickle.dumps(make(), 4))


def _function(func: Any, **more: Any) -> Builder:
    """A pipeline that calls `func` on the rows of a request."""
    return _dump(lambda: make_pipeline(FunctionTransformer(func, **more), LinearRegression().fit(*_rows())))


def _set(estimator: Any, **attributes: Any) -> Any:
    """The estimator with attributes that no fit gives it."""
    estimator.__dict__.update(attributes)
    return estimator


def _fitted(estimator: Any) -> Any:
    return estimator.fit(*_rows())


# What the library calls


def _target(**more: Any) -> Any:
    return _set(_fitted(TransformedTargetRegressor(Ridge())), **more)


def _nearest(**more: Any) -> Any:
    return _set(_fitted(KNeighborsClassifier(algorithm="brute")), **more)


def _process(metric: Any, **keywords: Any) -> Any:
    model = _fitted(GaussianProcessRegressor(kernels.PairwiseKernel(metric="rbf"), optimizer=None))
    _set(model.kernel_, metric=metric, pairwise_kernels_kwargs=keywords)
    return model


def _maker_called(path: Path) -> None:
    """The name of a container leads to Berth's own maker, which is not a function of any model either."""
    new = stacked("sklearn.preprocessing._function_transformer", "FunctionTransformer") + b")\x81"
    path.write_bytes(whole(new + b"}" + text("func") + named("builtins", "bytearray") + b"sb"))


def _ordered_state(path: Path) -> None:
    """A state that is no dict passes by the checks of a dict."""
    state = OrderedDict(predict=np.mean, coef_=np.ones(4))
    new = stacked("sklearn.linear_model._base", "LinearRegression") + b")\x81"
    path.write_bytes(whole(new + pickle.dumps(state, 4)[11:-1] + b"b"))


_CALLED: dict[str, Builder] = {
    "called-ndarray": _function(np.ndarray, kw_args={"dtype": object, "buffer": b"A" * 4096}),
    "called-matrix": _function(np.matrix),
    "called-sparse": _function(sparse.csr_matrix),
    "called-scalar": _function(np.void),
    "called-type": _function(bytes),
    "called-estimator": _function(StandardScaler),
    "called-maker": _maker_called,
    "called-score": _function(euclidean_distances),
    "called-object": _function(kernels.RBF()),
    "called-spline": _dump(lambda: FunctionTransformer(_fitted(SplineTransformer()).bsplines_[0])),
    "called-inverse": _dump(lambda: _fitted(FunctionTransformer(np.log1p)).set_params(inverse_func=np.ndarray)),
    "called-target": _dump(lambda: _target(inverse_func=np.ndarray)),
    "called-pooling": _dump(lambda: _set(LinearRegression(), pooling_func=dict)),
    "called-metric": _dump(lambda: _nearest(metric=np.ndarray, effective_metric_=np.ndarray)),
    "called-kernel": _dump(lambda: _set(_process("rbf"), kernel_=np.clip)),
    "called-score-func": _dump(lambda: SelectKBest(np.ndarray)),
    "called-shadow": _dump(lambda: _set(_fitted(LinearRegression()), predict=np.mean)),
    "called-shadow-object": _dump(lambda: _set(_fitted(LinearRegression()), predict=kernels.RBF())),
    "called-ordered-state": _ordered_state,
    "called-bunch": _dump(lambda: Pipeline([("a", Bunch(transform=np.log1p, predict=np.mean))])),
    "called-class-step": _dump(lambda: Pipeline([("a", StandardScaler), ("b", LinearRegression().fit(*_rows()))])),
    "called-function-step": _dump(lambda: Pipeline([("a", np.log1p), ("b", LinearRegression().fit(*_rows()))])),
    "called-class-member": _dump(
        lambda: _set(_fitted(VotingClassifier([("a", LogisticRegression())])), estimators_=[LogisticRegression])
    ),
}

# With which arguments

_KEYWORDS: dict[str, Builder] = {
    "keywords-out": _function(np.log1p, kw_args={"out": np.zeros((1, 4))}),
    "keywords-where": _function(np.sqrt, kw_args={"where": np.zeros(4, bool)}),
    "keywords-dtype": _function(np.sqrt, kw_args={"dtype": object}),
    "keywords-casting": _function(np.sqrt, kw_args={"casting": "unsafe"}),
    "keywords-signature": _function(np.sqrt, kw_args={"signature": "d->d"}),
    "keywords-subok": _function(np.sqrt, kw_args={"subok": True}),
    "keywords-initial": _function(np.max, kw_args={"initial": 1e300}),
    "keywords-like": _function(np.mean, kw_args={"out": np.zeros(4)}),
    "keywords-repetitions": _function(np.diff, kw_args={"n": 10**12}),
    "keywords-array-of-objects": _function(np.clip, kw_args={"min": np.array([None, "x"], object)}),
    "keywords-inverse": _dump(lambda: FunctionTransformer(np.log1p, inv_kw_args={"out": 1}, inverse_func=np.expm1)),
    "keywords-metric": _dump(
        lambda: _nearest(
            effective_metric_=pairwise_distances, effective_metric_params_={"metric": "euclidean", "n_jobs": -1}
        )
    ),
    "keywords-metric-out": _dump(lambda: _nearest(effective_metric_params_={"out": np.zeros(1)})),
    "keywords-inverse-covariance": _dump(
        lambda: _nearest(effective_metric_="mahalanobis", effective_metric_params_={"VI": np.ones((1, 1))})
    ),
    "keywords-kernel": _dump(lambda: _process("rbf", n_jobs=-1)),
    "keywords-nystroem": _dump(lambda: _set(_fitted(Nystroem(n_components=4)), kernel_params={"n_jobs": -1})),
    "partial-out": _function(partial(np.clip, a_min=0, a_max=1, out=np.zeros((1, 4)))),
    "partial-position": _function(partial(np.add, 1.0, np.zeros((1, 4)))),
    "partial-class": _function(partial(np.ndarray, dtype=object)),
}

# Where a check that walks the loaded object does not look


def _text_model(vectorizer: Any, steps: Callable[[list[Any]], Any] = list) -> Any:
    words, labels = ["one two", "two three", "three one"] * 2, [0, 1, 0] * 2
    vectorizer.set_params(input="content")
    model = make_pipeline(vectorizer, MultinomialNB()).fit(words, labels)
    vectorizer.set_params(input="filename")
    return _set(model, steps=steps(model.steps))


def _record_of(items: list[Any]) -> Any:
    records = np.empty(len(items), [("name", object), ("step", object)])
    for at, item in enumerate(items):
        records[at] = item
    return records


def _objects_of(items: list[Any]) -> Any:
    array = np.empty(len(items), object)
    array[:] = items
    return array


def _hidden(hide: Callable[[Any], Any]) -> Builder:
    """The vectorizer in an attribute that no walk over steps knows."""
    return _dump(lambda: _set(_fitted(LinearRegression()), hidden_=hide(CountVectorizer(input="filename"))))


_FILES: dict[str, Builder] = {
    "reads-deque": _dump(lambda: _text_model(CountVectorizer(), deque)),
    "reads-record": _dump(lambda: _text_model(CountVectorizer(), _record_of)),
    "reads-objects": _dump(lambda: _text_model(CountVectorizer(), _objects_of)),
    "reads-tuple": _dump(lambda: _text_model(CountVectorizer(), tuple)),
    "reads-file": _dump(lambda: _set(_text_model(CountVectorizer()).steps[0][1], input="file")),
    "reads-key": _hidden(lambda one: {one: 1}),
    "reads-set": _hidden(lambda one: {(one, 1)}),
    "reads-bunch": _hidden(lambda one: Bunch(part=one)),
    "reads-ordered": _hidden(lambda one: OrderedDict(part=[deque([one])])),
    "reads-spline": _hidden(lambda one: _set(_fitted(SplineTransformer()).bsplines_[0], extra=one)),
    "reads-odd-word": _hidden(lambda one: one.set_params(input=["filename"])),
}

# Numbers that compiled code or an allocation believes


def _twister() -> Any:
    random = np.random.RandomState(0)
    state = random.get_state(legacy=False)
    state["state"]["pos"] = 10**9
    random.set_state(state)
    return _set(_fitted(DummyClassifier(strategy="stratified")), random_state=random)


def _spline(**attributes: Any) -> Any:
    model = _fitted(SplineTransformer())
    _set(model.bsplines_[0], **attributes)
    return model


def _no_state(module: str, name: str) -> Builder:
    """A tree that is never given its nodes."""
    new = call(named(module, "newObj"), named(module, name))
    return lambda path: path.write_bytes(whole(new))


def _many_classes(path: Path) -> None:
    counts = pickle.dumps(np.array([2**40]), 2)[2:-1]
    tree = call(named("sklearn.tree._tree", "Tree"), b"K\x04", counts, b"K\x01")
    state = pickle.dumps(_fitted(DecisionTreeClassifier()).tree_.__getstate__(), 2)[2:-1]
    path.write_bytes(whole(tree + state + b"b"))


_NUMBERS: dict[str, Builder] = {
    "number-twister": _dump(_twister),
    "number-spline-degree": _dump(lambda: _spline(k=10**6)),
    "number-spline-knots": _dump(lambda: _spline(_t=np.arange(3.0e5))),
    "number-spline-order": _dump(lambda: _spline(_t=np.array([0.0, np.nan] * 5))),
    "number-tree-classes": _many_classes,
    "number-kd-tree-empty": _no_state("sklearn.neighbors._kd_tree", "KDTree64"),
    "number-ball-tree-empty": _no_state("sklearn.neighbors._ball_tree", "BallTree64"),
    "number-hashing": _dump(lambda: HashingVectorizer(n_features=2**31 - 1)),
    "number-polynomial": _dump(lambda: _set(_fitted(PolynomialFeatures()), _n_out_full=10**12)),
    "number-degree": _dump(lambda: _set(_fitted(PolynomialFeatures()), _max_degree=10**12)),
    "number-classes": _dump(lambda: _set(_fitted(RandomForestClassifier(2)), n_classes_=10**12)),
    "number-classes-listed": _dump(lambda: _set(_fitted(RandomForestClassifier(2)), n_classes_=[2, 10**12])),
    "number-outputs": _dump(lambda: _set(_fitted(DecisionTreeClassifier()), n_outputs_=2**40)),
}

# Slow to load


def _colliding(count: int) -> list[int]:
    """Integers of one hash."""
    return [1 + number * _MODULUS for number in range(count)]


def _colliding_memo(path: Path, count: int = 20_000) -> None:
    lines = b"".join(b"p%d\n" % number for number in _colliding(count))
    path.write_bytes(whole(b"N" + lines))


def colliding_numbers(count: int, after: bytes = b"") -> bytes:
    """The colliding integers as opcodes, each followed by `after`."""
    return b"".join(b"\x8a\x10" + number.to_bytes(16, "little") + after for number in _colliding(count))


def _triplets(path: Path) -> None:
    """Named tuples that share their parts: hashing the last takes 3**40 steps."""
    new = stacked("sklearn.impute._iterative", "_ImputerTriplet") + b"q\x00"
    steps = b"".join(b"q\x010h\x00h\x01h\x01h\x01\x87\x81" for _ in range(40))
    path.write_bytes(whole(b"}" + new + b"0N" + steps + b"Ns"))


def _shared_keys(path: Path) -> None:
    """One tuple that unfolds to a million parts, hashed for each of 100,000 keys."""
    shared = b"K\x01" + b"2\x86" * 20 + b"q\x00"
    path.write_bytes(whole(b"}" + shared + b"0" + b"h\x00Ns" * 100_000))


def _nested_record(path: Path) -> None:
    """A record whose two fields are the same record, 40 deep: hashing its dtype takes 2**40 steps."""
    start = call(named("numpy", "dtype"), text("V8"), b"\x89", b"\x88") + b"(K\x03" + text("|") + b"N"
    start += text("a") + text("b") + b"\x86}("
    made = call(named("numpy", "dtype"), text("i8"), b"\x89", b"\x88") + b"q\x01"
    for _ in range(40):
        fields = b"".join(text(name) + b"h\x01K\x00\x86" for name in "ab")
        made += b"0" + start + fields + b"uK\x08K\x01K\x10tbq\x01"
    path.write_bytes(whole(b"}" + made + b"Ns"))


def _frozensets(path: Path) -> None:
    """Two equal frozensets that share their parts: comparing them takes 2**40 steps."""

    def chain(slot: bytes) -> bytes:
        step = b"q" + slot + b"0(h" + slot + b"h" + slot + b"\x86\x91"
        return b"(K\x01\x91" + step * 40

    path.write_bytes(whole(b"}" + chain(b"\x01") + b"Ns" + chain(b"\x02") + b"Ns"))


def _instructions(path: Path) -> None:
    """40 million instructions in 40 KB."""
    path.write_bytes(zlib.compress(b"\x80\x04N" + b"N0" * 20_000_000 + b"."))


_SLOW: dict[str, Builder] = {
    "slow-set": body(lambda path: b"\x8f(" + colliding_numbers(40_000) + b"\x90"),
    "slow-frozenset": body(lambda path: b"(" + colliding_numbers(40_000) + b"\x91"),
    "slow-dict": body(lambda path: b"(" + colliding_numbers(40_000) + b"d"),
    "slow-set-called": body(lambda path: call(named("builtins", "set"), b"](" + colliding_numbers(40_000) + b"e")),
    "slow-tuples": body(lambda path: b"\x8f(" + colliding_numbers(40_000, b"\x85") + b"\x90"),
    "slow-one-by-one": body(lambda path: b"}" + colliding_numbers(40_000, b"Ns")),
    "slow-memo": _colliding_memo,
    "slow-triplets": _triplets,
    "slow-shared-keys": _shared_keys,
    "slow-record": _nested_record,
    "slow-frozensets": _frozensets,
    "slow-instructions": _instructions,
}

MODELS: dict[str, Builder] = {**_CALLED, **_KEYWORDS, **_FILES, **_NUMBERS, **_SLOW}


def threads_model() -> Any:
    """A model that would start 20,000 threads to predict."""
    return _set(KMeans(3, n_init=1, random_state=0).fit(_rows()[0]), _n_threads=20_000)
