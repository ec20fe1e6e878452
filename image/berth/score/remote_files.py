"""Files in buckets (s3://, gs://, az://) for scoring: read where they lie; written here first, then uploaded whole."""

from __future__ import annotations

import hashlib
import io
import os
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, TypeAlias
from urllib.parse import urlsplit

from berth.errors import OperatorError
from berth.pulling.bucket import LIBRARIES, open_filesystem, understood

_BLOCK_BYTES = 8 << 20
# What the clouds' libraries call that which changes with the content, the best first.
_TAGS = ("ETag", "etag", "LastModified", "last_modified", "mtime", "updated", "created")


@dataclass(frozen=True)
class RemoteStatus:
    """Of a file in a bucket what `os.stat` has of one here; `tag` changes with its content."""

    st_size: int
    tag: str


class _Reading(io.RawIOBase):
    """An fsspec file whose errors are ours."""

    def __init__(self, file: Any, shown: str) -> None:
        self._file, self._shown = file, shown

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        view = memoryview(buffer).cast("B")
        with understood(self._shown):
            data = self._file.read(len(view))
        view[: len(data)] = data
        return len(data)

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        return int(self._file.seek(offset, whence))

    def tell(self) -> int:
        return int(self._file.tell())

    def close(self) -> None:
        if not self.closed:
            self._file.close()
        super().close()


@dataclass(frozen=True)
class RemotePlace:
    """A file or a folder in a bucket. `path` is the bucket and the key, as fsspec has them."""

    files: Any = field(repr=False, compare=False)
    scheme: str
    path: str

    @property
    def name(self) -> str:
        """The last part."""
        return PurePosixPath(self.path).name

    @property
    def suffix(self) -> str:
        """The ending of the name."""
        return PurePosixPath(self.path).suffix

    @property
    def parent(self) -> RemotePlace:
        """The folder that it is in."""
        return RemotePlace(self.files, self.scheme, self.path.rpartition("/")[0])

    def __str__(self) -> str:
        return f"{self.scheme}://{self.path}"

    def __truediv__(self, name: str) -> RemotePlace:
        return RemotePlace(self.files, self.scheme, f"{self.path.rstrip('/')}/{name}")

    def stat(self) -> RemoteStatus:
        """Raises StoreError, Cut."""
        with understood(str(self)):
            info = self.files.info(self.path)
        return RemoteStatus(int(info["size"]), next((str(info[key]) for key in _TAGS if info.get(key)), ""))

    def is_file(self) -> bool:
        """Whether there is such an object."""
        with understood(str(self)):
            return bool(self.files.isfile(self.path))

    def is_dir(self) -> bool:
        """Whether anything lies below it."""
        with understood(str(self)):
            return bool(self.files.isdir(self.path))

    def list_files(self, pattern: str = "*") -> list[RemotePlace]:
        """What lies right below it and matches, by name."""
        with understood(str(self)):
            found = self.files.glob(f"{self.path.rstrip('/')}/{pattern}", detail=True)
        names = sorted(name for name, info in found.items() if info["type"] == "file")
        return [RemotePlace(self.files, self.scheme, name) for name in names]

    def open(self, mode: str = "rb") -> io.BufferedReader:
        """The content, from the start. Raises StoreError, Cut."""
        with understood(str(self)):
            file = self.files.open(self.path, mode, block_size=_BLOCK_BYTES, cache_type="readahead")
        return io.BufferedReader(_Reading(file, str(self)), 1 << 20)

    def download(self, to: Path) -> None:
        """The whole file. Raises StoreError, Cut."""
        with understood(str(self)):
            self.files.get_file(self.path, str(to))

    def remove(self) -> None:
        """Delete it. Raises StoreError, Cut."""
        with understood(str(self)):
            self.files.rm_file(self.path)

    def upload(self, source: Path) -> None:
        """Put a file here; objects appear whole. Raises StoreError, Cut."""
        with understood(str(self)):
            self.files.put_file(str(source), self.path)


# A file to read, here or in a bucket.
Place: TypeAlias = Path | RemotePlace


def open_place(uri: str) -> RemotePlace:
    """The place at scheme://BUCKET/KEY. Raises OperatorError, StoreError."""
    parts = urlsplit(uri)
    if parts.scheme not in LIBRARIES:
        known = ", ".join(f"{scheme}://" for scheme in LIBRARIES)
        raise OperatorError(f"{uri.partition('?')[0][:200]!r}: use a path, file:///PATH, or one of {known}")
    path = uri.partition("://")[2].strip("/")
    if "/" not in path:
        raise OperatorError(f"{uri[:200]!r} names no file or folder: want {parts.scheme}://BUCKET/PATH")
    with understood(uri):
        return RemotePlace(open_filesystem(parts.scheme), parts.scheme, path)


def scratch_folder(output: RemotePlace) -> Path:
    """Where the part files of an output in a bucket are until they are uploaded; the same for the same output."""
    name = hashlib.sha256(str(output).encode()).hexdigest()[:16]
    folder = Path(tempfile.gettempdir(), f"berth-score-{name}")
    folder.mkdir(mode=0o700, exist_ok=True)
    if folder.is_symlink() or folder.stat().st_uid != os.getuid():
        raise OperatorError(f"{folder} belongs to another user; remove it, or set TMPDIR")
    return folder


def upload_all(paths: Sequence[Path], folder: RemotePlace) -> None:
    """Those of the files that are there, in order. Raises StoreError, Cut."""
    for path in paths:
        if path.exists():
            (folder / path.name).upload(path)
