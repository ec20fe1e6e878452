"""The body of a stream, from its bytes to whole lines: chunks undone, a line bounded, nothing kept for longer."""

from __future__ import annotations

import re
from collections import deque

from berth.worker.receiving import BrokenBody

_MOST_CHUNK_LINE_BYTES = 8190
_SIZE = re.compile(rb"([0-9A-Fa-f]{1,15})[ \t]*(?:;.*)?", re.DOTALL)


class ChunkedBody:
    """Undoes HTTP's chunks, however they are cut."""

    def __init__(self) -> None:
        self._left = 0  # of the chunk that is being read
        self._line = b""
        self._in_trailer = False
        self._after_data = False
        self.ended = False
        # Why the rest cannot be read; what came before is the body's.
        self.broken: BrokenBody | None = None

    def feed(self, data: bytes) -> bytes:
        """What of these bytes is the body."""
        pieces, at = [], 0
        while at < len(data) and not self.ended and self.broken is None:
            if self._left:
                piece = data[at : at + self._left]
                pieces.append(piece)
                at += len(piece)
                self._left -= len(piece)
                self._after_data = not self._left
                continue
            end = data.find(b"\n", at)
            self._line += data[at:] if end < 0 else data[at : end + 1]
            at = len(data) if end < 0 else end + 1
            if len(self._line) > _MOST_CHUNK_LINE_BYTES:
                self.broken = BrokenBody("a line between chunks is too long")
            elif end >= 0:
                line, self._line = self._line, b""
                self._read_line(line)
        return b"".join(pieces)

    def _read_line(self, line: bytes) -> None:
        if not line.endswith(b"\r\n"):
            self.broken = BrokenBody("a line between chunks does not end with CRLF")
            return
        text = line[:-2]
        if self._in_trailer:
            self.ended = not text
        elif self._after_data:
            self.broken = BrokenBody("a chunk is longer than its size") if text else None
            self._after_data = False
        elif (found := _SIZE.fullmatch(text)) is None:
            self.broken = BrokenBody("a chunk's size is not a hexadecimal number")
        else:
            self._left = int(found[1], 16)
            self._in_trailer = not self._left


class SizedBody:
    """A body whose length is known."""

    broken: BrokenBody | None = None

    def __init__(self, length: int) -> None:
        self._left = length

    @property
    def ended(self) -> bool:
        """Whether all of it has come."""
        return not self._left

    def feed(self, data: bytes) -> bytes:
        """What of these bytes is the body."""
        piece = data[: self._left]
        self._left -= len(piece)
        return piece


class LineBuffer:
    """Cuts a body into numbered lines; one that is too long is given out as its number alone."""

    def __init__(self, most_line_bytes: int) -> None:
        self._most = most_line_bytes
        self._parts: list[bytes] = []
        self._size = 0
        self._number = 0
        # Lines that have not been given out yet; None for one that is too long.
        self._ready: deque[tuple[int, bytes | None]] = deque()

    def __len__(self) -> int:
        return len(self._ready)

    def feed(self, data: bytes) -> None:
        """More of the body."""
        *whole, rest = data.split(b"\n")
        for piece in whole:
            self._append(piece)
            self._end_line()
        self._append(rest)

    def finish(self) -> None:
        """The body has ended; what is left is a line."""
        if self._size:
            self._end_line()

    def _append(self, piece: bytes) -> None:
        self._size += len(piece)
        if self._size > self._most:
            self._parts.clear()  # the rest of the line is not kept
        elif piece:
            self._parts.append(piece)

    def _end_line(self) -> None:
        self._number += 1
        line = b"".join(self._parts) if self._size <= self._most else None
        self._parts, self._size = [], 0
        if line is None or line.strip():
            self._ready.append((self._number, line))

    def take(self, most: int) -> list[tuple[int, bytes | None]]:
        """Up to `most` whole lines, in order."""
        return [self._ready.popleft() for _ in range(min(most, len(self._ready)))]
