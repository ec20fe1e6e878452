"""The sign of life: often enough for the arbiter, and not in each turn."""

from __future__ import annotations

from gunicorn.config import Config
from gunicorn.workers.workertmp import WorkerTmp

from berth.worker.heartbeat import SparingThreadWorker


def test_the_file_is_touched_again_and_again_but_not_in_each_turn() -> None:
    worker = SparingThreadWorker.__new__(SparingThreadWorker)
    worker.tmp, seen, turns = WorkerTmp(Config()), set[float](), 0
    while len(seen) < 4:
        worker.notify()
        seen.add(worker.tmp.last_update())
        turns += 1
    worker.tmp.close()
    assert turns > 40
