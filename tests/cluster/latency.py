"""The latency of a load while something happened, beside that of the same load while nothing did, in turns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from cluster.kube import Client

Period = tuple[float, float]


def p99_ms(samples: Sequence[tuple[float, float]], periods: Sequence[Period]) -> float:
    """What 99 of 100 requests that began in the periods did not exceed; all of them in seconds, and one at least."""
    took = sorted(seconds for at, seconds in samples if any(begin <= at < end for begin, end in periods))
    return 1000 * took[len(took) * 99 // 100]


@dataclass(frozen=True)
class Compared:
    """The p99 of requests without a fault and with it, in milliseconds."""

    before: float
    during: float
    # The median of the periods' ratios, each to the one before it: what else the node does then is in one alone.
    ratio: float

    def __str__(self) -> str:
        return f"p99 {self.ratio:.2f} times, {self.before:.1f} ms before, {self.during:.1f} ms with"


def compare(client: Client, counts: dict[str, Any], periods: dict[str, Any]) -> Compared:
    """What a load whose end is counted saw in the periods `quiet` and `attacked` (of the client's monotonic clock)."""
    print_file = "import pathlib, sys; print(pathlib.Path(sys.argv[1]).read_text())"
    lines = client.python(print_file, counts["samples"]).splitlines()
    pairs = [line.split() for line in lines if line]
    samples = [(float(at), float(seconds)) for at, seconds in pairs]
    each = {kind: [p99_ms(samples, [period]) for period in periods[kind]] for kind in ("quiet", "attacked")}
    for kind, found in each.items():
        print(f"{kind}: {[round(p99, 1) for p99 in found]}")
    ratios = [with_fault / without for without, with_fault in zip(each["quiet"], each["attacked"], strict=True)]
    return Compared(p99_ms(samples, periods["quiet"]), p99_ms(samples, periods["attacked"]), median(ratios))
