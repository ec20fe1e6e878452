"""Many messages, consumers that are killed, poison: nothing is lost. Each test prints what it saw (pytest -s)."""

from __future__ import annotations

import random
import signal
import time
from collections import Counter
from collections.abc import Sequence
from functools import partial
from typing import Any

import pytest

from consuming.brokers import KafkaCluster, RedisProcess
from consuming.conftest import StartConsumer
from live.berths import metric
from live.server import Server, wait_until

pytestmark = [pytest.mark.live, pytest.mark.slow]
ROWS = [b"[5.1, 3.5, 1.4, 0.2]", b"[6.0, 2.9, 4.5, 1.5]", b"[6.7, 3.0, 5.2, 2.3]"]
POISON = [b"[5.1, 3.5", b'["a", 3.5, 1.4, 0.2]', b"[1, 2]", b'{"features": null}']
# A killed member is missed soon, and a new one does not wait long.
QUICK: dict[str, Any] = {
    "kafka_session_timeout_ms": 3000,
    "kafka_heartbeat_interval_ms": 500,
    "kafka_max_poll_interval_ms": 10_000,
}


def _messages(count: int, poison: int = 0) -> list[dict[str, Any]]:
    """Messages with the keys 0 to count - 1; `poison` of them, spread evenly, have no prediction."""
    every = count // poison if poison else count + 1
    return [
        {
            "key": b"%d" % at,
            "value": POISON[at // every % len(POISON)] if at % every == every - 1 else ROWS[at % len(ROWS)],
        }
        for at in range(count)
    ]


def _consumed(servers: Sequence[Server], result: str = "predicted") -> float:
    return sum(metric(server, "berth_consumed_total", result=result) for server in servers)


def _say(what: str, messages: int, began: float) -> None:
    seconds = time.monotonic() - began
    print(f"\n{what}: {messages:,} messages in {seconds:.1f} s, {messages / seconds:,.0f} a second")


def _keys(messages: Sequence[Any]) -> Counter[bytes]:
    return Counter(message.key() for message in messages)


def _wait_for_keys(cluster: KafkaCluster, topics: Sequence[str], keys: int, seconds: float) -> dict[str, list[Any]]:
    """The messages of topics once they have so many keys together."""
    found: dict[str, list[Any]] = {}

    def read() -> bool:
        found.update({topic: cluster.read(topic, 0) for topic in topics})
        return len(set().union(*(_keys(messages) for messages in found.values()))) >= keys

    wait_until(read, f"{keys} keys", seconds)
    return found


def test_kafka_at_least_once_loses_nothing(kafka: KafkaCluster, consume: StartConsumer) -> None:
    """100,000 messages, 1,000 of them poison, 6 partitions, 3 consumers: one is killed, one is stopped."""
    count, poison = 100_000, 1000
    kafka.produce("rows", _messages(count, poison))
    arguments = (f"{kafka.url}/rows", "--to", f"{kafka.url}/scores", "--dead", "dead", "--linger-ms", "20")
    began = time.monotonic()
    servers = [consume(*arguments, "--batch-rows", "500", ready=False, **QUICK) for _ in range(3)]
    wait_until(lambda: all("consuming" in server.log() for server in servers), "the consumers")
    wait_until(lambda: len(kafka.read("scores", 1)) > count // 20, "the first predictions")
    busiest = sorted(servers, key=lambda server: -_consumed([server]))
    busiest[0].signal(signal.SIGKILL)
    busiest[1].signal(signal.SIGTERM)
    assert busiest[1].wait() == 0, busiest[1].log()
    found = _wait_for_keys(kafka, ("scores", "dead"), count, 60)
    _say("Kafka, at least once", count, began)
    scores, dead = _keys(found["scores"]), _keys(found["dead"])
    assert len(scores) == count - poison
    assert len(dead) == poison
    assert not scores.keys() & dead.keys()
    assert {message.value() for message in found["dead"]} == set(POISON)
    print(f"repeated after the kill: {sum(scores.values()) - len(scores):,}")


def test_kafka_exactly_once_in_an_undisturbed_run_and_after_a_clean_restart(
    kafka: KafkaCluster, consume: StartConsumer
) -> None:
    count = 20_000
    kafka.produce("rows", _messages(count, 100))
    places = (f"{kafka.url}/rows", "--to", f"{kafka.url}/scores", "--dead", "dead")
    arguments = (*places, "--guarantee", "exactly-once", "--batch-rows", "500")
    first = consume(*arguments, **QUICK)
    wait_until(lambda: _consumed([first]) >= count // 4, "a part of the messages")
    first.signal(signal.SIGTERM)
    assert first.wait() == 0, first.log()
    consume(*arguments, **QUICK)
    found = _wait_for_keys(kafka, ("scores", "dead"), count, 60)
    keys = _keys([*found["scores"], *found["dead"]])
    assert (len(keys), max(keys.values())) == (count, 1)


def test_kafka_exactly_once_loses_nothing_when_it_is_killed(kafka: KafkaCluster, consume: StartConsumer) -> None:
    count = 20_000
    kafka.produce("rows", _messages(count))
    places = (f"{kafka.url}/rows", "--to", f"{kafka.url}/scores", "--dead", "dead")
    arguments = (*places, "--guarantee", "exactly-once", "--batch-rows", "200")
    first = consume(*arguments, **QUICK)
    wait_until(lambda: len(kafka.read("scores", 1)) > count // 10, "a part of the messages")
    first.signal(signal.SIGKILL)
    consume(*arguments, **QUICK)
    _wait_for_keys(kafka, ("scores",), count, 60)


def _has_grown(redis: RedisProcess, before: int) -> bool:
    return int(redis.client.xlen("bar-scores")) > before


def test_redis_loses_nothing(redis: RedisProcess, consume: StartConsumer) -> None:
    """20,000 entries, 3 consumers, 4 kills at random times, each followed by a new consumer."""
    count, choices = 20_000, random.Random(7)
    pipeline = redis.client.pipeline(transaction=False)
    for message in _messages(count):
        pipeline.xadd("bar-rows", message)
    pipeline.execute()
    places = (f"{redis.url}/bar-rows", "--to", f"{redis.url}/bar-scores")

    def start() -> Server:
        return consume(*places, "--batch-rows", "50", "--claim-seconds", "2", ready=False)

    began = time.monotonic()
    servers = [start() for _ in range(3)]
    for _ in range(4):
        done = redis.client.xlen("bar-scores")
        wait_until(partial(_has_grown, redis, done), "predictions", 60)
        time.sleep(choices.random() * 0.3)
        servers.pop(choices.randrange(len(servers))).signal(signal.SIGKILL)
        servers.append(start())

    def keys() -> set[bytes]:
        return {fields[b"key"] for _, fields in redis.entries("bar-scores")}

    wait_until(lambda: redis.client.xlen("bar-scores") >= count and len(keys()) == count, "every key", 60)
    _say("Redis, 4 kills", count, began)
    assert all(fields[b"berth-model"] == b"iris@1" for _, fields in redis.entries("bar-scores"))
