#!/usr/bin/env python3
"""What happens at ten times the load that a model can handle: refusals, probes, accepted requests, memory.

Usage: bench/overload.py [--seconds 20] [--model-ms 50] [--max-wait-ms auto]

A model that takes 50 ms behind two workers, each computing one prediction at a time and holding two at most, can
serve 40 requests/s. First it gets requests from one client at a time (unloaded), then 400 a second. With --max-wait-ms
the expected wait limits the queue instead of a number. The last line is what is promised: accepted p99 beside the
unloaded one, goodput beside the capacity, the median of a 429.
"""

from __future__ import annotations

import http.client
import json
import tempfile
import threading
import time
from collections import defaultdict
from pathlib import Path
from typing import TypeAlias

import click
from own import memory_mib, serving

from berth.cli.load import quantile
from berth.loaders.formats import LoadOptions
from berth.publishing.adding import AddRequest, add_version
from berth.tensors.arrays import TensorSpec

WORKERS = 2
MODEL = """
import time

def load(directory):
    def predict(inputs):
        time.sleep(SECONDS)
        return {"prediction": inputs["x"][:, 0]}
    return predict
"""
BODY = json.dumps({"features": [1.0]})
HEADERS = {"Content-Type": "application/json"}


# Milliseconds of the responses of one kind of request, by status; `append` is what its threads call.
Outcomes: TypeAlias = "defaultdict[int, list[float]]"


def tell(what: str, outcomes: Outcomes) -> None:
    """Print a line for each status."""
    for status, values in sorted(outcomes.items()):
        p50, p99 = (quantile(sorted(values), share) for share in (0.5, 0.99))
        click.echo(f"{what:<22} {status}: {len(values):>6} responses, p50 {p50:7.1f} ms, p99 {p99:7.1f} ms")


def call_paced(port: int, path: str, per_second: float, until: float, seen: Outcomes) -> None:
    """One kept connection that sends at a fixed pace, late responses or not."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    due = time.monotonic()
    while due < until:
        time.sleep(max(0.0, due - time.monotonic()))
        began = time.monotonic()
        if path == "/predict":
            connection.request("POST", path, BODY, HEADERS)
        else:
            connection.request("GET", path)
        answer = connection.getresponse()
        answer.read()
        seen[answer.status].append((time.monotonic() - began) * 1000)
        due = max(due + 1 / per_second, time.monotonic() - 1)
    connection.close()


def run_clients(
    port: int, path: str, clients: int, per_second: float, seconds: float, seen: Outcomes
) -> list[threading.Thread]:
    """Start `clients` connections that together send `per_second` requests a second."""
    until = time.monotonic() + seconds
    arguments = (port, path, per_second / clients, until, seen)
    threads = [threading.Thread(target=call_paced, args=arguments) for _ in range(clients)]
    for thread in threads:
        thread.start()
    return threads


def fill_store(folder: Path, model_seconds: float) -> Path:
    """A store with the slow model."""
    (folder / "model").mkdir()
    (folder / "model" / "model.py").write_text(MODEL.replace("SECONDS", str(model_seconds)), "utf-8")
    request = AddRequest("slow", "1", "python", inputs=(TensorSpec("x", "FP64", (-1, 1)),))
    add_version(folder / "store", folder / "model", request, LoadOptions(allow_code=True))
    return folder / "store"


def measure(port: int, pid: int, seconds: float, capacity: float) -> tuple[Outcomes, Outcomes, Outcomes]:
    """Unloaded, then ten times the capacity with probes beside it."""
    unloaded, loaded, probes = (defaultdict[int, list[float]](list) for _ in range(3))
    for thread in run_clients(port, "/predict", 1, 10, 5, unloaded):
        thread.join()
    before = list(map(round, memory_mib(pid)))
    threads = run_clients(port, "/predict", 40, 10 * capacity, seconds, loaded)
    threads += run_clients(port, "/livez", 1, 20, seconds, probes)
    for thread in threads:
        thread.join()
    click.echo(f"memory of the workers    before {before}, after {list(map(round, memory_mib(pid)))} MiB")
    return unloaded, loaded, probes


def conclude(unloaded: Outcomes, loaded: Outcomes, seconds: float, capacity: float) -> None:
    """Print what overload costs beside what was promised."""
    answered = loaded[200]
    accepted = quantile(sorted(answered), 0.99) / quantile(sorted(unloaded[200]), 0.99)
    refused = quantile(sorted(loaded[429]), 0.5) if loaded[429] else 0.0
    goodput = len(answered) / seconds / capacity
    click.echo(
        f"accepted p99 {accepted:.2f} x unloaded; goodput {goodput:.2f} of capacity; median 429 {refused:.1f} ms"
    )


@click.command(help=(__doc__ or "").split("\n")[0])
@click.option("--seconds", default=20.0, show_default=True, help="How long the overload lasts.")
@click.option("--model-ms", default=50.0, show_default=True, help="How long the model takes.")
@click.option("--max-wait-ms", default="", help="BERTH_MAX_WAIT_MS, in the place of two predictions in a worker.")
def main(seconds: float, model_ms: float, max_wait_ms: str) -> None:
    """Measure and print."""
    limit = {"max_wait_ms": max_wait_ms} if max_wait_ms else {"max_inflight": 2}
    settings = {"workers": WORKERS, "cpu_threads": 1, "batch_max_rows": 1, "allow_code": "true", **limit}
    capacity = WORKERS * 1000 / model_ms
    with (
        tempfile.TemporaryDirectory() as name,
        serving(fill_store(Path(name), model_ms / 1000), Path(name, "log"), **settings) as (pid, port),
    ):
        unloaded, loaded, probes = measure(port, pid, seconds, capacity)
    tell("/predict, unloaded", unloaded)
    tell("/predict, 10 x load", loaded)
    tell("/livez, 10 x load", probes)
    conclude(unloaded, loaded, seconds, capacity)


if __name__ == "__main__":
    main()
