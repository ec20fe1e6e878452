"""The loop of a consumer, all of it on one thread: take, predict, send, commit.

    source --take--> messages --one model call--> outcomes --sink, dead topic--> acknowledged --commit--> source

A batch is committed before the loop takes the next one, so a process that ends anywhere in between leaves at most one
batch to be processed again. The stop is seen between batches: the one in hand is finished.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from berth.consuming.broker_messages import CODE_HEADER, ERROR_HEADER, PREDICTED, Message, MessageOutcome
from berth.telemetry.logs import log
from berth.telemetry.payloads.redaction import HIDDEN

_LAG_SECONDS = 1.0


class MessageSource(Protocol):
    """Where messages come from."""

    def take(self, most: int, linger_seconds: float) -> list[Message]:
        """At most so many messages, as come within the time after the first; none where there is none for a while."""

    def commit(self, messages: Sequence[Message]) -> None:
        """Note that these are done. Raises BrokerError."""

    def rewind(self, messages: Sequence[Message]) -> None:
        """Take these again, and what came after them."""

    def read_lag(self) -> int | None:
        """How many messages wait; None where that is not known."""

    def close(self) -> None:
        """Leave the group."""


class MessageSink(Protocol):
    """Where messages go."""

    def send(self, messages: Sequence[Message]) -> None:
        """Return once the broker has them all. Raises BrokerError."""


class Delivery(Protocol):
    """Sends and commits what belongs together."""

    def deliver(self, taken: Sequence[Message], results: Sequence[Message], dead: Sequence[Message]) -> bool:
        """Whether it is done; False where the messages come again. Raises BrokerError."""


class AtLeastOnce:
    """Send, then commit: what is interrupted in between is sent twice, and nothing is lost."""

    def __init__(self, source: MessageSource, sink: MessageSink, dead: MessageSink | None) -> None:
        self._source, self._sink, self._dead = source, sink, dead

    def deliver(self, taken: Sequence[Message], results: Sequence[Message], dead: Sequence[Message]) -> bool:
        """Always True. Raises BrokerError."""
        if results:
            self._sink.send(results)
        if dead and self._dead is not None:
            self._dead.send(dead)
        self._source.commit(taken)
        return True


class MessageModel(Protocol):
    """What predicts."""

    def most_rows(self, messages: Sequence[Message]) -> int | None:
        """How many of such messages the model may have together; None: as many as there are."""

    def answer(self, messages: Sequence[Message]) -> list[MessageOutcome]:
        """What becomes of each message, in their order."""

    def settle(self, messages: Sequence[Message]) -> None:
        """These are committed."""

    def close(self) -> None:
        """The consumer ends."""


class BatchLimits(NamedTuple):
    """A batch has at most so many messages, as come within the time after the first."""

    rows: int
    linger_seconds: float


@dataclass(frozen=True)
class LoopReport:
    """What the loop reports: counts of messages by result, the lag, and each batch with its outcomes and seconds."""

    count: Callable[[str, int], None]
    set_lag: Callable[[int], None]
    keep: Callable[[Sequence[Message], Sequence[MessageOutcome], float], None] = lambda taken, outcomes, seconds: None
    # An error may quote a value that must not be written.
    hides_errors: bool = False


class ConsumerLoop:
    """Runs until `stop` is set. `keeps_dead` says whether a dead topic has the messages without a prediction."""

    def __init__(
        self,
        source: MessageSource,
        delivery: Delivery,
        model: MessageModel,
        limits: BatchLimits,
        report: LoopReport,
        stop: threading.Event,
        *,
        keeps_dead: bool = True,
    ) -> None:
        self._source, self._delivery, self._model = source, delivery, model
        self._limits, self._report, self._stop = limits, report, stop
        self._rows = limits.rows
        self._keeps_dead = keeps_dead
        self._lag_at = 0.0
        self.counts: Counter[str] = Counter()

    def run(self) -> None:
        """Take and process batches; at the stop, leave the group. Raises BrokerError."""
        while not self._stop.is_set():
            if messages := self._take():
                self._process(messages)
            self._read_lag()
        self._source.close()
        self._model.close()

    def _take(self) -> list[Message]:
        """A batch; none where the model may not have so many together, so that fewer come next time."""
        messages = self._source.take(self._rows, self._limits.linger_seconds)
        self._rows = min(self._model.most_rows(messages) or self._limits.rows, self._limits.rows)
        if len(messages) <= self._rows:
            return messages
        self._source.rewind(messages)
        return []

    def _process(self, messages: Sequence[Message]) -> None:
        began = time.monotonic()
        outcomes = self._model.answer(messages)
        seconds = time.monotonic() - began
        results = [outcome.message for outcome in outcomes if outcome.result == PREDICTED]
        dead = [outcome.message for outcome in outcomes if outcome.result != PREDICTED]
        if not self._delivery.deliver(messages, results, dead):
            return
        self._model.settle(messages)
        self._report.keep(messages, outcomes, seconds)
        for result, number in Counter(outcome.result for outcome in outcomes).items():
            self.counts[result] += number
            self._report.count(result, number)
        if not self._keeps_dead:
            for message in dead:
                self._log_skipped(message)

    def _log_skipped(self, message: Message) -> None:
        said = {name: value.decode() for name, value in message.headers if name in (CODE_HEADER, ERROR_HEADER)}
        code, error = said[CODE_HEADER], HIDDEN if self._report.hides_errors else said[ERROR_HEADER]
        log(f"{message.place} has no prediction", level=logging.WARNING, code=code, error=error)

    def _read_lag(self) -> None:
        if (now := time.monotonic()) < self._lag_at:
            return
        self._lag_at = now + _LAG_SECONDS
        if (lag := self._source.read_lag()) is not None:
            self._report.set_lag(lag)
