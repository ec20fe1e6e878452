"""The sign of life: often enough for the arbiter, and not in each turn."""

from __future__ import annotations

import time

from gunicorn.config import Config
from gunicorn.workers.workertmp import WorkerTmp

from berth.worker.heartbeat import SparingThreadWorker


def test_the_file_is_touched_a_few_times_a_second() -> None:
    worker = SparingThreadWorker.__new__(SparingThreadWorker)
    worker.tmp, seen, end = WorkerTmp(Config()), set[float](), time.monotonic() + 1
    while time.monotonic() < end:
        worker.notify()
        seen.add(worker.tmp.last_update())
    worker.tmp.close()
    assert 3 <= len(seen) <= 6
