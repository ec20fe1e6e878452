"""tar and zip archives, unpacked so that nothing in them can reach out of the folder or fill the disk.

Only plain files and folders come out. Links, devices, absolute names, `..`, names twice and encrypted members are
refused, and so is an archive that says it unpacks to more than there is room for, before it is written.
"""

from __future__ import annotations

import gzip
import math
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, cast

from berth.errors import StoreError, UnsafeArtifact
from berth.pulling.transfer import CHUNK_BYTES, disk_error

SUFFIXES = (".tar.gz", ".tgz", ".tar", ".zip")
_MOST_MEMBERS = 10_000
# tarfile reads a header whole into memory, and zipfile a directory: no sane ones are longer.
_HEADER_BYTES = 64 << 10
_DIRECTORY_BYTES = 8 << 20
# Between one member and the next: tarfile reads on for as long as headers say that there is another.
_HEADERS_BYTES = 1 << 20
# What no model is compressed by; a bomb is. Small ones may.
_LARGEST_RATIO = 100
_SMALL_BYTES = 1 << 30
_COMPRESSIONS = frozenset({zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2})


@dataclass(frozen=True, slots=True)
class _Member:
    """One plain file or folder of an archive."""

    name: str
    size: int
    file: IO[bytes] | None  # None: a folder


class _Bounded:
    """A file of which headers can demand neither a long read nor many of them."""

    def __init__(self, file: IO[bytes], longest: int, left: float) -> None:
        self._file = file
        self._longest = longest
        self.left = left

    def read(self, size: int = -1) -> bytes:
        size = self._longest if size == -1 else size
        self.left -= size
        if not 0 <= size <= self._longest or self.left < 0:
            raise UnsafeArtifact(f"the archive has a header of {size} bytes or more, longer than any archive needs")
        return self._file.read(size)

    def seek(self, offset: int, whence: int = 0) -> int:
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()

    def seekable(self) -> bool:
        return True


def _tar_members(path: Path, *, packed: bool) -> Iterator[_Member]:
    with path.open("rb") as raw:
        data = cast(IO[bytes], gzip.GzipFile(fileobj=raw)) if packed else raw
        headers = _Bounded(data, _HEADER_BYTES, _HEADERS_BYTES)
        with tarfile.open(fileobj=cast(IO[bytes], headers), mode="r:") as archive:
            while True:
                headers.left = _HEADERS_BYTES
                if (info := archive.next()) is None:
                    return
                if not (info.isreg() or info.isdir()) or info.issparse() or info.size < 0:
                    raise UnsafeArtifact(f"{info.name[:200]!r} in the archive is no plain file (a link or a device)")
                data.seek(info.offset_data)
                yield _Member(info.name, info.size if info.isreg() else 0, data if info.isreg() else None)


def _zip_members(path: Path) -> Iterator[_Member]:
    with path.open("rb") as raw, zipfile.ZipFile(cast(IO[bytes], _Bounded(raw, _DIRECTORY_BYTES, math.inf))) as archive:
        for info in archive.infolist():
            if info.is_dir():
                yield _Member(info.filename, 0, None)
                continue
            kind = stat.S_IFMT(info.external_attr >> 16)
            if kind not in (0, stat.S_IFREG) or info.flag_bits & 0x1:
                raise UnsafeArtifact(f"{info.filename[:200]!r} in the archive is no plain file (a link, or encrypted)")
            if info.compress_type not in _COMPRESSIONS:  # LZMA takes as much memory as a member says
                raise UnsafeArtifact(f"{info.filename[:200]!r} in the archive is neither stored, deflated nor bzip2")
            with archive.open(info) as opened:
                yield _Member(info.filename, info.file_size, opened)


def _safe_name(name: str) -> PurePosixPath:
    """A member's place below the folder. Raises UnsafeArtifact."""
    path = PurePosixPath(name)
    bad = path.is_absolute() or ".." in path.parts or "\\" in name or not name.isprintable()
    if bad or not path.parts or any(len(part.encode("utf-8", "replace")) > 255 for part in path.parts):
        raise UnsafeArtifact(f"the archive has a file {name[:200]!r}, which is no name inside a folder")
    return path


def _copy(member: _Member, content: IO[bytes], to: Path) -> None:
    try:
        to.parent.mkdir(parents=True, exist_ok=True)
        file = to.open("xb")
    except (FileExistsError, NotADirectoryError) as error:
        raise UnsafeArtifact(f"{member.name[:200]!r} is in the archive twice") from error
    with file:
        left = member.size
        while left and (chunk := content.read(min(CHUNK_BYTES, left))):
            file.write(chunk)
            left -= len(chunk)
    if left:
        raise StoreError(f"{member.name[:200]!r} in the archive ends {left} bytes early: the archive is damaged")


@contextmanager
def _understood(path: Path, into: Path) -> Iterator[None]:
    try:
        yield
    except (tarfile.TarError, zipfile.BadZipFile, zlib.error, EOFError, gzip.BadGzipFile) as error:
        raise StoreError(f"{path.name} is no archive that can be read: {error or type(error).__name__}") from error
    except (NotImplementedError, RuntimeError, ValueError, UnicodeError) as error:
        raise StoreError(f"{path.name} cannot be unpacked: {error}") from error
    except OSError as error:
        raise disk_error(error, into) from error


def unpack(path: Path, into: Path, suffix: str, room: int) -> None:
    """The archive's plain files below `into`, of `room` bytes at most. Raises UnsafeArtifact, StoreError."""
    needed, most = 0, max(_SMALL_BYTES, path.stat().st_size * _LARGEST_RATIO)
    with _understood(path, into):
        members = _zip_members(path) if suffix == ".zip" else _tar_members(path, packed=suffix != ".tar")
        for count, member in enumerate(members, 1):
            needed += member.size
            if count > _MOST_MEMBERS:
                raise UnsafeArtifact(f"the archive has more than {_MOST_MEMBERS} files and folders")
            if needed > room:
                raise UnsafeArtifact(f"the archive unpacks to more than {needed} bytes, but there is room for {room}")
            if needed > most:
                raise UnsafeArtifact(
                    f"the archive unpacks to more than {_LARGEST_RATIO} times its size, as no model does"
                )
            if member.file is not None:
                _copy(member, member.file, into / _safe_name(member.name))
