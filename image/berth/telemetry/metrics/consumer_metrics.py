"""The metrics that only a consumer has."""

from __future__ import annotations

from collections.abc import Sequence

from prometheus_client import CollectorRegistry, Counter, Gauge

_LABELS = ("model", "version", "slot")


class ConsumerMetrics:
    """What one consumer reports of its messages; `common` is its model, version and slot."""

    def __init__(self, registry: CollectorRegistry, common: tuple[str, str, str], results: Sequence[str]) -> None:
        consumed = Counter(
            "berth_consumed_total", "Messages that are committed, by result.", (*_LABELS, "result"), registry=registry
        )
        lag = Gauge("berth_consumer_lag", "Messages that wait for this consumer's group.", _LABELS, registry=registry)
        self._consumed = {result: consumed.labels(*common, result) for result in results}
        self._lag = lag.labels(*common)

    def count(self, result: str, messages: int) -> None:
        """So many messages are committed."""
        self._consumed[result].inc(messages)

    def set_lag(self, messages: int) -> None:
        """So many wait."""
        self._lag.set(messages)
