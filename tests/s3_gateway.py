"""A real S3 server for the length of a block, from the programs `up` and `down` that TEST_S3 names."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from live.server import free_port


@contextmanager
def running_s3(folder: Path, *buckets: str) -> Iterator[dict[str, str]]:
    """The AWS_* variables of a server with these buckets, whose state is in `folder`; skips where there is none."""
    programs = os.environ.get("TEST_S3", "")
    if not programs:
        pytest.skip("TEST_S3 is unset: the folder of the programs `up` and `down` of an S3 server")
    environ = {**os.environ, "CLUSTER_HOME": str(folder), "CLUSTER_S3_PORT": str(free_port())}
    started = subprocess.run([f"{programs}/up", *buckets], env=environ, capture_output=True, text=True)
    try:
        assert started.returncode == 0, started.stderr
        yield dict(re.findall(r"(AWS_\w+)=(\S+)", started.stdout))
    finally:
        subprocess.run([f"{programs}/down"], env=environ, check=True, capture_output=True)
