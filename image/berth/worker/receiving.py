"""A request as it arrives: its head by gunicorn's own parser, where its body ends, and the body for the application.

The bytes come from the main thread's buffer, never from a socket: nothing here waits.
"""

from __future__ import annotations

import io
import re
from collections.abc import Sized
from typing import Any

from gunicorn.http import errors
from gunicorn.http.body import Body, ChunkedReader
from gunicorn.http.message import Request
from gunicorn.http.unreader import Unreader

from berth.worker.filling import open_body
from berth.worker.http1 import asks_to_close, is_host

# All of a head; gunicorn's own limits for one line and one field are smaller.
MOST_HEAD_BYTES = 65536
# The lines of chunk sizes and the trailers, and how many chunks: each costs its reader some microseconds.
_MOST_CHUNK_LINE_BYTES = 8190
_MOST_CHUNKS = 100_000
_PIECE_BYTES = 65536
_SIZE = re.compile(rb"([0-9A-Fa-f]{1,15})[ \t]*(?:;.*)?", re.DOTALL)


class HeadersTimeout(errors.ParseException):  # type: ignore[misc]
    """The client stopped in the middle of its headers; made of the seconds it had."""

    def __str__(self) -> str:
        return f"the headers did not arrive within {self.args[0]:g} s"


class BrokenBody(errors.ParseException, ValueError):  # type: ignore[misc]
    """The body's chunks are not what HTTP says; an application catches it as ValueError."""


class InvalidHost(errors.ParseException):  # type: ignore[misc]
    """No Host field where HTTP/1.1 demands one, or none of the format it demands."""

    def __init__(self, message: str, req: Any) -> None:
        super().__init__(message)
        self.req = req


class ReceivedUnreader(Unreader):  # type: ignore[misc]
    """Gives gunicorn's parser what has come. Behind its end it raises `missing`, or says that the stream ended."""

    def __init__(self, data: bytes, missing: Exception | None) -> None:
        super().__init__()
        self.feed(data, missing)

    def feed(self, data: bytes, missing: Exception | None) -> None:
        """More of the stream; what was fed before is read."""
        self._stream = io.BytesIO(data)
        self._missing = missing

    def chunk(self, size_hint: int | None = None) -> bytes:
        """The next bytes."""
        data = self._stream.read(_PIECE_BYTES)
        if not data and self._missing is not None:
            raise self._missing
        return data


class CheckedReader:
    """A body's reader, of which an application needs to know no exception of gunicorn's."""

    def __init__(self, reader: Any) -> None:
        self._reader = reader

    def read(self, size: int) -> bytes:
        """At most `size` bytes. Raises BrokenBody."""
        try:
            data: bytes = self._reader.read(size)
        except errors.ParseException as error:
            raise BrokenBody(str(error)) from error
        return data


class PartialReader:
    """What has come of a body, and then `missing`."""

    def __init__(self, data: bytes, missing: Exception | None) -> None:
        self._stream = io.BytesIO(data)
        self._missing = missing

    def read(self, size: int) -> bytes:
        """At most `size` bytes. Raises `missing`."""
        data = self._stream.read(size)
        if not data and self._missing is not None:
            raise self._missing
        return data


class ChunkedEnd:
    """Finds the end of a chunked body, going on where it stopped. Whether the body is sound, its reader finds out."""

    def __init__(self, start: int) -> None:
        self._at = start
        self._chunks = 0
        self.decoded_bytes = 0
        # It will never be whole: the reader says why.
        self.is_broken = False

    def find(self, data: bytes | bytearray) -> int | None:
        """Where the body ends, if that has come."""
        while not self.is_broken and self._at < len(data):
            end = data.find(b"\r\n", self._at, self._at + _MOST_CHUNK_LINE_BYTES)
            if end < 0:
                self.is_broken = len(data) - self._at >= _MOST_CHUNK_LINE_BYTES
                return None
            size = _SIZE.fullmatch(data, self._at, end)
            self._chunks += 1
            if size is None or self._chunks > _MOST_CHUNKS:
                self.is_broken = True
            elif int(size[1], 16) == 0:
                return self._find_trailers(data, end)
            else:
                self.decoded_bytes += int(size[1], 16)
                self._at = end + 2 + int(size[1], 16) + 2
        return None

    def _find_trailers(self, data: bytes | bytearray, line_end: int) -> int | None:
        end = data.find(b"\r\n\r\n", line_end, line_end + _MOST_CHUNK_LINE_BYTES)
        if end < 0:
            self.is_broken = len(data) - line_end >= _MOST_CHUNK_LINE_BYTES
            return None
        return end + 4


