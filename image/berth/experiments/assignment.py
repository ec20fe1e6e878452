"""Which arm a unit belongs to: a function of the seed, the unit and the weights alone.

    bucket = blake2b(seed, NUL, unit; 8 bytes, big-endian) mod 10,000

Arms own contiguous ranges of buckets in the order of the file. Going from 90/10 to 80/20 therefore moves the buckets
8,000 to 8,999 and no others, and every worker, pod and restart agrees without asking another.
"""

from __future__ import annotations

import hashlib
from bisect import bisect_right
from collections.abc import Callable, Sequence
from itertools import accumulate

BUCKETS = 10_000


def make_hash(seed: str) -> Callable[[str], int]:
    """What gives 64 bits of a unit; another seed gives others. What a seed's units have in common is computed once."""
    begin = hashlib.blake2b(f"{seed}\0".encode("utf-8", "surrogatepass"), digest_size=8).copy
    from_bytes = int.from_bytes

    def hash_unit(unit: str) -> int:
        found = begin()
        try:
            found.update(unit.encode())  # half the time of a call that names what becomes of surrogates
        except UnicodeEncodeError:
            found.update(unit.encode("utf-8", "surrogatepass"))
        return from_bytes(found.digest())

    return hash_unit


def hash_unit(seed: str, unit: str) -> int:
    """64 bits of a unit under a seed."""
    return make_hash(seed)(unit)


def split_buckets(weights: Sequence[float]) -> tuple[int, ...]:
    """The end of each arm's range; the last is 10,000. The weights need not add up to 1, but to more than 0."""
    total = sum(weights)
    return tuple(round(BUCKETS * part / total) for part in accumulate(weights))


# (ends, bucket) -> the index of the arm that owns the bucket.
find_arm = bisect_right


def shares_of(ends: Sequence[int]) -> tuple[float, ...]:
    """Each arm's probability."""
    starts = (0, *ends[:-1])
    return tuple((end - start) / BUCKETS for start, end in zip(starts, ends, strict=True))
