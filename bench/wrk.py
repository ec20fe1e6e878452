"""wrk as a function: a load, and what it saw. wrk runs one thread; it shares the machine's cores with the server."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

# The body is a file and the figures are JSON, so that nothing is read out of wrk's text.
_SCRIPT = """
local file = assert(io.open(%(body)s, "rb"))
wrk.method = "POST"
for name, value in pairs(%(headers)s) do wrk.headers[name] = value end
wrk.body = file:read("*a")
file:close()

function done(summary, latency, requests)
  local e = summary.errors
  io.write(string.format(
    '{"requests": %%d, "seconds": %%.6f, "p50": %%.4f, "p99": %%.4f, "wrong": %%d, "broken": %%d}\\n',
    summary.requests, summary.duration / 1e6, latency:percentile(50) / 1e3, latency:percentile(99) / 1e3,
    e.status, e.connect + e.read + e.write + e.timeout))
end
"""
# The same request with its body as one chunk.
_CHUNKED = """
local plain = wrk.body
local whole = nil
function request()
  if whole == nil then
    wrk.headers["Transfer-Encoding"] = "chunked"
    local head = wrk.format(nil, nil, nil, ""):gsub("Content%-Length: 0\\r\\n", "")
    whole = head .. string.format("%x\\r\\n", #plain) .. plain .. "\\r\\n0\\r\\n\\r\\n"
  end
  return whole
end
"""
# Requests at a fixed rate: each connection that is free takes the next place in the timetable. A server that falls
# behind is sent what is late at once, so the rate that was reached shows whether it kept up.
_PACED = """
local ffi = require("ffi")
ffi.cdef("typedef struct { long s; long ns; } moment; int clock_gettime(int, moment *);")
local moment = ffi.new("moment")
local gap, at = %(gap)f, nil
function delay()
  ffi.C.clock_gettime(1, moment)
  local now = tonumber(moment.s) * 1e3 + tonumber(moment.ns) / 1e6
  at = (at or now) + gap
  return math.max(0, at - now)
end
"""


@dataclass(frozen=True)
class Seen:
    """Good responses and their rate a second, milliseconds, and what was not a good response."""

    good: int
    rate: float
    p50: float
    p99: float
    wrong: int
    broken: int


def find_wrk() -> str | None:
    """Where wrk is."""
    return shutil.which("wrk")


def _table(values: Mapping[str, str]) -> str:
    """A mapping as Lua writes it."""
    return "{" + ", ".join(f"[{json.dumps(name)}] = {json.dumps(value)}" for name, value in values.items()) + "}"


def run_wrk(
    url: str,
    body: bytes,
    folder: Path,
    *,
    seconds: float,
    connections: int,
    rate: float | None = None,
    headers: Mapping[str, str] | None = None,
    chunked: bool = False,
) -> Seen:
    """Load the URL for some seconds, as fast as it goes or at a fixed rate. Raises CalledProcessError."""
    (folder / "body").write_bytes(body)
    fields = {"Content-Type": "application/json", **(headers or {})}
    script = _SCRIPT % {"body": json.dumps(str(folder / "body")), "headers": _table(fields)}
    if chunked:
        script += _CHUNKED
    if rate:
        script += _PACED % {"gap": 1000 / rate}
    (folder / "load.lua").write_text(script, "utf-8")
    command = ["wrk", "-t1", f"-c{connections}", f"-d{max(1, round(seconds))}s", "--timeout", "20s"]
    done = subprocess.run([*command, "-s", str(folder / "load.lua"), url], check=True, capture_output=True, text=True)
    seen = json.loads(done.stdout.splitlines()[-1])
    good = seen["requests"] - seen["wrong"]
    return Seen(good, good / seen["seconds"], seen["p50"], seen["p99"], seen["wrong"], seen["broken"])
