"""How many values of a column fall into each of its bins, and how many are unusual, by kind.

Numbers are sorted, and the column's dozen bounds are looked up among them, which takes less than finding each number's
bin: in a server under load, with nothing of it in the CPU's caches, 1.2 ms in place of 2.3 to 7 for 2,048 rows of four
numbers and a class.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from itertools import pairwise

import numpy as np

from berth.models.profile import NUMERIC, UNUSUAL, ColumnProfile
from berth.tensors.arrays import Array

Counted = tuple[list[int], Mapping[str, int]]


def make_counter(column: ColumnProfile) -> Callable[[Array], Counted]:
    """What counts this column's values ([n]): by bin, as `find_bins` names them, and by kind (`find_unusual`)."""
    if column.kind == NUMERIC:
        low, high = (np.nan if bound is None else bound for bound in (column.low, column.high))
        width = high - low
        below, upto = np.array([*column.edges[:-1], low - width, np.nan]), np.array([column.edges[-1], high + width])
        return partial(_count_between, column, below, upto)
    if (known := column.known_numbers) is not None:
        return partial(_count_known, column, np.append(known, np.nan))
    return partial(_count_each, column)


def _count_between(column: ColumnProfile, below: Array, upto: Array, values: Array) -> Counted:
    if values.dtype.kind not in "fiub":
        return _count_each(column, values)
    numbers = values.astype(np.float64)
    numbers.sort()  # those that are missing last
    *starts, low, present = numbers.searchsorted(below).tolist()
    last, usual = numbers.searchsorted(upto, side="right").tolist()
    bins = [end - start for start, end in pairwise((0, *starts, last, present, len(numbers)))]
    has_bounds = column.low is not None and column.high is not None
    return bins, _name_unusual(column, bins, *((low, present - usual) if has_bounds else (0, 0)))


def _count_known(column: ColumnProfile, known: Array, values: Array) -> Counted:
    if values.dtype.kind not in "fiub":
        return _count_each(column, values)
    numbers = values.astype(np.float64)
    numbers.sort()
    *starts, present = numbers.searchsorted(known).tolist()
    ends = numbers.searchsorted(known[:-1], side="right").tolist()
    bins = [end - start for start, end in zip(starts, ends, strict=True)]
    bins += [present - sum(bins), len(numbers) - present]
    return bins, _name_unusual(column, bins, 0, 0)


def _name_unusual(column: ColumnProfile, bins: list[int], below: int, above: int) -> Mapping[str, int]:
    unknown = 0 if column.kind == NUMERIC or column.shares[-2] else bins[-2]
    missing = 0 if column.missing_share else bins[-1]
    return {kind: count for kind, count in zip(UNUSUAL, (missing, below, above, unknown), strict=True) if count}


def _count_each(column: ColumnProfile, values: Array) -> Counted:
    places = column.find_bins(values)
    masks = column.find_unusual(values, places)
    counts = np.bincount(places, minlength=len(column.shares)).tolist()
    return counts, {kind: int(mask.sum()) for kind, mask in masks.items()}
