"""The upper bounds of the histograms' buckets."""

from __future__ import annotations

# 0.1 ms to 60 s: a cached row takes 0.2 ms, a large batch on a small CPU tens of seconds.
SECONDS = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
ROWS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 1024, 4096, 16384, 65536)
# Nothing is known of a regression's unit: powers of ten to both sides of zero.
_POWERS = tuple(10.0**power for power in range(-2, 7))
VALUES = (*(-value for value in reversed(_POWERS)), 0.0, *_POWERS)
ERRORS = (0.0, *(10.0**power for power in range(-4, 7)))
# A second to 90 days.
DELAYS = (1, 10, 60, 600, 3600, 21_600, 86_400, 604_800, 2_592_000, 7_776_000)
