"""A run directory without room: workers that begin serve on, without metrics, and the log says why."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from berth.telemetry.metrics.allocated import AllocatedDict
from live.berths import Serve, ask, start_ready
from live.server import wait_until

pytestmark = pytest.mark.live


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 4 MB, in memory as /dev/shm is."""
    disk = tmp_path / "small"
    disk.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(disk)]
    if subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("nothing can be mounted here")
    yield disk
    subprocess.run(["umount", "--lazy", str(disk)], check=True)


def fill(disk: Path) -> None:
    """Leave not one block, also of those that a dead worker's files gave back."""
    with (disk / "filler").open("ab", buffering=0) as file:
        try:
            while True:
                file.write(b"x" * 4096)
        except OSError:
            return


def test_a_worker_that_begins_on_a_full_disk_serves(serve: Serve, sleeper_store: Path, small_disk: Path) -> None:
    server = start_ready(serve, sleeper_store, small_disk / "run", workers=1, allow_code="true")
    assert ask(server, "POST", "/predict", {"features": [0.0]})[0] == 200
    fill(small_disk)
    first = {int(path.stem) for path in (small_disk / "run" / "workers").glob("[0-9]*.json")}
    for pid in first:
        os.kill(pid, signal.SIGKILL)

    def explained() -> bool:
        fill(small_disk)
        return "no room for the metrics file" in server.log()

    wait_until(explained, "the reason in the log")
    try:
        wait_until(lambda: ask(server, "POST", "/predict", {"features": [0.0]})[0] == 200, "the new worker")
    except AssertionError:
        print(server.log())
        raise
    assert {ask(server, "POST", "/predict", {"features": [0.0]})[0] for _ in range(20)} == {200}
    assert "SIGBUS" not in server.log()
    assert ask(server, "GET", "/livez")[0] == 200
    assert ask(server, "GET", "/readyz")[0] == 200


def test_a_file_that_cannot_grow_keeps_what_it_has_and_counting_goes_on(
    small_disk: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = small_disk / "counter_1.db"
    values = AllocatedDict(str(file))
    fill(small_disk)
    for number in range(2000):
        values.write_value(f"key-{number:04}" + "x" * 50, float(number), 0.0)
    assert values.read_value("key-1999" + "x" * 50)[0] == 1999.0
    assert values.read_value("key-0000" + "x" * 50)[0] == 0.0
    values.close()
    assert file.stat().st_size == 65536
    assert len(list(AllocatedDict.read_all_values_from_file(str(file)))) > 100
    assert "no room for the metrics file" in caplog.text
    other = AllocatedDict(str(small_disk / "counter_2.db"))
    other.write_value("key", 2.0, 0.0)
    assert other.read_value("key")[0] == 2.0
    other.close()
    assert not (small_disk / "counter_2.db").exists()
