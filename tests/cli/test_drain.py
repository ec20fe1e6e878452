"""`berth drain` as a preStop hook calls it."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from berth.cli.main import berth


def drain(run_dir: Path, *arguments: str) -> Result:
    """The command in the server's environment."""
    environ = {"BERTH_RUN_DIR": str(run_dir), "BERTH_SLOT": "blue", "BERTH_PORT": "8000"}
    return CliRunner(env=environ).invoke(berth, ["drain", *arguments])


@pytest.fixture
def run_dir(tmp_path: Path) -> Path:
    """What a server leaves in its run directory."""
    (tmp_path / "workers").mkdir()
    return tmp_path


def test_the_file_is_there_at_once_and_the_command_stays(run_dir: Path) -> None:
    began = time.monotonic()
    results: list[Result] = []
    thread = threading.Thread(target=lambda: results.append(drain(run_dir, "--wait-seconds", "1")))
    thread.start()
    while not (run_dir / "drain").exists():
        assert time.monotonic() - began < 5
        time.sleep(0.01)
    assert thread.is_alive()
    thread.join()
    assert results[0].exit_code == 0
    assert time.monotonic() - began >= 1


def test_without_seconds_it_ends_at_once(run_dir: Path) -> None:
    began = time.monotonic()
    assert drain(run_dir).exit_code == 0
    assert time.monotonic() - began < 1
    assert (run_dir / "drain").exists()


@pytest.mark.parametrize("arguments", [["--wait-seconds", "30"], ["--wait-seconds=0"], ["--wait-seconds", "2.5"]])
def test_a_server_that_has_gone_is_no_fault_of_a_hook(tmp_path: Path, arguments: list[str]) -> None:
    began = time.monotonic()
    result = drain(tmp_path / "gone", *arguments)
    assert (result.exit_code, "nothing to drain" in result.output) == (0, True)
    assert time.monotonic() - began < 1  # nobody is left to wait for
    assert not (tmp_path / "gone").exists()


def test_a_person_is_told_of_a_wrong_directory(tmp_path: Path) -> None:
    result = drain(tmp_path)
    assert result.exit_code != 0
    assert "not the run directory" in str(result.exception)
