"""Real brokers for tests: redis-server as a child process, and librdkafka's mock cluster in this process."""

from __future__ import annotations

import ctypes
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from live.server import HOST, free_port, wait_until

# librdkafka's numbers.
_PRODUCER = 0


class RedisProcess:
    """A redis-server on a free port; `kill` and `start` are the broker going away and coming back."""

    def __init__(self, folder: Path, host: str = HOST) -> None:
        if (program := shutil.which("redis-server")) is None:
            pytest.skip("redis-server is not on PATH")
        redis = pytest.importorskip("redis", reason="redis-py is not installed")
        self.port = free_port()
        self.host = host
        self._command = [program, "--port", str(self.port), "--bind", host, "--dir", str(folder)]
        self._command += ["--appendonly", "yes", "--appendfsync", "no", "--save", ""]
        self._command += ["--protected-mode", "no"]
        self._process: subprocess.Popen[bytes] | None = None
        self.client: Any = redis.Redis(host=host, port=self.port, protocol=2)
        self.start()

    @property
    def url(self) -> str:
        """Its address, without a stream."""
        return f"redis://{self.host}:{self.port}"

    def _responds(self) -> bool:
        import redis

        try:
            return bool(self.client.ping())
        except (redis.ConnectionError, redis.BusyLoadingError):
            return False

    def start(self) -> None:
        """Start it, with what it had written."""
        self._process = subprocess.Popen(self._command, stdout=subprocess.DEVNULL)
        wait_until(self._responds, "redis-server")

    def kill(self) -> None:
        """End it at once."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def close(self) -> None:
        """End it for good."""
        self.client.close()
        self.kill()

    def entries(self, stream: str) -> list[tuple[bytes, Mapping[bytes, bytes]]]:
        """All of a stream."""
        found: list[tuple[bytes, Mapping[bytes, bytes]]] = self.client.xrange(stream)
        return found


def _library() -> Any:
    """The librdkafka that confluent-kafka's wheel brings."""
    found = find_spec("confluent_kafka")
    if found is None or found.origin is None:
        pytest.skip("confluent-kafka is not installed")
    files = sorted(Path(found.origin).parents[1].glob("confluent_kafka.libs/librdkafka-*.so*"))
    if not files:
        pytest.skip("confluent-kafka's wheel brings no librdkafka of its own here")
    library = ctypes.CDLL(str(files[0]))
    handle, text, number = ctypes.c_void_p, ctypes.c_char_p, ctypes.c_int
    for name, result, arguments in (
        ("rd_kafka_new", handle, [number, handle, text, ctypes.c_size_t]),
        ("rd_kafka_destroy", None, [handle]),
        ("rd_kafka_mock_cluster_new", handle, [handle, number]),
        ("rd_kafka_mock_cluster_destroy", None, [handle]),
        ("rd_kafka_mock_cluster_bootstraps", text, [handle]),
        ("rd_kafka_mock_topic_create", number, [handle, text, number, number]),
        ("rd_kafka_mock_broker_set_down", number, [handle, ctypes.c_int32]),
        ("rd_kafka_mock_broker_set_up", number, [handle, ctypes.c_int32]),
    ):
        function = getattr(library, name)
        function.restype, function.argtypes = result, arguments
    return library


class KafkaCluster:
    """A mock cluster of librdkafka's (rdkafka_mock.h): brokers on ports of this machine, which any process may use.

    Unlike a real one it shows aborted transactions to readers, and forgets offsets that a transaction committed.
    """

    def __init__(self, topics: Mapping[str, int], brokers: int = 1) -> None:
        self._library = _library()
        self._brokers = range(1, brokers + 1)
        self._client = self._library.rd_kafka_new(_PRODUCER, None, None, 0)
        self._cluster = self._library.rd_kafka_mock_cluster_new(self._client, brokers)
        for topic, partitions in topics.items():
            self._library.rd_kafka_mock_topic_create(self._cluster, topic.encode(), partitions, 1)
        self.servers = self._library.rd_kafka_mock_cluster_bootstraps(self._cluster).decode()

    @property
    def url(self) -> str:
        """Its address, without a topic."""
        return f"kafka://{self.servers}"

    def set_down(self) -> None:
        """All brokers go away."""
        for broker in self._brokers:
            self._library.rd_kafka_mock_broker_set_down(self._cluster, broker)

    def set_up(self) -> None:
        """They come back, with what they had."""
        for broker in self._brokers:
            self._library.rd_kafka_mock_broker_set_up(self._cluster, broker)

    def close(self) -> None:
        """End it."""
        self._library.rd_kafka_mock_cluster_destroy(self._cluster)
        self._library.rd_kafka_destroy(self._client)

    def produce(self, topic: str, messages: Sequence[Mapping[str, Any]]) -> None:
        """Write messages, each with the keywords of Producer.produce."""
        import confluent_kafka as kafka

        producer = kafka.Producer({"bootstrap.servers": self.servers, "linger.ms": 20, "log_level": 0})
        for message in messages:
            while True:
                try:
                    producer.produce(topic, **message)
                    break
                except BufferError:
                    producer.poll(0.1)
        assert producer.flush(20) == 0

    def read(self, topic: str, enough: int, seconds: float = 20.0, isolation: str = "read_committed") -> list[Any]:
        """The messages of a topic from its beginning: at least `enough`, and what comes with them."""
        import confluent_kafka as kafka

        options = {"bootstrap.servers": self.servers, "group.id": "reader", "enable.auto.commit": False}
        consumer = kafka.Consumer({**options, "isolation.level": isolation, "log_level": 0})
        try:
            partitions = consumer.list_topics(topic, 10).topics[topic].partitions
            consumer.assign([kafka.TopicPartition(topic, number, kafka.OFFSET_BEGINNING) for number in partitions])
            found: list[Any] = []

            def read() -> bool:
                found.extend(message for message in consumer.consume(10_000, 0.2) if message.error() is None)
                return len(found) >= enough

            wait_until(read, f"{enough} messages in {topic}; {len(found)} came", seconds)
            while more := consumer.consume(10_000, 0.5):
                found.extend(message for message in more if message.error() is None)
            return found
        finally:
            consumer.close()
