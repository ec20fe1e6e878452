"""Statistics of two groups of requests: is one share larger than the other, and where does a quantile lie."""

from __future__ import annotations

import math
from collections.abc import Sequence


def _log_choose(total: int, chosen: int) -> float:
    return math.lgamma(total + 1) - math.lgamma(chosen + 1) - math.lgamma(total - chosen + 1)


def chance_of_more(hits: int, count: int, other_hits: int, other_count: int) -> float:
    """How likely it is by chance alone that so many or more of all hits fall on the first group.

    Fisher's exact test, one-sided, with the mid-p correction (H. O. Lancaster, "Significance tests in discrete
    distributions", JASA 56, 1961): it holds for a handful of hits, where a normal approximation does not.
    """
    hits_in_all, rest = hits + other_hits, other_count - other_hits - hits
    log_first = (
        _log_choose(count, hits) + _log_choose(other_count, other_hits) - _log_choose(count + other_count, hits_in_all)
    )
    term = math.exp(log_first)
    total = term / 2
    for more in range(hits, min(count, hits_in_all)):
        ratio = (count - more) * (hits_in_all - more) / ((more + 1) * (rest + more + 1))
        term *= ratio
        total += term
        if ratio < 1 and term < total * 1e-12:
            break
    return min(total, 1.0)


def find_bucket(counts: Sequence[int], share: float) -> int:
    """The bucket in which a quantile lies. `counts` ([B]) are not cumulative, and not all 0."""
    wanted, so_far = share * sum(counts), 0
    for at, count in enumerate(counts):
        so_far += count
        if count and so_far >= wanted:
            return at
    return len(counts) - 1


def interpolate_quantile(counts: Sequence[int], bounds: Sequence[float], share: float) -> float | None:
    """A quantile, by the straight line through its bucket; the last bound beyond it; None without any count.

    `bounds` ([B - 1]) are the upper ends of all buckets but the last one.
    """
    if not sum(counts):
        return None
    at = find_bucket(counts, share)
    if at == len(bounds):
        return bounds[-1]
    low = bounds[at - 1] if at else 0.0
    inside = share * sum(counts) - sum(counts[:at])
    return low + (bounds[at] - low) * inside / counts[at]
