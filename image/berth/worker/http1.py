"""Plain HTTP/1.1 between bytes and WSGI: whole small requests with nothing unusual in them, and their responses.

Most requests for a prediction are one packet. Reading them needs none of what a parser must be ready for: whatever is
not exactly of this shape is reported as none of ours, and the server's own parser has it, unchanged.
"""

from __future__ import annotations

import io
import re
import time
from collections.abc import Iterable, Mapping
from email.utils import formatdate
from functools import lru_cache
from typing import Any

# A name of letters and dashes and a value that may be printed, without spaces around it (RFC 9112 section 5).
_FIELD = re.compile(r"([A-Za-z][A-Za-z0-9-]*): ?([!-~](?:[ -~]*[!-~])?)?")
# Fields that say how the message or the connection is to be read: the server's parser knows them.
_FRAMING = frozenset(
    {"CONNECTION", "EXPECT", "HTTP2-SETTINGS", "KEEP-ALIVE", "TE", "TRAILER", "TRANSFER-ENCODING", "UPGRADE"}
)
_MOST_DIGITS = 8
# RFC 3986 section 3.2.2 and RFC 9112 section 3.2: a name or address, and a port. No comma: that is two hosts in one.
_HOST = re.compile(r"(?:\[[0-9A-Za-z:.%~_-]+\]|[A-Za-z0-9._~!$&'()*+;=%-]*)(?::[0-9]*)?")
# gunicorn's secure_scheme_headers: two of them may contradict each other, which its parser finds out.
_SCHEMES = frozenset({"HTTP_X_FORWARDED_PROTOCOL", "HTTP_X_FORWARDED_PROTO", "HTTP_X_FORWARDED_SSL"})
# Far less than the server's own limits, which it alone refuses for.
_MOST_HEAD_BYTES = 8000
_MOST_FIELDS = 64
# A longer body takes long to read as well: not for a thread that has others to serve.
_MOST_BODY_BYTES = 16384


def is_host(value: str) -> bool:
    """Whether a Host field has the format that RFC 9112 demands."""
    return _HOST.fullmatch(value) is not None


def asks_to_close(connection: Iterable[str]) -> bool:
    """Whether the Connection fields have `close` among their words; it then counts, whatever else they say."""
    return any(word.strip(" \t").lower() == "close" for value in connection for word in value.split(","))


@lru_cache(maxsize=256)
def _parse_fields(head: bytes) -> dict[str, str] | None:
    """What the head says, as WSGI names it. A client's requests often have one head, byte for byte."""
    lines = head.decode("latin-1").split("\r\n")[1:]
    if len(head) > _MOST_HEAD_BYTES or len(lines) > _MOST_FIELDS:
        return None
    fields: dict[str, str] = {}
    for line in lines:
        field = _FIELD.fullmatch(line)
        if field is None:
            return None
        name = field[1].upper()
        key = "HTTP_" + name.replace("-", "_")
        if key in fields or (name in _FRAMING and line.lower() != "connection: keep-alive"):
            return None
        fields[key] = field[2] or ""
    length = fields.pop("HTTP_CONTENT_LENGTH", "")
    if not length.isdigit() or len(length) > _MOST_DIGITS:
        return None
    if not is_host(fields.get("HTTP_HOST", ",")) or len(_SCHEMES & fields.keys()) > 1:
        return None
    fields["CONTENT_LENGTH"] = length
    if (media_type := fields.pop("HTTP_CONTENT_TYPE", None)) is not None:
        fields["CONTENT_TYPE"] = media_type
    return fields


def parse_request(data: bytes, method: str, path: str, client: str) -> dict[str, Any] | None:
    """The WSGI environment of a request whose first line the caller knows; None unless it is plain and has its length.

    The fields are those of PEP 3333 that say something about the request, the server's own are not among them.
    `count_missing` says how much of the body is not in `wsgi.input` yet.
    """
    head, end, body = data.partition(b"\r\n\r\n")
    fields = _parse_fields(head) if end else None
    if fields is None or not len(body) <= int(fields["CONTENT_LENGTH"]) <= _MOST_BODY_BYTES:
        return None
    own = {"REQUEST_METHOD": method, "PATH_INFO": path, "REMOTE_ADDR": client, "wsgi.input": io.BytesIO(body)}
    return own | fields


def count_missing(environ: Mapping[str, Any]) -> int:
    """How many bytes of a request's body are yet to come."""
    return int(environ["CONTENT_LENGTH"]) - len(environ["wsgi.input"].getbuffer())


@lru_cache(maxsize=2)
def _opening(second: int) -> str:
    return f"\r\nServer: gunicorn\r\nDate: {formatdate(second, usegmt=True)}\r\nConnection: "


def encode_response(status_line: str, headers: Iterable[tuple[str, str]], body: bytes, closes: bool = False) -> bytes:
    """A response with the fields that gunicorn puts before an application's."""
    fields = "".join([f"{name}: {value}\r\n" for name, value in headers])
    connection = "close" if closes else "keep-alive"
    return f"HTTP/1.1 {status_line}{_opening(int(time.time()))}{connection}\r\n{fields}\r\n".encode("latin-1") + body
