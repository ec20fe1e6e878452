"""Who may use the API server and the kubelet now, where one test stops them and others run beside it."""

from __future__ import annotations

import fcntl
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_LOCK = Path(tempfile.gettempdir()) / f"berth-node-programs-{os.getuid()}.lock"


@contextmanager
def node_programs() -> Iterator[None]:
    """No other test uses the node's programs, or stops them, while the block runs."""
    with _LOCK.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
