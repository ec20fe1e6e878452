"""The latency of a load while something happened, beside that of the same load while nothing did, in turns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
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

    def __str__(self) -> str:
        return f"p99 {self.before:.1f} ms before, {self.during:.1f} ms with"

    @property
    def ratio(self) -> float:
        """How many times the p99 without a fault."""
        return self.during / self.before


def compare(client: Client, counts: dict[str, Any], periods: dict[str, Any]) -> Compared:
    """What a load whose end is counted saw in the periods `quiet` and `attacked` (of the client's monotonic clock)."""
    print_file = "import pathlib, sys; print(pathlib.Path(sys.argv[1]).read_text())"
    lines = client.python(print_file, counts["samples"]).splitlines()
    pairs = [line.split() for line in lines if line]
    samples = [(float(at), float(seconds)) for at, seconds in pairs]
    for kind in ("quiet", "attacked"):
        print(f"{kind}: {[round(p99_ms(samples, [period]), 1) for period in periods[kind]]}")
    return Compared(p99_ms(samples, periods["quiet"]), p99_ms(samples, periods["attacked"]))
