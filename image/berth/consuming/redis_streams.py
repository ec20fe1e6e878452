"""Redis streams: a consumer group reads one, and others get results and dead messages.

An entry is a message by its fields: `value` is the row or body, `key` and all others are kept. Entries that a consumer
was given and did not acknowledge stay with its name. It gets them again when it starts under that name; when they have
lain for `claim_seconds`, another consumer of the group claims them (XAUTOCLAIM, Redis 6.2 or newer).
"""

from __future__ import annotations

import importlib.util
import logging
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeVar

from berth.consuming.broker_messages import Message
from berth.consuming.broker_options import Place, split_host
from berth.consuming.patience import BrokerPatience
from berth.errors import BrokerError, SettingsError
from berth.telemetry.logs import log

Result = TypeVar("Result")
_VALUE, _KEY, _TIMESTAMP = b"value", b"key", b"timestamp"
_WAIT_MS = 500
_REPLY_SECONDS = 30.0


def import_redis(place: Place) -> Any:
    """redis-py. Raises SettingsError where it is not installed."""
    if importlib.util.find_spec("redis") is None:
        raise SettingsError(f"{place} needs redis-py, which is not installed: pip install 'berth[redis]'")
    import redis

    return redis


def make_client(place: Place, options: Mapping[str, str]) -> Any:
    """A client of a place's server, not connected yet. Raises SettingsError."""
    from redis.backoff import NoBackoff
    from redis.retry import Retry

    host, port = split_host(place.brokers)
    given: dict[str, Any] = {"username": place.username, "password": place.password, **options}
    given = {name: value for name, value in given.items() if value is not None}
    secured = {"ssl": True} if place.scheme == "rediss" else {}
    if not secured:
        given = {name: value for name, value in given.items() if not name.startswith("ssl_")}
    return import_redis(place).Redis(
        host=host,
        port=port,
        db=place.database,
        protocol=2,
        socket_timeout=_REPLY_SECONDS,
        socket_connect_timeout=_REPLY_SECONDS,
        retry=Retry(NoBackoff(), 0),  # `BrokerPatience` repeats
        **secured,
        **given,
    )


class RedisServer:
    """A server that is waited for while it is away."""

    def __init__(self, place: Place, options: Mapping[str, str], patience: BrokerPatience) -> None:
        self.client = make_client(place, options)
        self.name = f"{place.scheme}://{place.brokers}"
        self._patience = patience

    def ask(self, work: Callable[[], Result]) -> Result:
        """What `work` returns, at last. Raises BrokerError for what the server refuses, such as a password."""
        return self._patience.attempt(self.name, lambda: self._run(work), (ConnectionError,))

    def ask_once(self, work: Callable[[], Result], otherwise: Result) -> Result:
        """The same, but `otherwise` while the server is away."""
        return self._patience.try_once(self.name, lambda: self._run(work), (ConnectionError,), otherwise)

    def _run(self, work: Callable[[], Result]) -> Result:
        """What `work` returns. Raises BrokerError, ConnectionError where the server is away."""
        from redis import exceptions as redis

        try:
            return work()
        except (redis.AuthenticationError, redis.AuthorizationError) as error:
            raise BrokerError(f"{self.name} refuses the consumer: {error}") from error
        except (redis.ConnectionError, redis.TimeoutError, redis.ReadOnlyError, redis.TryAgainError) as error:
            raise ConnectionError(str(error)) from error
        except redis.RedisError as error:
            raise BrokerError(f"{self.name} refuses a command: {error}") from error


def _decode_entry(stream: str, entry: bytes, fields: Mapping[bytes, bytes]) -> Message:
    headers = tuple(
        (name.decode("utf-8", "surrogateescape"), value) for name, value in fields.items() if name not in (_VALUE, _KEY)
    )
    milliseconds = int(entry.partition(b"-")[0])
    return Message(fields.get(_VALUE), fields.get(_KEY), milliseconds, headers, (stream, entry.decode()))


def _encode_entry(message: Message) -> dict[bytes, bytes]:
    fields = {name.encode("utf-8", "surrogateescape"): value for name, value in message.headers}
    if message.timestamp_ms is not None:
        fields.setdefault(_TIMESTAMP, str(message.timestamp_ms).encode())
    if message.key is not None:
        fields[_KEY] = message.key
    if message.value is not None:
        fields[_VALUE] = message.value
    return fields


