"""`berth consume kafka://…` against librdkafka's mock cluster."""

from __future__ import annotations

import signal
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from berth.cli.main import berth
from berth.consuming.broker_options import parse_place
from berth.consuming.kafka_client import make_consumer
from berth.consuming.patience import BrokerPatience
from berth.errors import SettingsError
from consuming.brokers import KafkaCluster
from consuming.conftest import StartConsumer
from live.berths import metric
from live.server import wait_until

pytest.importorskip("confluent_kafka", reason="confluent-kafka is not installed")
ROW = b"[5.1, 3.5, 1.4, 0.2]"


@pytest.mark.live
def test_messages_become_predictions_and_an_absent_broker_is_waited_for(
    kafka: KafkaCluster, consume: StartConsumer
) -> None:
    kept: dict[str, Any] = {"timestamp": 1_700_000_000_123, "headers": [("trace", b"t1"), ("trace", b"t2")]}
    kafka.produce("rows", [{"value": ROW, "key": b"k1", **kept}, {"value": b"[1", "key": b"k2", **kept}])
    server = consume(f"{kafka.url}/rows", "--to", f"{kafka.url}/scores", "--dead", "dead")
    (score,), (dead,) = kafka.read("scores", 1), kafka.read("dead", 1)
    assert (score.key(), score.value(), score.timestamp()[1]) == (b"k1", b'{"prediction":0}', kept["timestamp"])
    assert score.headers() == [*kept["headers"], ("berth-model", b"iris@1")]
    assert (dead.key(), dead.value(), dead.timestamp()[1]) == (b"k2", b"[1", kept["timestamp"])
    headers = dict(dead.headers())
    assert (headers["berth-code"], headers["berth-model"]) == (b"malformed_json", b"iris@1")
    assert headers["berth-source"].startswith(b"rows/")
    wait_until(lambda: metric(server, "berth_consumed_total") == 2, "the counts")
    kafka.set_down()
    wait_until(lambda: "waiting for kafka://" in server.log(), f"the warning; log:\n{server.log()}", 30)
    kafka.set_up()
    kafka.produce("rows", [{"value": ROW, "key": b"%d" % number} for number in range(50)])
    assert len(kafka.read("scores", 51)) == 51
    server.signal(signal.SIGTERM)
    assert server.wait() == 0, server.log()


@pytest.mark.live
@pytest.mark.slow
def test_a_consumer_that_was_paused_for_longer_than_its_session_goes_on(
    kafka: KafkaCluster, consume: StartConsumer
) -> None:
    kafka.produce("rows", [{"value": ROW, "key": b"%d" % number} for number in range(4000)])
    # The mock cluster, unlike a broker, ends the session of a member that waits to join, and never responds to it:
    # librdkafka repeats the request after the last of these.
    session = {"session_timeout_ms": 3000, "heartbeat_interval_ms": 500, "max_poll_interval_ms": 6000}
    options: dict[str, Any] = {f"kafka_{name}": value for name, value in session.items()}
    places = (f"{kafka.url}/rows", "--to", f"{kafka.url}/scores", "--batch-rows", "20")
    server = consume(*places, *ONCE, **options)
    wait_until(lambda: metric(server, "berth_consumed_total") > 0, "the first batch")
    server.signal(signal.SIGSTOP)
    time.sleep(4)
    server.signal(signal.SIGCONT)
    wait_until(lambda: len({message.key() for message in kafka.read("scores", 0)}) == 4000, "every key")
    assert "SESSTMOUT" in server.log()


SAME, OTHER = ("kafka://b/rows", "--to", "kafka://b/x"), ("kafka://b/rows", "--to", "kafka://c/x")
ONCE = ("--guarantee", "exactly-once")


@pytest.mark.parametrize(
    ("arguments", "settings", "words"),
    [
        ((*SAME, *ONCE, "--dead", "kafka://c/d"), {}, "kafka://c/d is not on that of kafka://b/rows"),
        ((*OTHER, *ONCE), {}, "kafka://c/x is not"),
        (("redis://b/rows", "--to", "redis://b/x", *ONCE), {}, "a transaction of one Kafka cluster"),
        (SAME, {"BERTH_KAFKA_GROUP_ID": "g"}, "BERTH_KAFKA_GROUP_ID cannot be set"),
        (("rows", "--to", "kafka://b/x"), {}, "is not a broker"),
    ],
)
def test_wrong_usage_is_refused_before_anything_starts(
    store: Path, arguments: tuple[str, ...], settings: dict[str, str], words: str
) -> None:
    pytest.importorskip("redis", reason="redis-py is not installed")
    environ = {"BERTH_MODEL_STORE": str(store), "BERTH_MODELS": "iris@1", **settings}
    ran = CliRunner(env=environ).invoke(berth, ["consume", *arguments])
    assert isinstance(ran.exception, SettingsError)
    assert words in ran.exception.message


def test_an_option_that_librdkafka_does_not_know_is_refused() -> None:
    patience = BrokerPatience(threading.Event(), 1)
    with pytest.raises(SettingsError, match=r"security\.protokol.*BERTH_KAFKA_"):
        make_consumer(parse_place(SAME[0]), "g", {"security.protokol": "ssl"}, patience)
