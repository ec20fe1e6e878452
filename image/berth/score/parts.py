"""The files a run writes: the output and its errors, each as a part beside it until all is done."""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from berth.errors import OperatorError
from berth.score.remote_files import RemotePlace, upload_all


def _beside(path: Path, ending: str) -> Path:
    return path.with_name(path.name + ending)


@dataclass(frozen=True, slots=True)
class Places:
    """Where a run writes in the end: here, or as files of the same names below `remote`, which get uploaded whole."""

    output: Path
    errors: Path
    remote: RemotePlace | None = None

    def find(self, path: Path) -> Path | RemotePlace | None:
        """A finished file of this run, here or in its bucket. Raises StoreError, Cut."""
        if path.exists():
            return path
        return there if self.remote is not None and (there := self.remote / path.name).is_file() else None

    def fetch_report(self) -> None:
        """Have the report of a shard that was done elsewhere. Raises StoreError, Cut."""
        if isinstance(there := self.find(self.report), RemotePlace):
            there.download(self.report)

    def deliver(self, failed: bool) -> None:
        """Upload what belongs into a bucket, the output last; of a run without failures, no errors stay there.

        Raises StoreError, Cut.
        """
        if self.remote is None:
            return
        if not failed and isinstance(old := self.find(self.errors), RemotePlace):
            old.remove()
        upload_all((self.errors, self.report, self.output), self.remote)

    def clear(self) -> None:
        """Forget what lies in a bucket by now."""
        for path in (self.errors, self.report, self.output) if self.remote is not None else ():
            path.unlink(missing_ok=True)

    @property
    def part(self) -> Path:
        """The output so far."""
        return _beside(self.output, ".part")

    @property
    def errors_part(self) -> Path:
        """The errors so far."""
        return _beside(self.errors, ".part")

    @property
    def report(self) -> Path:
        """What a shard keeps of itself when it is done, for joining."""
        return _beside(self.output, ".json")

    @property
    def state(self) -> Path:
        """How far that is."""
        return _beside(self.output, ".part.json")


@contextmanager
def open_part(path: Path) -> Iterator[BinaryIO]:
    """A part file, made where it is missing, for this process alone. Raises OperatorError."""
    with open(os.open(path, os.O_RDWR | os.O_CREAT, 0o666), "r+b") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in (errno.EWOULDBLOCK, errno.EACCES):
                raise OperatorError(f"{path} is being written by another run; wait for its end") from error
            # Some network file systems know no locks: without one the run goes on.
        if not path.exists() or not os.path.samestat(os.fstat(file.fileno()), path.stat()):
            raise OperatorError(f"{path} was put in its place by another run just now")
        yield file


def cut(file: BinaryIO, size: int) -> None:
    """Throw away what stands after `size` bytes, and go on there."""
    file.truncate(size)
    file.seek(size)


def append(file: BinaryIO, content: bytes) -> int:
    """Write to the end; the file's size."""
    if content:
        file.write(content)
    return file.tell()


def sync(file: BinaryIO) -> None:
    """Put what was written on the disk."""
    file.flush()
    os.fsync(file.fileno())


def holds(path: Path, size: int) -> bool:
    """Whether a part file is there with at least so many bytes; one of none need not be there."""
    return size == 0 or (path.exists() and path.stat().st_size >= size)
