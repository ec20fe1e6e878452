"""librdkafka's clients: their options, and what their errors mean to a consumer."""

from __future__ import annotations

import importlib.util
import logging
from collections.abc import Mapping
from typing import Any

from berth.consuming.broker_options import Place
from berth.consuming.patience import BrokerPatience
from berth.errors import SettingsError

# Partitions by key as Java's clients do it, so that a key's results stay in one partition whoever else writes there.
# A dead message is as long as the one it was: the broker has the limit.
_PRODUCER = {"partitioner": "murmur2_random", "linger.ms": "5", "message.max.bytes": "1000000000"}
# A broker that is away is waited for, and not given up after five minutes: the loop ends the wait.
_WAIT_FOREVER = {"message.timeout.ms": "0"}
_CONSUMER = {"auto.offset.reset": "earliest"}
# Another member has the partitions by now: it will take the messages again.
_MOVED = ("ILLEGAL_GENERATION", "UNKNOWN_MEMBER_ID", "REBALANCE_IN_PROGRESS", "_ASSIGNMENT_LOST", "STALE_MEMBER_EPOCH")
# The broker, or the group's coordinator, does not respond now.
_AWAY = (
    *("_TRANSPORT", "_ALL_BROKERS_DOWN", "_TIMED_OUT", "_WAIT_COORD", "_RESOLVE", "_TIMED_OUT_QUEUE", "_NO_OFFSET"),
    *("COORDINATOR_NOT_AVAILABLE", "COORDINATOR_LOAD_IN_PROGRESS", "NOT_COORDINATOR", "REQUEST_TIMED_OUT"),
    *("NETWORK_EXCEPTION", "LEADER_NOT_AVAILABLE", "NOT_LEADER_FOR_PARTITION", "BROKER_NOT_AVAILABLE"),
)


def import_kafka(place: Place) -> Any:
    """confluent_kafka. Raises SettingsError where it is not installed."""
    if importlib.util.find_spec("confluent_kafka") is None:
        raise SettingsError(f"{place} needs confluent-kafka, which is not installed: pip install 'berth[kafka]'")
    import confluent_kafka

    return confluent_kafka


def is_away(error: Any) -> bool:
    """Whether a KafkaError means that the broker does not respond now."""
    return bool(error.retriable()) or error.name() in _AWAY


def has_moved(error: Any) -> bool:
    """Whether a KafkaError means that the group has given this consumer's partitions to another one."""
    return error.name() in _MOVED


def _make(kind: Any, kafka: Any, options: dict[str, Any], place: Place, patience: BrokerPatience) -> Any:
    def on_error(error: Any) -> None:
        if error.name() == "_ALL_BROKERS_DOWN":
            patience.note(f"kafka://{place.brokers}", error)

    try:
        return kind({**options, "error_cb": on_error}, logger=logging.getLogger("berth.kafka"))
    except (kafka.KafkaException, ValueError) as error:
        said = error.args[0].str() if isinstance(error, kafka.KafkaException) else error
        raise SettingsError(f"kafka://{place.brokers}: {said}; options are BERTH_KAFKA_… variables") from error


def make_consumer(place: Place, group: str, options: Mapping[str, str], patience: BrokerPatience) -> Any:
    """A member of a group, not subscribed yet. Raises SettingsError."""
    kafka = import_kafka(place)
    fixed = {"bootstrap.servers": place.brokers, "group.id": group, "enable.auto.commit": "false"}
    return _make(kafka.Consumer, kafka, {**_CONSUMER, **options, **fixed}, place, patience)


def make_producer(
    place: Place, options: Mapping[str, str], patience: BrokerPatience, transactional_id: str = ""
) -> Any:
    """A producer whose messages keep their order; with an id, one of transactions. Raises SettingsError."""
    kafka = import_kafka(place)
    fixed: dict[str, Any] = {"bootstrap.servers": place.brokers, "enable.idempotence": "true"}
    fixed["delivery.report.only.error"] = True
    waits = {"transactional.id": transactional_id} if transactional_id else _WAIT_FOREVER
    return _make(kafka.Producer, kafka, {**_PRODUCER, **waits, **options, **fixed}, place, patience)
