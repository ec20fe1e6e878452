"""Addresses of brokers and their options: what they mean, and what is refused without showing a password."""

from __future__ import annotations

import pytest

from berth.consuming.broker_options import kafka_options, parse_dead, parse_place, redis_options, split_host
from berth.errors import SettingsError
from berth.settings import Settings, parse_settings


def test_addresses() -> None:
    kafka = parse_place("kafka://b1:9092,b2:9092/rows")
    assert (kafka.kind, kafka.brokers, kafka.name) == ("kafka", "b1:9092,b2:9092", "rows")
    redis = parse_place("rediss://ann:s%40crt@cache:6380/rows?db=2&maxlen=10")
    assert (redis.kind, redis.scheme, redis.name, redis.database) == ("redis", "rediss", "rows", 2)
    assert (redis.username, redis.password, redis.max_entries) == ("ann", "s@crt", 10)
    assert split_host(redis.brokers) == ("cache", 6380)
    assert split_host("cache") == ("cache", 6379)
    assert str(redis) == "rediss://cache:6380/rows"
    assert redis.key == parse_dead("dead", redis).key
    assert parse_dead("redis://other/dead", redis).brokers == "other"


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("amqp://a/b", "'amqp' is not a broker"),
        ("rows", "is not a broker"),
        ("kafka://a", "must be kafka://HOST/TOPIC"),
        ("redis:///rows", "must be redis://HOST/STREAM"),
        ("redis://a/b/c", "must be redis://HOST/STREAM"),
        ("kafka://me:s3cret@a/rows", "BERTH_KAFKA_… variables"),
        ("kafka://a/rows?x=1", "BERTH_KAFKA_… variables"),
        ("redis://me:s3cret@a/rows?size=1", "unknown parameter 'size'"),
        ("redis://me:s3cret@a/rows?db=one", "db must be a whole number"),
    ],
)
def test_what_is_no_address_is_refused(url: str, words: str) -> None:
    with pytest.raises(SettingsError) as refused:
        parse_place(url)
    assert words in refused.value.message
    assert "s3cret" not in refused.value.message


def test_options_are_variables() -> None:
    environ = {"BERTH_KAFKA_SECURITY_PROTOCOL": "SASL_SSL", "BERTH_REDIS_PASSWORD": "p", "BERTH_PORT": "1"}
    assert kafka_options(environ) == {"security.protocol": "SASL_SSL"}
    assert redis_options(environ) == {"password": "p"}
    assert parse_settings(environ) == Settings(port=1)  # the server's table has none of them


def test_options_that_the_loop_depends_on_are_refused() -> None:
    with pytest.raises(SettingsError, match="BERTH_KAFKA_ENABLE_AUTO_COMMIT cannot be set"):
        kafka_options({"BERTH_KAFKA_ENABLE_AUTO_COMMIT": "true"})
    with pytest.raises(SettingsError, match="BERTH_REDIS_PASWORD is not an option; there are BERTH_REDIS_USERNAME"):
        redis_options({"BERTH_REDIS_PASWORD": "p"})
