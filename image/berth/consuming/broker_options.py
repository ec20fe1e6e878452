"""Where messages come from and go to, and the options of their brokers: URLs and BERTH_KAFKA_…, BERTH_REDIS_…."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import parse_qs, unquote, urlsplit

from berth.errors import SettingsError

KAFKA, REDIS = "kafka", "redis"
_SCHEMES = {"kafka": KAFKA, "redis": REDIS, "rediss": REDIS}
_PREFIX = "BERTH_{}_"
_REDIS_PORT = 6379
# Options that the loop depends on.
_FIXED = frozenset({"bootstrap.servers", "group.id", "enable.auto.commit", "enable.auto.offset.store",
                    "transactional.id", "delivery.report.only.error", "enable.idempotence"})  # fmt: skip
_REDIS_OPTIONS = ("username", "password", "ssl_ca_certs", "ssl_certfile", "ssl_keyfile")


@dataclass(frozen=True)
class Place:
    """A topic or stream on a broker; `key` names the broker. `max_entries` limits a Redis stream, None does not."""

    kind: str
    scheme: str
    brokers: str
    name: str
    username: str | None = None
    password: str | None = None
    database: int = 0
    max_entries: int | None = None

    @property
    def key(self) -> tuple[str, str, int]:
        """Two places with the same key are on one broker."""
        return self.kind, self.brokers, self.database

    def __str__(self) -> str:
        """Without credentials."""
        return f"{self.scheme}://{self.brokers}/{self.name}"


def _number(text: str, what: str) -> int:
    if not text.isascii() or not text.isdecimal():
        raise SettingsError(f"{what} must be a whole number, got {text[:60]!r}")
    return int(text)


def parse_place(url: str) -> Place:
    """`kafka://BROKER[:PORT],…/TOPIC`, or `redis://[USER:PASSWORD@]HOST[:PORT]/STREAM[?db=N&maxlen=N]`.

    Raises SettingsError, which shows no password.
    """
    scheme, _, _ = url.partition("://")
    kind = _SCHEMES.get(scheme)
    if kind is None:
        raise SettingsError(f"{scheme[:60]!r} is not a broker; use kafka://BROKERS/TOPIC or redis://HOST/STREAM")
    parts = urlsplit(url)
    credentials, _, brokers = parts.netloc.rpartition("@")
    name = unquote(parts.path.removeprefix("/"))
    if not brokers or not name or "/" in name:
        wanted = f"{scheme}://HOST/{'TOPIC' if kind == KAFKA else 'STREAM'}"
        raise SettingsError(f"{scheme}://{brokers[:200]}{parts.path[:200]} must be {wanted}")
    query = {key: values[-1] for key, values in parse_qs(parts.query, keep_blank_values=True).items()}
    if kind == KAFKA and (credentials or query):
        raise SettingsError(f"{scheme}://{brokers}/{name}: options and credentials are BERTH_KAFKA_… variables")
    if unknown := sorted(query.keys() - {"db", "maxlen"}):
        raise SettingsError(f"{scheme}://{brokers}/{name}: unknown parameter {unknown[0][:60]!r}; use db or maxlen")
    username, _, password = credentials.partition(":")
    return Place(
        kind,
        scheme,
        brokers,
        name,
        unquote(username) or None,
        unquote(password) or None,
        _number(query.get("db", "0"), "db"),
        _number(query["maxlen"], "maxlen") if "maxlen" in query else None,
    )


def parse_dead(text: str, sink: Place) -> Place:
    """A place by its URL, or a topic or stream by its name, on the sink's broker. Raises SettingsError."""
    if "://" in text:
        return parse_place(text)
    return Place(sink.kind, sink.scheme, sink.brokers, text, sink.username, sink.password, sink.database)


def split_host(brokers: str) -> tuple[str, int]:
    """The host and the port of a Redis server. Raises SettingsError."""
    parts = urlsplit(f"//{brokers}")
    try:
        return parts.hostname or brokers, parts.port or _REDIS_PORT
    except ValueError as error:
        raise SettingsError(f"redis://{brokers[:200]}: {error}; a consumer uses one server") from error


def kafka_options(environ: Mapping[str, str]) -> dict[str, str]:
    """librdkafka's options: BERTH_KAFKA_SECURITY_PROTOCOL is security.protocol. Raises SettingsError."""
    prefix = _PREFIX.format("KAFKA")
    found = {
        name.removeprefix(prefix).lower().replace("_", "."): value
        for name, value in environ.items()
        if name.startswith(prefix)
    }
    if fixed := sorted(found.keys() & _FIXED):
        name = prefix + fixed[0].upper().replace(".", "_")
        raise SettingsError(f"{name} cannot be set: the consumer's options and its guarantee decide {fixed[0]}")
    return found


def redis_options(environ: Mapping[str, str]) -> dict[str, str]:
    """BERTH_REDIS_PASSWORD and others, as redis-py has them. Raises SettingsError."""
    prefix = _PREFIX.format("REDIS")
    found = {name.removeprefix(prefix).lower(): value for name, value in environ.items() if name.startswith(prefix)}
    if unknown := sorted(found.keys() - set(_REDIS_OPTIONS)):
        known = ", ".join(prefix + option.upper() for option in _REDIS_OPTIONS)
        raise SettingsError(f"{prefix}{unknown[0].upper()} is not an option; there are {known}")
    return found
