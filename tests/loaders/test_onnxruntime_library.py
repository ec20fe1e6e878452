"""onnxruntime's telemetry stays off, in a process that Berth has not prepared."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

OPEN = "from berth.loaders.onnxruntime_library import import_onnxruntime; import_onnxruntime()"


def test_nothing_is_written_to_the_home_directory(tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-c", OPEN], check=True, env={"HOME": str(tmp_path), "PATH": "/usr/bin"})
    assert list(tmp_path.rglob("*")) == []