class Incoming:
    """A request whose head has come."""

    def __init__(self, request: Any, head_bytes: int) -> None:
        self.request = request
        self.head_bytes = head_bytes
        reader = request.body.reader
        self._chunks = ChunkedEnd(head_bytes) if isinstance(reader, ChunkedReader) else None
        # Of a body in chunks, what is known so far.
        self._length = 0 if self._chunks else int(reader.length)
        self._is_whole = True

    @property
    def body_bytes(self) -> int:
        """The length of the body, as far as it is known."""
        return self._chunks.decoded_bytes if self._chunks else self._length

    @property
    def is_chunked(self) -> bool:
        """Whether its length is not known before its end."""
        return self._chunks is not None

    @property
    def known_bytes(self) -> int:
        """The length of the whole request; of one in chunks only its head's."""
        return self.head_bytes + self._length

    def is_small(self, most: int) -> bool:
        """Whether its body is known to have at most so many bytes."""
        return self._chunks is None and self._length <= most

    @property
    def is_broken(self) -> bool:
        """It will never be whole."""
        return self._chunks is not None and self._chunks.is_broken

    def find_end(self, data: Any) -> int | None:
        """Where the request ends in what has come, if all of it has."""
        if self._chunks is not None:
            return self._chunks.find(data)
        end = self.known_bytes
        return end if len(data) >= end else None

    def wanted(self, data: Sized) -> int:
        """How many bytes are to come, as far as that is known."""
        return 0 if self._chunks else self.known_bytes - len(data)

    def expects_continue(self) -> bool:
        """Whether the client waits for a `100 Continue`; checked once."""
        expects, self.request._expected_100_continue = bool(self.request._expected_100_continue), False
        return expects

    def complete(self, data: bytes | memoryview, missing: Exception | None = None, whole: bool = True) -> None:
        """Give the request its body, which ends with `data`; if that is not all of it, reading on raises `missing`."""
        self._is_whole = whole
        self.request._expected_100_continue = False  # gunicorn would send one now
        body = memoryview(data)[self.head_bytes :]
        if not whole:
            self.request.force_close()
        if self._chunks is not None:
            self.request.unreader.feed(bytes(body), missing)
            self.request.body = Body(CheckedReader(self.request.body.reader))
        elif whole:
            self.request.body = open_body(body) if len(body) > _PIECE_BYTES else io.BytesIO(bytes(body))
        else:
            self.request.body = Body(PartialReader(bytes(body), missing))

    def is_spent(self) -> bool:
        """Whether the next request begins where this one ended; a body in chunks must have been read to say so."""
        if self._chunks is None:
            return self._is_whole
        body, unreader = self.request.body, self.request.unreader
        if not self._is_whole or body.failed or body.read(1):
            return False
        return not unreader.take_buffered() + unreader.chunk()


def read_head(cfg: Any, head: bytes, client: Any, number: int) -> Incoming:
    """The request that a head begins. Raises what gunicorn's parser does, and InvalidHost."""
    too_long = errors.LimitRequestHeaders("the head is too long")
    if len(head) > MOST_HEAD_BYTES and head.endswith(b"\r\n\r\n"):
        raise too_long
    try:
        request = Request(cfg, ReceivedUnreader(head, too_long), client, number)
    except StopIteration as error:
        raise errors.NoMoreData from error
    hosts = [value for name, value in request.headers if name == "HOST"]
    if request.version >= (1, 1) and not hosts:
        raise InvalidHost("an HTTP/1.1 request needs a Host field; send `Host: ` and the server's name", request)
    if not all(map(is_host, hosts)):
        raise InvalidHost(f"Host {hosts[0][:60]!r} is no host name; send a name or address, and its port", request)
    if asks_to_close(value for name, value in request.headers if name == "CONNECTION"):
        request.force_close()
    return Incoming(request, len(head))
