"""The prediction cache: what makes two questions the same, and how much is kept."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from berth.serving.cache import PredictionCache, encode_key

ROW = np.array([[1.0, 2.0]])
QUESTION: dict[str, Any] = {
    "name": "iris",
    "version": "1",
    "sha256": "a" * 64,
    "outputs": ("prediction",),
    "tensors": {"features": ROW},
}


@pytest.mark.parametrize(
    "change",
    [
        {"name": "iri"},
        {"version": "2"},
        {"sha256": "b" * 64},
        {"outputs": ("probabilities",)},
        {"outputs": ("prediction", "probabilities")},
        {"tensors": {"other": ROW}},
        {"tensors": {"features": ROW.astype(np.float32)}},
        {"tensors": {"features": ROW.reshape(2, 1)}},
        {"tensors": {"features": ROW + 1e-16 + 1}},
        {"tensors": {"features": ROW.view(np.int64)}},
        {"tensors": {"features": np.array([["1.0", "2.0"]], object)}},
        {"tensors": {"features": np.array([[1.0, None]], object)}},
        {"tensors": {"features": ROW, "more": ROW}},
    ],
)
def test_everything_an_answer_depends_on_is_in_the_key(change: dict[str, Any]) -> None:
    assert encode_key(**QUESTION) != encode_key(**QUESTION | change)
    assert encode_key(**QUESTION) == encode_key(**QUESTION)


@given(st.lists(st.text(max_size=4), max_size=4), st.lists(st.text(max_size=4), max_size=4))
def test_no_two_lists_of_strings_share_a_key(one: list[str], other: list[str]) -> None:
    keys = [encode_key("m", "1", "", ("p",), {"x": np.array([*words, None], object)}) for words in (one, other)]
    assert (keys[0] == keys[1]) == (one == other)


def test_answers_are_kept_as_they_were_and_cannot_be_changed() -> None:
    cache = PredictionCache(10_000)
    joint = np.arange(100.0)
    cache.put(b"k", {"prediction": joint[3:4]})
    joint[:] = -1
    found = cache.get(b"k")
    assert found is not None
    assert found.answer["prediction"].tolist() == [3.0]
    assert found.answer["prediction"].base is None
    with pytest.raises(ValueError, match="read-only"):
        found.answer["prediction"][0] = 9
    assert cache.get(b"other") is None


def test_the_least_recently_used_goes_first_and_the_bound_holds() -> None:
    cache = PredictionCache(3_000)
    for number in range(50):
        cache.put(bytes([number]), {"prediction": np.zeros(10)})
        assert cache.size_bytes <= 3_000
        if number:
            assert cache.get(b"\0") is not None
    assert cache.get(bytes([49])) is not None
    assert cache.get(bytes([25])) is None
    assert len(cache) == 3_000 // 680


def test_what_is_larger_than_the_cache_is_not_kept() -> None:
    cache = PredictionCache(1_000)
    cache.put(b"small", {"prediction": np.zeros(1)})
    cache.put(b"large", {"prediction": np.zeros(1_000)})
    cache.put(b"words", {"prediction": np.array(["x" * 5_000], object)})
    assert len(cache) == 1
    assert cache.get(b"small") is not None


def test_the_same_key_twice_counts_once() -> None:
    cache = PredictionCache(10_000)
    cache.put(b"k", {"prediction": np.zeros(1)})
    before = cache.size_bytes
    cache.put(b"k", {"prediction": np.zeros(1)})
    assert (cache.size_bytes, len(cache)) == (before, 1)


def test_many_threads_leave_the_count_right() -> None:
    cache = PredictionCache(20_000)

    def work(seed: int) -> None:
        for number in range(300):
            key = bytes([(seed * 7 + number) % 60])
            cache.put(key, {"prediction": np.zeros(number % 20)})
            cache.get(key)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert cache.size_bytes <= 20_000
    assert cache.size_bytes == sum(entry.size_bytes for entry in cache._entries.values())
