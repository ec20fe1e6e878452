"""Log lines: one JSON object a line on standard output, or text for people at a terminal."""

from __future__ import annotations

import json
import logging
import os
import sys
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

import orjson

LOGGER = "berth"
# Keys of the text format that the sentence already shows.
_SHOWN = ("ts", "level", "message")
# Libraries that log whole addresses at `info`, with the name and the password in them.
_WITH_ADDRESSES = ("httpx", "httpcore")
# Made once: json.dumps would make an encoder for every line, at three times the line's cost.
_encode = json.JSONEncoder(default=repr, separators=(",", ":")).encode


@lru_cache(maxsize=2)
def _second(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S")


def _format_time(seconds: float) -> str:
    """Seconds since the epoch, in RFC 3339 with milliseconds."""
    return f"{_second(int(seconds))}.{int(seconds * 1000) % 1000:03d}Z"


def timestamp() -> str:
    """Now, in RFC 3339 with milliseconds."""
    return _format_time(time.time())


def one_line(text: str) -> str:
    """`text` with newlines, control characters and lone surrogates escaped."""
    return "".join(letter if letter.isprintable() else repr(letter)[1:-1] for letter in text)


def _fields(record: logging.LogRecord) -> dict[str, Any]:
    fields: dict[str, Any] = {
        "ts": _format_time(record.created),
        "level": record.levelname.lower(),
        "logger": record.name,
        "message": record.getMessage(),
        "pid": record.process,
    }
    fields.update(getattr(record, "fields", {}))
    return fields


class JsonFormatter(logging.Formatter):
    """Any logger's record as one JSON line; a traceback becomes a field, never further lines."""

    def format(self, record: logging.LogRecord) -> str:
        """The line, without its newline."""
        fields = _fields(record)
        if record.exc_info:
            fields["exception"] = self.formatException(record.exc_info)
        return json.dumps(fields, default=repr)


class TextFormatter(logging.Formatter):
    """The same fields for a person: time, level, sentence, then key=value with repr of strings."""

    def format(self, record: logging.LogRecord) -> str:
        """The line; a traceback follows on lines of its own."""
        fields = _fields(record)
        rest = " ".join(f"{key}={value!r}" for key, value in getattr(record, "fields", {}).items())
        text = f"{fields['ts']} {fields['level']:<7} {one_line(str(fields['message']))} {rest}".rstrip()
        return text + ("\n" + self.formatException(record.exc_info) if record.exc_info else "")


def configure(level: str, form: str) -> None:
    """Send every logger's lines at `level` and above to standard output, as `json` or `text`."""
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(JsonFormatter() if form == "json" else TextFormatter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    for name in _WITH_ADDRESSES:
        logging.getLogger(name).setLevel(max(root.level, logging.WARNING))


def write_request(fields: Mapping[str, Any], form: str) -> None:
    """One request's line, in a single write so that workers' lines never mix."""
    if form == "json":
        line = _encode_line(fields)
    else:
        rest = " ".join(f"{key}={value!r}" for key, value in fields.items() if key not in _SHOWN)
        line = f"{fields['ts']} {fields['level']:<7} {rest}".encode("utf-8", "replace")
    os.write(sys.stdout.fileno(), line + b"\n")


def _encode_line(fields: Mapping[str, Any]) -> bytes:
    """One JSON line in ASCII: the quick encoder's where it needs no escapes, as nearly always."""
    try:
        line = orjson.dumps(fields)
    except (TypeError, ValueError):
        return _encode(fields).encode()
    return line if line.isascii() else _encode(fields).encode()


def log(message: str, *, level: int = logging.INFO, **fields: Any) -> None:
    """One line about the server itself; `fields` become keys of the JSON object."""
    logging.getLogger(LOGGER).log(level, message, extra={"fields": fields})