class RedisSource:
    """One consumer of a group of a stream, which begins with the stream's first entry."""

    def __init__(self, server: RedisServer, stream: str, group: str, consumer: str, claim_seconds: float) -> None:
        self._server, self._stream, self._group, self._consumer = server, stream, group, consumer
        self._claim_seconds = claim_seconds
        self._claim_at, self._cursor = 0.0, b"0-0"
        # Entries that this name was given and did not acknowledge: at the start, and after a lost connection.
        self._has_own = True

    def _make_group(self) -> None:
        from redis.exceptions import ResponseError

        try:
            self._server.client.xgroup_create(self._stream, self._group, id="0", mkstream=True)
        except ResponseError as error:
            if "BUSYGROUP" not in str(error):
                raise
        self._has_own = True

    def take(self, most: int, linger_seconds: float) -> list[Message]:
        """See MessageSource. Raises BrokerError."""
        return self._server.ask_once(lambda: self._take(most, linger_seconds), [])

    def _take(self, most: int, linger_seconds: float) -> list[Message]:
        from redis.exceptions import RedisError

        try:
            return self._take_own(most) or self._claim(most) or self._take_new(most, linger_seconds)
        except RedisError as error:
            self._has_own = True  # the server may have sent what never arrived
            if "NOGROUP" not in str(error):
                raise
            self._make_group()  # the first time, or the stream was removed
            return []

    def _take_own(self, most: int) -> list[Message]:
        if not self._has_own:
            return []
        found = self._read("0", most, None)
        self._has_own = bool(found)
        return found

    def _claim(self, most: int) -> list[Message]:
        """What other consumers, probably dead ones, have left; looked for from time to time."""
        if time.monotonic() < self._claim_at:
            return []
        idle_ms = int(self._claim_seconds * 1000)
        reply = self._server.client.xautoclaim(
            self._stream, self._group, self._consumer, idle_ms, self._cursor, count=most
        )
        self._cursor, entries = reply[0], reply[1]
        if self._cursor == b"0-0":
            self._claim_at = time.monotonic() + self._claim_seconds / 2
        return self._decode(entries)

    def _take_new(self, most: int, linger_seconds: float) -> list[Message]:
        found = self._read(">", most, _WAIT_MS)
        until = time.monotonic() + linger_seconds
        while found and len(found) < most and (left_ms := int((until - time.monotonic()) * 1000)) > 0:
            found += self._read(">", most - len(found), left_ms)
        return found

    def _read(self, start: str, most: int, block_ms: int | None) -> list[Message]:
        streams = {self._stream: start}
        reply = self._server.client.xreadgroup(self._group, self._consumer, streams, count=most, block=block_ms)
        return self._decode(reply[0][1]) if reply else []

    def _decode(self, entries: Iterable[tuple[bytes | None, Mapping[bytes, bytes] | None]]) -> list[Message]:
        """The messages of entries; one that was deleted meanwhile is acknowledged, and is none."""
        found = []
        for entry, fields in entries:
            if entry is not None and fields:
                found.append(_decode_entry(self._stream, entry, fields))
            elif entry is not None:
                self._server.client.xack(self._stream, self._group, entry)
        return found

    def commit(self, messages: Sequence[Message]) -> None:
        """See MessageSource. Raises BrokerError."""
        entries = [message.position[1] for message in messages]
        self._server.ask(lambda: self._server.client.xack(self._stream, self._group, *entries))

    def rewind(self, messages: Sequence[Message]) -> None:
        """See MessageSource: what this name was given and did not acknowledge comes first."""
        del messages
        self._has_own = True

    def read_lag(self) -> int | None:
        """Entries that are not delivered yet (Redis 7 counts them), and those that are not acknowledged."""
        groups: list[dict[str, Any]] = []
        try:
            groups = self._server.ask_once(lambda: self._server.client.xinfo_groups(self._stream), groups)
        except BrokerError:  # the stream was removed
            return None
        own = next((group for group in groups if group["name"] == self._group.encode()), None)
        if own is None or own.get("lag") is None:
            return None
        return int(own["lag"]) + int(own["pending"])

    def close(self) -> None:
        """Remove this consumer from the group, unless that would lose what it was given."""
        client, names = self._server.client, (self._stream, self._group)

        def leave() -> None:
            if not client.xpending_range(*names, "-", "+", 1, self._consumer):
                client.xgroup_delconsumer(*names, self._consumer)

        try:
            self._server.ask_once(leave, None)
        except BrokerError as error:  # everything is committed: the name alone remains
            log("the consumer could not leave its group", level=logging.WARNING, error=error.message)


class RedisSink:
    """A stream that gets messages, a batch as one transaction; with `max_entries` it is trimmed to about so many."""

    def __init__(self, server: RedisServer, stream: str, max_entries: int | None) -> None:
        self._server, self._stream, self._max_entries = server, stream, max_entries

    def send(self, messages: Sequence[Message]) -> None:
        """See MessageSink. Raises BrokerError."""

        def send() -> None:
            pipeline = self._server.client.pipeline(transaction=True)
            for message in messages:
                pipeline.xadd(self._stream, _encode_entry(message), maxlen=self._max_entries, approximate=True)
            pipeline.execute()

        self._server.ask(send)
