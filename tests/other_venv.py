"""Other people's programs that tests need, in virtual environments of their own: made once, from pinned lists."""

from __future__ import annotations

import fcntl
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
# The benchmark keeps its peers' environments there as well, and stamps them likewise.
VENVS = ROOT / "bench" / ".venvs"


def other_venv(name: str, requirements: Path) -> Path:
    """The `bin` folder of the environment `name`; skips the test, with pip's reason, where it cannot be made."""
    folder = VENVS / name
    stamp, wanted = folder / ".installed", requirements.read_text("utf-8")
    VENVS.mkdir(parents=True, exist_ok=True)
    with (VENVS / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # test processes run side by side
        if not (stamp.exists() and stamp.read_text("utf-8") == wanted):
            try:
                subprocess.run([sys.executable, "-m", "venv", "--clear", str(folder)], check=True, capture_output=True)
                pip = [str(folder / "bin" / "python"), "-m", "pip", "install", "--quiet", "-r", str(requirements)]
                subprocess.run(pip, check=True, capture_output=True, text=True)
            except subprocess.CalledProcessError as error:
                reason = str(error.stderr or error).strip().splitlines()[-1]
                pytest.skip(f"{name} cannot be installed: {reason}")
            stamp.write_text(wanted, "utf-8")
    return folder / "bin"
