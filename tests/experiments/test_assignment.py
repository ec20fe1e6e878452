"""Assignment: shares as the weights say, and a change of the weights moves the units that it must and no others."""

from __future__ import annotations

import hashlib
import subprocess
import sys

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from berth.experiments.assignment import BUCKETS, find_arm, hash_unit, shares_of, split_buckets

UNITS = [f"user-{number}" for number in range(100_000)]


def assign(weights: list[float], seed: str = "q4") -> list[int]:
    ends = split_buckets(weights)
    return [find_arm(ends, hash_unit(seed, unit) % BUCKETS) for unit in UNITS]


@given(st.text(st.characters()), st.text(st.characters()))
@example("q4", "\ud800")
def test_a_units_hash_is_the_documented_one(seed: str, unit: str) -> None:
    data = f"{seed}\0{unit}".encode("utf-8", "surrogatepass")
    assert hash_unit(seed, unit) == int.from_bytes(hashlib.blake2b(data, digest_size=8).digest(), "big")


@pytest.mark.parametrize("weights", [[90, 10], [1, 1], [5, 3, 2], [0, 1], [1, 0], [0.2, 0.2, 0.6]])
def test_shares_are_the_weights(weights: list[float]) -> None:
    found = assign(weights)
    for at, weight in enumerate(weights):
        assert found.count(at) / len(UNITS) == pytest.approx(weight / sum(weights), abs=0.005)


def test_90_to_10_becomes_80_to_20() -> None:
    before, after = assign([90, 10]), assign([80, 20])
    moved = [at for at in range(len(UNITS)) if before[at] != after[at]]
    expected = [at for at, unit in enumerate(UNITS) if 8000 <= hash_unit("q4", unit) % BUCKETS < 9000]
    assert moved == expected
    assert all((before[at], after[at]) == (0, 1) for at in moved)
    assert len(moved) / len(UNITS) == pytest.approx(0.1, abs=0.005)


def test_another_seed_is_another_experiment() -> None:
    one, other = assign([1, 1]), assign([1, 1], "q5")
    both = sum(here == there for here, there in zip(one, other, strict=True)) / len(UNITS)
    assert both == pytest.approx(0.5, abs=0.01)


def test_every_process_says_the_same() -> None:
    code = "from berth.experiments.assignment import hash_unit; print([hash_unit('s', str(n)) for n in range(99)])"
    found = {subprocess.run([sys.executable, "-c", code], check=True, capture_output=True).stdout for _ in range(2)}
    assert found == {f"{[hash_unit('s', str(n)) for n in range(99)]}\n".encode()}


def test_probabilities_add_up() -> None:
    assert shares_of(split_buckets([1, 1, 1])) == (0.3333, 0.3334, 0.3333)
    assert shares_of(split_buckets([90, 10])) == (0.9, 0.1)
    assert find_arm(split_buckets([0, 1]), 0) == 1
