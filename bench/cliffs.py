#!/usr/bin/env python3
"""Berth beside itself: the prediction routes, both transports, and the settings that could cost requests.

Usage: bench/cliffs.py [--rounds 3] [--seconds 3] [--only PATTERN]

Logistic regression on iris, one row a request, 16 connections, two workers. Each line is a ratio to `/predict` with
every setting at its default, measured in the same rounds. `pooled` sends the same request with a chunked body, which
the main thread leaves to the worker's thread pool.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from fnmatch import fnmatch
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from statistics import median
from threading import Thread

import click
from cases import STORE, fill_store, train_models
from own import serving
from server_turns import ROW, compare, load_well

KEY = "bench-key"
TENSOR = {"name": "features", "shape": [1, 4], "datatype": "FP64", "data": ROW}
# What each must reach of the default, and what what its ratio is relative to.
ROUTE, SETTING = 0.8, 0.85


@dataclass(frozen=True)
class Cliff:
    """One line of the table: a request, the server's settings, and the share of the default that it must reach."""

    name: str
    path: str = "/predict"
    body: object = field(default_factory=lambda: {"features": ROW})
    settings: Mapping[str, object] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    chunked: bool = False
    target: float = 0.0


def list_lines(folder: Path, collector: str) -> list[Cliff]:
    """The table, for a folder that holds the key file and the payload log, and a collector of traces."""
    keys = folder / "keys"
    keys.write_text(f"bench:{hashlib.sha256(KEY.encode()).hexdigest()}\n", "utf-8")
    v2 = {"inputs": [TENSOR]}
    payloads = {"payload_log": f"{folder / 'payloads.jsonl'}?sample=0.01"}
    traces = {"OTEL_EXPORTER_OTLP_ENDPOINT": collector}
    return [
        Cliff("/predict"),
        Cliff("/v2/models/lr/infer", "/v2/models/lr/infer", v2, target=ROUTE),
        Cliff("/v2/models/lr/versions/1/infer", "/v2/models/lr/versions/1/infer", v2, target=ROUTE),
        Cliff("/v1/models/lr:predict", "/v1/models/lr:predict", {"instances": [ROW]}, target=ROUTE),
        Cliff("/invocations", "/invocations", {"inputs": [ROW]}, target=ROUTE),
        Cliff("/predict, pooled", chunked=True),
        Cliff("payload log, sample=0.01", settings=payloads, target=SETTING),
        Cliff("API keys", settings={"api_keys_file": keys}, headers={"X-Api-Key": KEY}, target=SETTING),
        Cliff("traces", settings=traces),
    ]


@contextmanager
def collecting() -> Iterator[str]:
    """The URL of a collector that accepts traces and forgets them."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            """Nobody reads it."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def measure(lines: list[Cliff], folder: Path, rounds: int, seconds: float) -> dict[str, list[float]]:
    """Requests a second of each line, a figure a round. Raises RuntimeError when a response is an error."""
    rates: dict[str, list[float]] = {line.name: [] for line in lines}
    settings = list({json.dumps(dict(line.settings), default=str): line.settings for line in lines}.values())
    with ExitStack() as stack:
        ports = []
        for at, own in enumerate(settings):
            log = folder / f"log-{at}"
            ports.append(stack.enter_context(serving(STORE, log, models="lr", workers=2, **own))[1])
        for _ in range(rounds):
            for line in lines:
                url = f"http://127.0.0.1:{ports[settings.index(line.settings)]}{line.path}"
                body = json.dumps(line.body).encode()
                load = partial(load_well, line.name, url, body, folder, headers=line.headers, chunked=line.chunked)
                load(seconds=1)
                rates[line.name].append(load(seconds=seconds).rate)
    return rates


@click.command(help=(__doc__ or "").split("\n")[0])
@click.option("--rounds", default=3, show_default=True, help="Turns of every line; medians are printed.")
@click.option("--seconds", default=3.0, show_default=True, help="Load per turn.")
@click.option("--only", default="*", show_default=True, metavar="PATTERN", help="Lines by name; the default always.")
def main(rounds: int, seconds: float, only: str) -> None:
    """Measure, print a table, and exit 1 if a line is below its target."""
    train_models()
    fill_store(["lr"])
    with tempfile.TemporaryDirectory() as name, collecting() as collector:
        folder = Path(name)
        lines = [line for line in list_lines(folder, collector) if line.name == "/predict" or fnmatch(line.name, only)]
        rates = measure(lines, folder, rounds, seconds)
    default = median(rates["/predict"])
    low = []
    for line in lines:
        share = compare(rates[line.name], rates["/predict"])
        wanted = f"  at least {line.target:.2f}" if line.target else ""
        click.echo(f"{line.name:32} {median(rates[line.name]):8,.0f}/s  {share:5.2f} of the default{wanted}")
        low += [line.name] if share < line.target else []
    click.echo(f"default: {default:,.0f}/s; below their target: {', '.join(low) or 'none'}")
    raise SystemExit(1 if low else 0)


if __name__ == "__main__":
    main()
