#!/usr/bin/env python3
"""What a worker's memory does under ten minutes of load, with batching and the cache on.

Usage: bench/memory_growth.py [--seconds 600]

A forest in scikit-learn itself (acceleration off), so that requests share calls; 16 connections send rows that are
never the same, one to eight at a time, so that the cache is full soon and then turns over.
"""

from __future__ import annotations

import subprocess
import tempfile
import time
from pathlib import Path

import click
from batching_gain import fill_store
from own import memory_mib, serving

CACHE_MIB = 32
# Over the memory of a ready worker: the cache, and what 16 requests and their batches hold.
BOUND_MIB = CACHE_MIB + 64
_SCRIPT = """
math.randomseed(os.time())
function request()
  local rows = {}
  for row = 1, math.random(8) do
    rows[row] = string.format("[%.15f,%.15f,%.15f,%.15f]", math.random(), math.random(), math.random(), math.random())
  end
  local body = '{"features":[' .. table.concat(rows, ",") .. ']}'
  return wrk.format("POST", "/predict", {["Content-Type"] = "application/json"}, body)
end
"""


def watch(pid: int, seconds: float, every: float) -> list[float]:
    """The heaviest worker's memory in MiB, reported along the way."""
    began, seen = time.monotonic(), []
    while (at := time.monotonic() - began) < seconds:
        seen.append(max(memory_mib(pid)))
        click.echo(f"{at:5.0f} s  {seen[-1]:4.0f} MiB")
        time.sleep(every)
    return seen


@click.command(help=(__doc__ or "").split("\n")[0])
@click.option("--seconds", default=600.0, show_default=True, help="How long the load lasts.")
def main(seconds: float) -> None:
    """Load, watch, and say whether the bound held; exit 1 if it did not."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        store = fill_store(folder, trees=20)
        (folder / "load.lua").write_text(_SCRIPT, "utf-8")
        settings = {"workers": 2, "accelerate": "off", "cache_bytes": CACHE_MIB << 20, "batch_max_rows": 64}
        with serving(store, folder / "log", **settings) as (pid, port):
            first = max(memory_mib(pid))
            command = ["wrk", "-t1", "-c16", f"-d{seconds:.0f}s", "-s", str(folder / "load.lua")]
            load = subprocess.Popen([*command, f"http://127.0.0.1:{port}"])
            most = max(watch(pid, seconds, max(1.0, seconds / 20)))
            load.wait()
    click.echo(
        f"a worker had {first:.0f} MiB when it was ready and {most:.0f} MiB at most; bound {first + BOUND_MIB:.0f} MiB"
    )
    raise SystemExit(most > first + BOUND_MIB)


if __name__ == "__main__":
    main()
