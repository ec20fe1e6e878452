"""Other people's programs that tests need, in virtual environments of their own: made once, from pinned lists."""

from __future__ import annotations

import fcntl
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
# The benchmark keeps its peers' environments there as well, and stamps them likewise.
VENVS = ROOT / "bench" / ".venvs"


def _install(folder: Path, requirements: Path) -> None:
    """Make the environment. Raises CalledProcessError with pip's output.

    uv, one of lint's programs, needs a tenth of pip's CPU time. It does not read pip's configuration: what comes
    from an index or a folder that is named there is installed by pip.
    """
    python = str(folder / "bin" / "python")
    if uv := shutil.which("uv", path=str(Path(sys.executable).parent)):
        commands = [
            [uv, "venv", "--quiet", "--clear", "--python", sys.executable, str(folder)],
            [uv, "pip", "install", "--quiet", "--python", python, "-r", str(requirements)],
        ]
        if all(subprocess.run(command, check=False, capture_output=True).returncode == 0 for command in commands):
            return
    subprocess.run([sys.executable, "-m", "venv", "--clear", str(folder)], check=True, capture_output=True)
    pip = [python, "-m", "pip", "install", "--quiet", "--no-compile", "-r", str(requirements)]
    subprocess.run(pip, check=True, capture_output=True, text=True)


def other_venv(name: str, requirements: Path) -> Path:
    """The `bin` folder of the environment `name`; skips the test, with pip's reason, where it cannot be made."""
    folder = VENVS / name
    stamp, wanted = folder / ".installed", requirements.read_text("utf-8")
    VENVS.mkdir(parents=True, exist_ok=True)
    with (VENVS / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # test processes run side by side
        if not (stamp.exists() and stamp.read_text("utf-8") == wanted):
            try:
                _install(folder, requirements)
            except subprocess.CalledProcessError as error:
                reason = str(error.stderr or error).strip().splitlines()[-1]
                pytest.skip(f"{name} cannot be installed: {reason}")
            stamp.write_text(wanted, "utf-8")
    return folder / "bin"
