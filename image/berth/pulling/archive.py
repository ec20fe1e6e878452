"""tar and zip archives, unpacked so that nothing in them can reach out of the folder or fill the disk.

Only plain files and folders come out. Links, devices, absolute names, `..`, names twice and encrypted members are
refused, and so is an archive that says it unpacks to more than there is room for, before it is written.
"""

from __future__ import annotations

import gzip
import shutil
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
# tarfile reads extended headers whole into memory: no sane one is longer.
_LONGEST_READ = 8 << 20


@dataclass(frozen=True, slots=True)
class _Member:
    """One plain file of an archive."""

    name: str
    size: int
    file: IO[bytes]


class _Bounded:
    """A file whose reads are short, so that a header cannot ask for gigabytes of memory."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file

    def read(self, size: int = -1) -> bytes:
        if not 0 <= size <= _LONGEST_READ:
            raise UnsafeArtifact(f"the archive has a header of {size} bytes")
        return self._file.read(size)

    def seek(self, offset: int, whence: int = 0) -> int:
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()


def _tar_members(path: Path, *, packed: bool) -> Iterator[_Member]:
    with path.open("rb") as raw:
        file = cast(IO[bytes], _Bounded(cast(IO[bytes], gzip.GzipFile(fileobj=raw)) if packed else raw))
        with tarfile.open(fileobj=file, mode="r:") as archive:
            for info in archive:
                if info.isdir():
                    continue
                if not info.isreg() or info.issparse():
                    raise UnsafeArtifact(f"{info.name[:200]!r} in the archive is no plain file (a link or a device)")
                opened = archive.extractfile(info)
                assert opened is not None  # noqa: S101 - a plain file has content; for the type checker
                yield _Member(info.name, info.size, opened)


def _zip_members(path: Path) -> Iterator[_Member]:
    with zipfile.ZipFile(path) as archive:
        for info in archive.infolist():
            if info.is_dir():
                continue
            kind = stat.S_IFMT(info.external_attr >> 16)
            if kind not in (0, stat.S_IFREG) or info.flag_bits & 0x1:
                raise UnsafeArtifact(f"{info.filename[:200]!r} in the archive is no plain file (a link, or encrypted)")
            with archive.open(info) as opened:
                yield _Member(info.filename, info.file_size, opened)


def _safe_name(name: str) -> PurePosixPath:
    """A member's place below the folder. Raises UnsafeArtifact."""
    path = PurePosixPath(name)
    bad = path.is_absolute() or ".." in path.parts or "\\" in name or any(ord(letter) < 32 for letter in name)
    if bad or not path.parts or any(len(part.encode("utf-8", "replace")) > 255 for part in path.parts):
        raise UnsafeArtifact(f"the archive has a file {name[:200]!r}, which is no name inside a folder")
    return path


def _copy(member: _Member, to: Path) -> None:
    try:
        to.parent.mkdir(parents=True, exist_ok=True)
        file = to.open("xb")
    except (FileExistsError, NotADirectoryError) as error:
        raise UnsafeArtifact(f"{member.name[:200]!r} is in the archive twice") from error
    with file:
        left = member.size
        while left and (chunk := member.file.read(min(CHUNK_BYTES, left))):
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


def unpack(path: Path, into: Path, suffix: str) -> None:
    """The archive's plain files below `into`. Raises UnsafeArtifact, StoreError."""
    room, needed = shutil.disk_usage(into).free, 0
    with _understood(path, into):
        members = _zip_members(path) if suffix == ".zip" else _tar_members(path, packed=suffix != ".tar")
        for count, member in enumerate(members, 1):
            needed += member.size
            if count > _MOST_MEMBERS:
                raise UnsafeArtifact(f"the archive has more than {_MOST_MEMBERS} files")
            if needed > room:
                raise UnsafeArtifact(f"the archive unpacks to more than {needed} bytes, but there is room for {room}")
            _copy(member, into / _safe_name(member.name))
