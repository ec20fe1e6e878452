"""What people pickle on purpose still loads and answers as it did: functions, partials, metrics, callables."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy import special
from sklearn.cluster import FeatureAgglomeration
from sklearn.compose import TransformedTargetRegressor
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.kernel_approximation import Nystroem
from sklearn.kernel_ridge import KernelRidge
from sklearn.linear_model import Ridge
from sklearn.metrics.pairwise import rbf_kernel
from sklearn.model_selection import GridSearchCV
from sklearn.neighbors import KNeighborsRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder
from sklearn.svm import SVR

from berth.errors import LoadError, UnsafeArtifact
from berth.loaders.unpickle.loading import default_allow, judge_pickle, load_pickle, parse_allow

_RNG = np.random.RandomState(0)
_X, _Y = np.abs(_RNG.normal(size=(40, 3))) + 0.1, np.arange(40.0) + 1


def double(rows: Any, by: float = 2.0, names: Any = None) -> Any:
    """A user's own function."""
    return np.asarray(rows) * by


def overlap(left: Any, right: Any, scale: float = 1.0) -> Any:
    """A user's own kernel or metric."""
    return np.dot(left, np.asarray(right).T) * scale


def distance(left: Any, right: Any, scale: float = 1.0) -> Any:
    """A user's own distance."""
    return float(np.abs(left - right).sum() * scale)


def closeness(left: Any, right: Any, scale: float = 1.0) -> Any:
    """A user's own kernel of two rows."""
    return float(np.exp(-scale * np.square(left - right).sum()))


def split_words(text: str) -> list[str]:
    """A user's own tokenizer."""
    return text.split()


class Inverse:
    """A user's own object that can be called."""

    def __call__(self, rows: Any) -> Any:
        return 1 / rows


def _on_rows(func: Any, **more: Any) -> Callable[[], Any]:
    return lambda: make_pipeline(FunctionTransformer(func, **more), Ridge())


def _brute(metric: str, **params: Any) -> Any:
    return KNeighborsRegressor(algorithm="brute", metric=metric, metric_params=params)


HONEST: dict[str, Callable[[], Any]] = {
    "log1p": _on_rows(np.log1p),
    "sqrt": _on_rows(np.sqrt),
    "expit": _on_rows(special.expit),
    "log-exp": _on_rows(np.log1p, inverse_func=np.expm1, check_inverse=False),
    "clip": _on_rows(np.clip, kw_args={"a_min": 0.0, "a_max": 1.0}),
    "round": _on_rows(np.round, kw_args={"decimals": 2}),
    "nan-to-num": _on_rows(np.nan_to_num, kw_args={"nan": 0.0, "posinf": 1.0}),
    "single": _on_rows(np.sqrt, kw_args={"dtype": np.float32}),
    "partial-clip": _on_rows(partial(np.clip, a_min=0, a_max=1)),
    "partial-power": _on_rows(partial(np.power, 2.0)),
    "partial-plain": _on_rows(partial(np.log1p)),
    "cumulated": _on_rows(np.cumsum, kw_args={"axis": 1}),
    "target": lambda: TransformedTargetRegressor(Ridge(), func=np.log1p, inverse_func=np.expm1),
    "target-pipeline": lambda: TransformedTargetRegressor(Ridge(), transformer=FunctionTransformer(np.log, np.exp)),
    "minkowski": lambda: KNeighborsRegressor(metric="minkowski", p=3),
    "weighted": lambda: KNeighborsRegressor(metric="minkowski", metric_params={"w": np.ones(3)}),
    "weighted-brute": lambda: KNeighborsRegressor(
        algorithm="brute", metric="minkowski", metric_params={"w": np.ones(3)}
    ),
    "mahalanobis": lambda: KNeighborsRegressor(
        algorithm="brute", metric="mahalanobis", metric_params={"VI": np.eye(3)}
    ),
    "seuclidean": lambda: KNeighborsRegressor(metric="seuclidean", metric_params={"V": np.ones(3)}),
    "kernel-function": lambda: SVR(kernel=rbf_kernel),
    "kernel-keywords": lambda: KernelRidge(kernel="polynomial", degree=2, coef0=0.5),
    "kernel-params": lambda: make_pipeline(Nystroem("sigmoid", kernel_params={"coef0": 0.5}, n_components=5), Ridge()),
    "pooling": lambda: make_pipeline(FeatureAgglomeration(2, pooling_func=np.median), Ridge()),
    "searched": lambda: GridSearchCV(
        make_pipeline(FunctionTransformer(), Ridge()), {"functiontransformer__func": [np.log1p, np.sqrt]}, cv=2
    ),
    "own-function": _on_rows(double, kw_args={"by": 3.0, "names": {"a": [1]}}),
    "own-partial": _on_rows(partial(double, by=4.0)),
    "own-object": _on_rows(Inverse()),
    "own-kernel": lambda: SVR(kernel=overlap),
    "own-kernel-params": lambda: KernelRidge(kernel=closeness, kernel_params={"scale": 0.5}),
    "own-metric": lambda: KNeighborsRegressor(metric=distance, metric_params={"scale": 2.0}),
    "own-metric-tree": lambda: KNeighborsRegressor(algorithm="ball_tree", metric=distance),
    "own-approximation": lambda: make_pipeline(Nystroem(overlap, n_components=5), Ridge()),
    "own-weights": lambda: KNeighborsRegressor(weights=np.exp),
}
_OWN = ("double", "overlap", "distance", "closeness", "split_words", "Inverse")
_ALLOW = default_allow() | set(parse_allow(",".join(f"{__name__}:{name}" for name in _OWN)))


