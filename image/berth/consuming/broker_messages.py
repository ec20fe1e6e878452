"""Messages as every broker has them, and what becomes of one."""

from __future__ import annotations

from typing import Any, NamedTuple

PREDICTED, REFUSED, FAILED = "predicted", "refused", "failed"
RESULTS = (PREDICTED, REFUSED, FAILED)
# Headers that a message gets on its way.
MODEL_HEADER, RECEIPT_HEADER = "berth-model", "berth-receipt"
CODE_HEADER, ERROR_HEADER, SOURCE_HEADER = "berth-code", "berth-error", "berth-source"


class Message(NamedTuple):
    """One message; `timestamp_ms` counts from 1970, `headers` keep their order and may repeat a name.

    `position` is what its source calls it: (topic, partition, offset), or (stream, entry id).
    """

    value: bytes | None
    key: bytes | None = None
    timestamp_ms: int | None = None
    headers: tuple[tuple[str, bytes], ...] = ()
    position: tuple[Any, ...] = ()

    @property
    def place(self) -> str:
        """The position as logs and the dead topic have it: `orders/3/17`."""
        return "/".join(map(str, self.position))


class MessageOutcome(NamedTuple):
    """What became of a message: one of RESULTS, and the message to send on, to the sink or to the dead topic."""

    result: str
    message: Message


def with_headers(message: Message, value: bytes | None, *more: tuple[str, str]) -> Message:
    """The message with another value and further headers, which replace those of the same name."""
    names = {name for name, _ in more}
    kept = [header for header in message.headers if header[0] not in names]
    added = [(name, text.encode("utf-8", "replace")) for name, text in more]
    return Message(value, message.key, message.timestamp_ms, (*kept, *added), message.position)
