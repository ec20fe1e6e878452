"""Kafka topics: a member of a group reads one, others get results and dead messages, and transactions join both.

librdkafka serves the group's changes while `take` waits, on the loop's thread: a partition is given away between two
batches, when the batch is committed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from berth.consuming.broker_messages import Message
from berth.consuming.broker_options import Place
from berth.consuming.kafka_client import has_moved, import_kafka, is_away, make_consumer
from berth.consuming.patience import BrokerPatience
from berth.errors import BrokerError
from berth.telemetry.logs import log

_WAIT_SECONDS = 0.5
_FLUSH_SECONDS = 0.5
_TRANSACTION_SECONDS = 30.0


def _decode(message: Any) -> Message:
    kind, milliseconds = message.timestamp()
    headers = message.headers()
    return Message(
        message.value(),
        message.key(),
        milliseconds if kind else None,
        tuple((name, value or b"") for name, value in headers) if headers else (),
        (message.topic(), message.partition(), message.offset()),
    )


def _ends(messages: Sequence[Message]) -> dict[tuple[str, int], int]:
    """The offset after the last message of each partition."""
    ends: dict[tuple[str, int], int] = {}
    for topic, partition, offset in (message.position for message in messages):
        ends[topic, partition] = max(offset + 1, ends.get((topic, partition), 0))
    return ends


def _starts(messages: Sequence[Message]) -> dict[tuple[str, int], int]:
    """The offset of the first message of each partition."""
    starts: dict[tuple[str, int], int] = {}
    for topic, partition, offset in (message.position for message in messages):
        starts[topic, partition] = min(offset, starts.get((topic, partition), offset))
    return starts


class KafkaSource:
    """One member of a group that reads a topic, from its first message where the group has read nothing yet."""

    def __init__(self, place: Place, group: str, options: Mapping[str, str], patience: BrokerPatience) -> None:
        self._kafka, self._patience = import_kafka(place), patience
        self.name = f"kafka://{place.brokers}"
        self.consumer = make_consumer(place, group, options, patience)
        self.consumer.subscribe([place.name])
        self._done: dict[tuple[str, int], int] = {}

    def take(self, most: int, linger_seconds: float) -> list[Message]:
        """See MessageSource. Raises BrokerError."""
        found = self.consumer.consume(1, _WAIT_SECONDS)
        if found and most > 1:
            found += self.consumer.consume(most - 1, linger_seconds)
        return [_decode(message) for message in found if not self._is_error(message.error())]

    def _is_error(self, error: Any) -> bool:
        """Whether a message is none, but an error. Raises BrokerError for one that does not pass."""
        if error is None:
            self._patience.forget(self.name)
            return False
        if error.fatal():
            raise BrokerError(f"{self.name}: {error.str()}")
        self._patience.note(self.name, error.str())
        return True

    def commit(self, messages: Sequence[Message]) -> None:
        """See MessageSource. Raises BrokerError."""
        offsets = self.list_ends(messages)
        exception = self._kafka.KafkaException

        def commit() -> None:
            try:
                self.consumer.commit(offsets=offsets, asynchronous=False)
            except exception as error:
                if is_away(error.args[0]):
                    raise ConnectionError(error.args[0].str()) from error
                if not has_moved(error.args[0]):
                    raise BrokerError(f"{self.name} refuses a commit: {error.args[0].str()}") from error
                log("partitions have moved to another consumer, which repeats this batch", error=error.args[0].str())

        self._patience.attempt(self.name, commit, (ConnectionError,))

    def list_ends(self, messages: Sequence[Message]) -> list[Any]:
        """What is committed for messages."""
        return [self._kafka.TopicPartition(*place, end) for place, end in _ends(messages).items()]

    def rewind(self, messages: Sequence[Message]) -> None:
        """See MessageSource: of the partitions that this consumer still has."""
        held = {(each.topic, each.partition) for each in self.consumer.assignment()}
        for place, start in _starts(messages).items():
            if place in held:
                self.consumer.seek(self._kafka.TopicPartition(*place, start))

    def read_lag(self) -> int | None:
        """Messages behind the ends of this member's partitions, as far as their ends are known."""
        total = 0
        for each in self.consumer.position(self.consumer.assignment()):
            low, high = self.consumer.get_watermark_offsets(each, cached=True)
            total += max(high - max(each.offset, low), 0)
        return total

    def note_done(self, messages: Sequence[Message]) -> None:
        """A transaction has committed these."""
        self._done.update(_ends(messages))

    def close(self) -> None:
        """Leave the group.

        What transactions have committed is committed once more without one. A broker has it by then; librdkafka's mock
        cluster, on which the tests run, forgets the offsets of transactions.
        """
        held = {(each.topic, each.partition) for each in self.consumer.assignment()}
        ends = [self._kafka.TopicPartition(*place, end) for place, end in self._done.items() if place in held]
        try:
            if ends:
                self.consumer.commit(offsets=ends, asynchronous=False)
        except self._kafka.KafkaException as error:
            log("the last offsets were not committed again", error=error.args[0].str())
        self.consumer.close()


