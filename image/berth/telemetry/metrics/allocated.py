"""A process's file of metrics that has all its blocks before it is mapped into memory.

prometheus_client makes the file with a hole. Writing into it when the disk (most often /dev/shm) is full is no error
that a program could catch: it ends the process with SIGBUS, and its successor too. So the blocks are allocated first;
without room for them the process counts in memory of its own, which no scrape reads, and the server goes on.
"""

from __future__ import annotations

import errno
import logging
import mmap
import os
from pathlib import Path
from typing import Any

from prometheus_client import mmap_dict

from berth.telemetry.logs import log

_FIRST_BYTES = 1 << 16  # prometheus_client's own


def _allocate(descriptor: int, size: int) -> bool:
    """Give a file all blocks up to `size`; whether there was room. Other errors are the caller's."""
    try:
        os.posix_fallocate(descriptor, 0, size)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise
        return False
    return True


def _open_in_memory(name: str) -> Any:
    """A file that only this process has, on no disk."""
    return os.fdopen(os.memfd_create(name), "r+b")


def _warn(path: str) -> None:
    log(
        f"no room for the metrics file {path}: this process serves on and counts nothing that /metrics shows; "
        "make room there (in the chart: shmSize), then restart the server",
        level=logging.ERROR,
    )


class AllocatedDict(mmap_dict.MmapedDict):  # type: ignore[misc]
    """A MmapedDict whose file has no hole, or that is in memory. Not thread safe, as its base."""

    # Of the base, which is not typed.
    _m: Any
    _f: Any
    # All of the file as doubles, for updates.py: a value at byte `at` is `doubles[at // 8]`.
    doubles: memoryview[float]

    def __init__(self, filename: str, read_mode: bool = False) -> None:
        if read_mode:
            super().__init__(filename, read_mode)
            return
        self._open(filename)
        self.doubles = memoryview(self._m).cast("d")

    def _open(self, filename: str) -> None:
        path = Path(filename)
        with path.open("a+b") as file:
            size = max(_FIRST_BYTES, os.fstat(file.fileno()).st_size)
            has_room = _allocate(file.fileno(), size)
        if has_room:
            super().__init__(filename)
            return
        path.unlink()
        _warn(filename)
        with _open_in_memory(path.name) as file:
            super().__init__(f"/proc/self/fd/{file.fileno()}")

    def _init_value(self, key: str) -> None:
        """Make room for a new value before its base does. Lock must be held by caller, as for the base."""
        needed = self._used + len(key.encode()) + 32
        size = self._capacity
        while needed > size:
            size *= 2
        if size > self._capacity and not _allocate(self._f.fileno(), size):
            self._move_to_memory()
        super()._init_value(key)
        if self.doubles.obj is not self._m:  # the base has mapped it anew
            self.doubles = memoryview(self._m).cast("d")

    def close(self) -> None:
        """Close the file; a map with a view cannot be closed."""
        if self._f and hasattr(self, "doubles"):
            self.doubles.release()
        super().close()

    def _move_to_memory(self) -> None:
        """Count on in memory; the file keeps what was counted up to now."""
        _warn(self._fname)
        content = self._m[:]
        self.doubles.release()
        self._m.close()
        self._f.close()
        self._f = _open_in_memory(Path(self._fname).name)
        self._f.write(content)
        self._f.flush()
        self._m = mmap.mmap(self._f.fileno(), self._capacity)
        self.doubles = memoryview(self._m).cast("d")
