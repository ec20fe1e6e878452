"""What workers tell one another through files: states, readiness, draining, being stuck."""

from __future__ import annotations

import json
import threading
from pathlib import Path

from berth.serving.lifecycle import (
    FAILED,
    READY,
    Lifecycle,
    ModelState,
    Readiness,
    write_drain,
    write_worker_count,
)
from berth.whole_files import write_whole


def other_worker(run_dir: Path, pid: int, **states: str) -> None:
    """A file as another worker writes it."""
    document = {name: {"state": state, "reason": "why" if state == FAILED else ""} for name, state in states.items()}
    (run_dir / "workers" / f"{pid}.json").write_text(json.dumps(document))


def test_ready_when_every_model_is(tmp_path: Path) -> None:
    lifecycle = Lifecycle(tmp_path, 1, ["a", "b"])
    assert lifecycle.readiness() == Readiness(False, "loading: 0 of 1 workers have loaded their models")
    lifecycle.set_state("a", READY)
    assert not lifecycle.readiness().ready
    assert not lifecycle.settled
    lifecycle.set_state("b", READY)
    assert lifecycle.readiness() == Readiness(True)
    assert lifecycle.settled


def test_ready_only_when_every_worker_is(tmp_path: Path) -> None:
    lifecycle = Lifecycle(tmp_path, 2, ["a"])
    lifecycle.set_state("a", READY)
    assert lifecycle.readiness() == Readiness(False, "loading: 1 of 2 workers have loaded their models")
    other_worker(tmp_path, 1, a="loading")
    assert not lifecycle.readiness().ready
    other_worker(tmp_path, 1, a=READY)
    assert lifecycle.readiness().ready


def test_a_replacement_that_still_loads_does_not_turn_ready_off(tmp_path: Path) -> None:
    lifecycle = Lifecycle(tmp_path, 1, ["a"])
    lifecycle.set_state("a", READY)
    other_worker(tmp_path, 1, a="loading")
    assert lifecycle.readiness().ready
    other_worker(tmp_path, 1, a=FAILED)
    assert lifecycle.readiness() == Readiness(False, "a failed: why")


def test_a_failure_is_told_with_its_reason(tmp_path: Path) -> None:
    lifecycle = Lifecycle(tmp_path, 1, ["a"])
    lifecycle.set_state("a", FAILED, "no such file")
    assert lifecycle.readiness() == Readiness(False, "a failed: no such file")
    assert lifecycle.states["a"] == ModelState(FAILED, "no such file")
    assert lifecycle.settled


def test_draining_turns_ready_off(tmp_path: Path) -> None:
    lifecycle = Lifecycle(tmp_path, 1, [])
    lifecycle.set_state("a", READY)
    assert not lifecycle.draining
    write_drain(tmp_path)
    assert lifecycle.draining
    assert "draining" in lifecycle.readiness().reason


def test_stuck_workers_are_seen_by_all(tmp_path: Path) -> None:
    mine, other = Lifecycle(tmp_path, 2, []), Lifecycle(tmp_path, 2, [])
    assert other.stuck_workers() == []
    mine.mark_stuck(True)
    mine.mark_stuck(True)
    assert len(other.stuck_workers()) == 1
    mine.mark_stuck(False)
    mine.mark_stuck(False)
    assert other.stuck_workers() == []


def test_a_reader_never_sees_half_a_file(tmp_path: Path) -> None:
    lifecycle = Lifecycle(tmp_path, 1, [f"model-{number}" for number in range(200)])
    done = threading.Event()
    seen: list[int] = []

    def read() -> None:
        while not done.is_set():
            seen.extend(len(states) for states in lifecycle.all_states())

    reader = threading.Thread(target=read)
    reader.start()
    for number in range(100):
        lifecycle.set_state(f"model-{number}", READY)
    done.set()
    reader.join()
    assert set(seen) <= {200}
    assert [path.name for path in (tmp_path / "workers").iterdir() if path.suffix == ".part"] == []


def test_whole_files_replace_older_ones(tmp_path: Path) -> None:
    write_whole(tmp_path / "x", "one")
    write_whole(tmp_path / "x", "zwölf")
    assert (tmp_path / "x").read_text("utf-8") == "zwölf"
    assert len(list(tmp_path.iterdir())) == 1


def test_a_server_whose_workers_are_all_blocked_is_not_ready(tmp_path: Path) -> None:
    lifecycle = Lifecycle(tmp_path, workers=2, models=["iris@1"])
    (tmp_path / "all-ready").touch()
    assert lifecycle.mark_blocked(True)  # the other worker can answer
    assert lifecycle.readiness().ready
    (tmp_path / "blocked-1").touch()
    assert not lifecycle.mark_blocked(True)
    assert "no worker can respond" in lifecycle.readiness().reason
    assert lifecycle.mark_blocked(False)
    assert lifecycle.readiness().ready


def test_workers_that_were_added_or_ended_count(tmp_path: Path) -> None:
    one = Lifecycle(tmp_path, 1, [])
    (tmp_path / "all-ready").touch()
    (tmp_path / "blocked-4711").touch()
    assert not one.readiness().ready
    write_worker_count(tmp_path, 2)
    assert one.readiness().ready  # the second one responds
    write_worker_count(tmp_path, 1)
    assert not one.readiness().ready