@pytest.mark.parametrize("protocol", [2, 5])
@pytest.mark.parametrize("name", HONEST)
def test_honest_model_answers_the_same(name: str, protocol: int, tmp_path: Path) -> None:
    path = tmp_path / "model.pkl"
    path.write_bytes(pickle.dumps(HONEST[name]().fit(_X, _Y), protocol))
    model = pickle.loads(path.read_bytes())
    again: Any = load_pickle(path, _ALLOW if name.startswith("own") else default_allow())
    assert np.array_equal(again.predict(_X), model.predict(_X))
    assert judge_pickle(path, _ALLOW)[1] is None


@pytest.mark.parametrize("name", [name for name in HONEST if name.startswith("own") and name != "own-weights"])
def test_own_callable_must_be_listed(name: str, tmp_path: Path) -> None:
    path = tmp_path / "model.pkl"
    path.write_bytes(pickle.dumps(HONEST[name]().fit(_X, _Y)))
    with pytest.raises(UnsafeArtifact, match=f"BERTH_PICKLE_ALLOW={__name__}:"):
        load_pickle(path, default_allow())


def test_own_tokenizer_and_types_as_dtype(tmp_path: Path) -> None:
    path = tmp_path / "model.pkl"
    texts = ["one two", "two three"]
    words = TfidfVectorizer(tokenizer=split_words, token_pattern=None, dtype=np.float32).fit(texts)
    path.write_bytes(pickle.dumps(words))
    again: Any = load_pickle(path, _ALLOW)
    assert (again.transform(texts) != words.transform(texts)).nnz == 0
    for dtype in (float, np.float32, np.dtype("f4")):
        path.write_bytes(pickle.dumps(OneHotEncoder(dtype=dtype)))
        assert load_pickle(path, default_allow()).dtype == dtype  # type: ignore[attr-defined]


def test_dicts_of_numbers_and_pairs_load(tmp_path: Path) -> None:
    """Many honest keys that are no strings: the bounds on slow keys are far from them."""
    path = tmp_path / "model.pkl"
    value = [
        {number: number for number in range(200_000)},
        {number * 64: 1.0 for number in range(50_000)},
        {float(number) for number in range(50_000)},
        {(number, str(number)): number for number in range(50_000)},
        frozenset(frozenset((number, -number)) for number in range(20_000)),
    ]
    path.write_bytes(pickle.dumps(value))
    assert load_pickle(path, default_allow()) == value


# Inspection and loading agree


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_inspection_agrees_with_loading_of_changed_files(data: st.DataObject, tmp_path: Path) -> None:
    """Bytes of an honest file are changed at random: whatever comes of it, both say the same, and in one line."""
    model = make_pipeline(FunctionTransformer(np.clip, kw_args={"a_min": 0.0}), Ridge().fit(_X, _Y))
    content = bytearray(pickle.dumps(model, data.draw(st.sampled_from([2, 4]))))
    for _ in range(data.draw(st.integers(0, 3))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path / "model.pkl"
    path.write_bytes(content)
    try:
        load_pickle(path, default_allow())
        refusal = None
    except (UnsafeArtifact, LoadError) as error:
        refusal = error.message
    try:
        reason = judge_pickle(path, default_allow())[1]
    except LoadError as error:
        reason = error.message
    assert (reason is None) == (refusal is None)
    assert refusal is None or refusal.isprintable()
