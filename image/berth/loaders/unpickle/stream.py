"""The bytes of an artifact: unpacked if compressed, and never more than the file can honestly hold."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any
from zlib import decompressobj

from berth.errors import LoadError
from berth.loaders.unpickle.not_a_pickle import HEAD_BYTES, check_is_pickle

# A compressed file may unpack to this many times its size, and to this much in any case.
MAX_RATIO = 200
SMALL_BYTES = 256 * 2**20
_CHUNK_BYTES = 2**20
# Instructions of a compressed file: this many, and this many for each byte on the disk.
_FREE_INSTRUCTIONS = 2**20
_INSTRUCTIONS_PER_BYTE = 16
_ZFILE = b"ZF"
_MAX_LINE = 2**30
_COPY_AGAIN = "copy or save it again"


class ZlibReader(io.RawIOBase):
    """Unpacks a bare zlib stream, which the standard library reads only whole."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._zlib = decompressobj()

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        while not self._zlib.eof:
            packed = self._zlib.unconsumed_tail or self._file.read(_CHUNK_BYTES)
            data = self._zlib.decompress(packed, len(buffer))
            if data:
                buffer[: len(data)] = data
                return len(data)
            if not packed:
                raise EOFError("the zlib stream ends too early")
        if self._zlib.unused_data or self._file.read(1):
            raise ValueError("bytes follow the zlib stream")
        return 0


def _open_lz4(file: IO[bytes]) -> IO[bytes]:
    try:
        from lz4.frame import LZ4FrameFile  # type: ignore[import-not-found]
    except ModuleNotFoundError as error:
        raise LoadError("the file is compressed with lz4, which is not installed: pip install lz4") from error
    opened: IO[bytes] = LZ4FrameFile(file, "rb")
    return opened


_READERS: dict[bytes, Callable[[IO[bytes]], Any]] = {
    b"\x78": ZlibReader,
    b"\x1f\x8b": lambda file: gzip.GzipFile(fileobj=file, mode="rb"),
    b"BZh": bz2.BZ2File,
    b"\x5d\x00": lzma.LZMAFile,
    b"\xfd7zXZ": lzma.LZMAFile,
    b"\x04\x22\x4d\x18": _open_lz4,
}


class PickleStream:
    """A stream that knows how many bytes it may still give, and refuses to promise more."""

    def __init__(self, file: io.BufferedReader, limit: int, packed_bytes: int = 0) -> None:
        self._file = file
        self._packed_bytes = packed_bytes
        self._limit = limit
        self.consumed = 0

    def bound_instructions(self, most: int) -> int:
        """How many instructions there may be: a small file that unpacks to many holds no model."""
        return (
            min(most, _FREE_INSTRUCTIONS + self._packed_bytes * _INSTRUCTIONS_PER_BYTE) if self._packed_bytes else most
        )

    def check_room(self, count: int) -> None:
        """Raise LoadError if `count` more bytes cannot be there, before room is made for them."""
        left = self._limit - self.consumed
        if 0 <= count <= left:
            return
        if self._packed_bytes:
            raise LoadError(
                f"the file unpacks to more than {self._limit} bytes, over {MAX_RATIO} times its size; "
                "save it uncompressed if that is what it should hold"
            )
        raise LoadError(
            f"the file is truncated or damaged: it declares {count} bytes where {left} are left; {_COPY_AGAIN}"
        )

    def read(self, count: int) -> bytes:
        """`count` bytes. Raises LoadError when so many are not there."""
        self.check_room(count)
        data = self._file.read(count) if count <= _CHUNK_BYTES else self._read_long(count)
        self.consumed += len(data)
        if len(data) < count:
            raise LoadError(f"the file is truncated: it ends {count - len(data)} bytes too early; {_COPY_AGAIN}")
        return data

    def _read_long(self, count: int) -> bytes:
        """Piece by piece, so that a compressed file with a false length costs only what it holds."""
        data = bytearray()
        while len(data) < count:
            piece = self._file.read(min(count - len(data), _CHUNK_BYTES))
            if not piece:
                break
            data += piece
        return bytes(data)

    def readinto(self, buffer: memoryview) -> None:
        """Fill the buffer wholly. Raises LoadError."""
        self.check_room(len(buffer))
        filled = 0
        while filled < len(buffer):
            count = self._file.readinto(buffer[filled : filled + _CHUNK_BYTES])
            if not count:
                raise LoadError(
                    f"the file is truncated: an array of {len(buffer)} bytes ends after {filled}; {_COPY_AGAIN}"
                )
            filled += count
        self.consumed += filled

    def skip(self, count: int) -> None:
        """Pass over bytes without keeping them. Raises LoadError."""
        self.check_room(count)
        while count:
            count -= len(self.read(min(count, _CHUNK_BYTES)))

    def readline(self) -> bytes:
        """One line with its newline."""
        line = self._file.readline(min(self._limit - self.consumed, _MAX_LINE))
        self.consumed += len(line)
        if not line.endswith(b"\n"):
            raise LoadError("the file is truncated or damaged: a line has no end")
        return line

    def check_end(self) -> None:
        """Raise LoadError if anything follows: that is written only to hide it."""
        if self._file.read(1):
            raise LoadError("bytes follow the end of the pickle; save the model again with one dump call")


@contextmanager
def open_source(path: Path) -> Iterator[PickleStream]:
    """The unpacked bytes of a pickle or joblib file. Raises LoadError."""
    try:
        file = path.open("rb")
    except OSError as error:
        raise LoadError(f"{path.name} cannot be read: {error.strerror}") from error
    with file:
        head = file.peek(HEAD_BYTES)
        check_is_pickle(path.name, head[:HEAD_BYTES])
        size = os.fstat(file.fileno()).st_size
        if head.startswith(_ZFILE):
            raise LoadError(f"{path.name} was written by joblib before 0.10; load it there and dump it again")
        for magic, reader in _READERS.items():
            if head.startswith(magic):
                unpacked = io.BufferedReader(reader(file), _CHUNK_BYTES)
                yield PickleStream(unpacked, max(SMALL_BYTES, size * MAX_RATIO), size)
                return
        yield PickleStream(file, size)
