"""Updates of prometheus_client's values, as a request makes fifteen of: the same numbers in a third of the time.

`value.inc` takes a lock, reads the process's id and looks its place up, for each of them. These functions take one
lock for all that belongs together. They must be the only ones to change the values that they change.
"""

from __future__ import annotations

import math
import struct
import threading
from bisect import bisect_left
from collections import Counter as Tally
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
from prometheus_client import Counter, Gauge, Histogram, Summary

from berth.tensors.arrays import Array

_FEW = 40
_lock = threading.Lock()
_pack = struct.Struct("=dd").pack


def _write(value: Any, number: float) -> None:
    """Set a value; the caller holds the lock."""
    if not value._multiprocess:
        value.set(number)
        return
    value._value = number
    file = value._file
    at = file._positions[value._key]
    # All at once: struct.pack_into writes a zero first, which a scrape may see.
    if (doubles := getattr(file, "doubles", None)) is not None:
        doubles[at >> 3] = number
    else:  # prometheus_client's own file, on a system without memfd_create
        file._m[at : at + 16] = _pack(number, 0.0)


def make_adder(child: Counter) -> Callable[[float], None]:
    """The function that a counter's child is counted up with."""
    value = child._value

    def add(amount: float) -> None:
        with _lock:
            _write(value, value._value + amount)

    return add


def make_shared_adder(child: Counter) -> Callable[[float], None]:
    """The same for a counter's child that prometheus_client counts up as well: under its own lock."""
    add: Callable[[float], None] = child._value.inc
    return add


def make_setter(child: Gauge) -> Callable[[float], None]:
    """The function that a gauge's child is set with."""
    value = child._value

    def set_to(number: float) -> None:
        with _lock:
            _write(value, float(number))

    return set_to


def make_observer(child: Histogram) -> Callable[[float], None]:
    """The function that a histogram's child observes with."""
    total, buckets, bounds = child._sum, child._buckets, child._upper_bounds

    def observe(number: float) -> None:
        bucket = buckets[bisect_left(bounds, number)]
        with _lock:
            _write(total, total._value + number)
            _write(bucket, bucket._value + 1)

    def observe_mapped(number: float) -> None:  # the same, with what `_write` does to both values
        bucket = buckets[bisect_left(bounds, number)]
        with _lock:
            total._value = plus = total._value + number
            bucket._value = count = bucket._value + 1
            file = total._file
            positions, doubles = file._positions, file.doubles
            doubles[positions[total._key] >> 3] = plus
            doubles[positions[bucket._key] >> 3] = count

    return observe_mapped if hasattr(getattr(total, "_file", None), "doubles") else observe


def make_many_observer(child: Histogram) -> Callable[[Sequence[float] | Array], None]:
    """The same for many numbers at a time, with one update per bucket: a thousand would take a millisecond."""
    total, buckets, bounds = child._sum, child._buckets, child._upper_bounds

    def observe(numbers: Sequence[float] | Array) -> None:
        plus, counts = _tally(numbers, bounds) if len(numbers) <= _FEW else _tally_array(np.asarray(numbers), bounds)
        with _lock:
            if math.isfinite(plus):
                _write(total, total._value + plus)
            for at, count in counts:
                _write(buckets[at], buckets[at]._value + count)

    return observe


def _tally(numbers: Sequence[float] | Array, bounds: Sequence[float]) -> tuple[float, Iterable[tuple[int, int]]]:
    """The sum of the finite numbers, and (bucket, count) of each bucket that has some."""
    values = numbers.tolist() if isinstance(numbers, np.ndarray) else numbers
    finite = [number for number in values if math.isfinite(number)]
    return sum(finite), Tally(bisect_left(bounds, number) for number in finite).items()


def _tally_array(numbers: Array, bounds: Sequence[float]) -> tuple[float, Iterable[tuple[int, int]]]:
    """The same in numpy, which is the faster of the two from about forty numbers up."""
    finite = numbers[np.isfinite(numbers)].astype(np.float64, copy=False)
    counts = np.bincount(np.searchsorted(bounds, finite))
    with np.errstate(over="ignore"):
        plus = float(finite.sum())
    return plus, ((at, count) for at, count in enumerate(counts.tolist()) if count)


def make_summer(child: Summary) -> Callable[[float, int], None]:
    """The function that adds a sum and its number of values to a summary's child."""
    total, count = child._sum, child._count

    def add(amount: float, values: int) -> None:
        with _lock:
            _write(total, total._value + amount)
            _write(count, count._value + values)

    return add


def join(first: Callable[[float], None], second: Callable[[float], None]) -> Callable[[float, float], None]:
    """The function that makes two updates, each with its own number."""

    def update(one: float, other: float) -> None:
        first(one)
        second(other)

    return update
