"""`berth consume redis://…` against a real redis-server."""

from __future__ import annotations

import json
import signal
from collections.abc import Mapping

import pytest

from consuming.brokers import RedisProcess
from consuming.conftest import StartConsumer
from live.berths import ask, metric
from live.server import wait_until

pytestmark = pytest.mark.live
ROW = b"[5.1, 3.5, 1.4, 0.2]"


def _results(redis: RedisProcess, stream: str, number: int) -> list[Mapping[bytes, bytes]]:
    wait_until(lambda: redis.client.xlen(stream) >= number, f"{number} entries in {stream}")
    return [fields for _, fields in redis.entries(stream)]


def test_entries_become_predictions(redis: RedisProcess, consume: StartConsumer) -> None:
    entry = redis.client.xadd("a-rows", {"value": ROW, "key": "k1", "customer": "7"})
    redis.client.xadd("a-rows", {"value": json.dumps({"features": [[6.7, 3.0, 5.2, 2.3]] * 2})})
    bad = {"value": b"[1, 2", "key": "k3", "customer": "8"}
    redis.client.xadd("a-rows", bad)
    redis.client.xadd("a-rows", {"no-value": b"1"})
    server = consume(f"{redis.url}/a-rows", "--to", f"{redis.url}/a-scores", "--dead", "a-dead")
    row, body = _results(redis, "a-scores", 2)
    stamp = entry.partition(b"-")[0]
    assert row == {b"value": b'{"prediction":0}', b"key": b"k1", b"customer": b"7", b"berth-model": b"iris@1",
                   b"timestamp": stamp}  # fmt: skip
    assert json.loads(body[b"value"]) == {"prediction": [2, 2], "model": "iris", "version": "1"}
    malformed, empty = _results(redis, "a-dead", 2)
    assert malformed.items() >= {b"value": b"[1, 2", b"key": b"k3", b"customer": b"8", b"berth-model": b"iris@1",
                                 b"berth-code": b"malformed_json"}.items()  # fmt: skip
    assert malformed[b"berth-error"].startswith(b"the message is not JSON")
    assert malformed[b"berth-source"].startswith(b"a-rows/")
    assert (empty[b"berth-code"], empty[b"no-value"]) == (b"invalid_input", b"1")
    wait_until(lambda: metric(server, "berth_consumed_total") == 4, "the counts")
    assert metric(server, "berth_consumed_total", result="predicted", model="iris", version="1") == 2
    assert metric(server, "berth_consumed_total", result="refused") == 2
    assert metric(server, "berth_requests_total", protocol="message", status="200") >= 1
    assert ask(server, "GET", "/livez")[0] == 200
    assert ask(server, "GET", "/predict")[0] == 404
    assert redis.client.xpending("a-rows", "berth-iris")["pending"] == 0


@pytest.mark.slow
def test_sigterm_leaves_the_group_and_another_consumer_continues(redis: RedisProcess, consume: StartConsumer) -> None:
    arguments = (f"{redis.url}/b-rows", "--to", f"{redis.url}/b-scores", "--group", "b")
    for _ in range(10):
        redis.client.xadd("b-rows", {"value": ROW})
    server = consume(*arguments)
    _results(redis, "b-scores", 10)
    server.signal(signal.SIGTERM)
    assert server.wait() == 0, server.log()
    assert redis.client.xinfo_consumers("b-rows", "b") == []
    redis.client.xadd("b-rows", {"value": ROW})
    consume(*arguments)
    assert len(_results(redis, "b-scores", 11)) == 11


@pytest.mark.slow
def test_a_server_that_is_away_is_waited_for(redis: RedisProcess, consume: StartConsumer) -> None:
    arguments = (f"{redis.url}/c-rows", "--to", f"{redis.url}/c-scores", "--group", "c")
    server = consume(*arguments, graceful_timeout_seconds=1)
    redis.client.xadd("c-rows", {"value": ROW})
    _results(redis, "c-scores", 1)
    redis.kill()
    wait_until(lambda: "waiting for redis://" in server.log(), "the warning")
    redis.start()
    redis.client.xadd("c-rows", {"value": ROW})
    assert len(_results(redis, "c-scores", 2)) == 2
    wait_until(lambda: "responds again" in server.log(), "the end of the warning")
    server.signal(signal.SIGTERM)
    assert server.wait() == 0, server.log()


@pytest.mark.slow
def test_entries_of_a_dead_consumer_are_claimed(redis: RedisProcess, consume: StartConsumer) -> None:
    redis.client.xgroup_create("d-rows", "d", id="0", mkstream=True)
    for _ in range(5):
        redis.client.xadd("d-rows", {"value": ROW})
    assert redis.client.xreadgroup("d", "dead", {"d-rows": ">"}, count=5)
    consume(f"{redis.url}/d-rows", "--to", f"{redis.url}/d-scores", "--group", "d", "--claim-seconds", "0.5")
    assert len(_results(redis, "d-scores", 5)) == 5
    wait_until(lambda: redis.client.xpending("d-rows", "d")["pending"] == 0, "the acknowledgements")