class KafkaSink:
    """A topic that gets messages; the partition is chosen by the key."""

    def __init__(self, place: Place, producer: Any, patience: BrokerPatience) -> None:
        self._kafka, self._topic = import_kafka(place), place.name
        self._producer, self._patience = producer, patience
        self._name = f"kafka://{place.brokers}"
        self._failed: list[Any] = []

    def _note(self, error: Any, message: Any) -> None:
        del message
        if error is not None:
            self._failed.append(error)

    def send(self, messages: Sequence[Message]) -> None:
        """See MessageSink. Raises BrokerError."""
        self.begin(messages)
        while left := self._producer.flush(_FLUSH_SECONDS):
            self._patience.check(self._name, f"{left} messages are not acknowledged")
        self._patience.forget(self._name)
        self.check()

    def begin(self, messages: Sequence[Message]) -> None:
        """Hand messages to the producer, which sends them in the background. Raises BrokerError."""
        for message in messages:
            while not self._produce(message):
                self._producer.poll(_FLUSH_SECONDS)
                self._patience.check(self._name, "the producer's queue is full")

    def check(self) -> None:
        """Raise BrokerError where the broker has refused a message since the last check."""
        if self._failed:
            error, self._failed = self._failed[0], []
            raise BrokerError(f"{self._name} refuses a message for {self._topic}: {error.str()}")

    def _produce(self, message: Message) -> bool:
        """Whether the queue has room for a message. Raises BrokerError."""
        more: dict[str, Any] = {} if message.timestamp_ms is None else {"timestamp": message.timestamp_ms}
        headers = list(message.headers)
        try:
            self._producer.produce(
                self._topic, message.value, message.key, on_delivery=self._note, headers=headers, **more
            )
        except BufferError:
            return False
        except self._kafka.KafkaException as error:
            raise BrokerError(f"{self._name} refuses a message for {self._topic}: {error.args[0].str()}") from error
        return True


class KafkaTransactions:
    """Sends and commits in one transaction: readers of committed messages see each batch whole, and once."""

    def __init__(
        self, source: KafkaSource, producer: Any, sink: KafkaSink, dead: KafkaSink | None, patience: BrokerPatience
    ) -> None:
        self._source, self._producer, self._patience = source, producer, patience
        self._sink, self._dead = sink, dead
        self._begun = False

    def deliver(self, taken: Sequence[Message], results: Sequence[Message], dead: Sequence[Message]) -> bool:
        """See Delivery. Raises BrokerError."""
        if not self._begun:
            self._repeat(lambda: self._producer.init_transactions(_TRANSACTION_SECONDS))
            self._begun = True
        from confluent_kafka import KafkaException

        try:
            self._run(taken, results, dead)
        except KafkaException as error:
            found = error.args[0]
            if not found.txn_requires_abort():
                raise BrokerError(f"{self._source.name} ends the transactions: {found.str()}") from error
            log("a transaction is given up; its messages come again", error=found.str())
            self._repeat(lambda: self._producer.abort_transaction(_TRANSACTION_SECONDS))
            self._source.rewind(taken)
            return False
        self._source.note_done(taken)
        return True

    def _run(self, taken: Sequence[Message], results: Sequence[Message], dead: Sequence[Message]) -> None:
        self._producer.begin_transaction()
        self._sink.begin(results)
        if self._dead is not None:
            self._dead.begin(dead)
        offsets, group = self._source.list_ends(taken), self._source.consumer.consumer_group_metadata()
        self._repeat(lambda: self._producer.send_offsets_to_transaction(offsets, group, _TRANSACTION_SECONDS))
        self._repeat(lambda: self._producer.commit_transaction(_TRANSACTION_SECONDS))

    def _repeat(self, work: Callable[[], object]) -> None:
        """Do what librdkafka says may be tried again. Raises KafkaException, BrokerError."""
        from confluent_kafka import KafkaException

        def attempt() -> None:
            try:
                work()
            except KafkaException as error:
                if error.args[0].retriable():
                    raise ConnectionError(error.args[0].str()) from error
                raise

        self._patience.attempt(self._source.name, attempt, (ConnectionError,))
