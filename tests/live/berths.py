"""`berth serve` as a child process over a store, and stores whose models take their time."""

from __future__ import annotations

import http.client
import json
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from berth.loaders.formats import LoadOptions
from berth.publishing.adding import AddRequest, add_version
from berth.tensors.arrays import TensorSpec
from live.server import HOST, Server, free_port, wait_until

Serve = Callable[[Sequence[str], Mapping[str, str], int], Server]

# Sleeps for as many seconds as its row says; answers with the row.
SLEEPER = """
import time

def load(directory):
    def predict(inputs):
        time.sleep(float(inputs["seconds"].max()))
        return {"prediction": inputs["seconds"][:, 0]}
    return predict
"""


def add_sleeper(store: Path, folder: Path) -> None:
    """Put `sleeper` into `store`: features [[seconds]] -> prediction [seconds]."""
    folder.mkdir(exist_ok=True)
    (folder / "model.py").write_text(SLEEPER, "utf-8")
    inputs = (TensorSpec("seconds", "FP64", (-1, 1)),)
    add_version(store, folder, AddRequest("sleeper", "1", "python", inputs=inputs), LoadOptions(allow_code=True))


def start_berth(serve: Serve, store: Path, run_dir: Path, **settings: object) -> Server:
    """`berth serve` over `store`, accepting but perhaps not ready yet; keywords are settings in lower case."""
    port = int(str(settings.get("port") or free_port()))
    environ = {"BERTH_HOST": HOST, "BERTH_PORT": str(port), "BERTH_RUN_DIR": str(run_dir), "BERTH_LOG_FORMAT": "json"}
    environ |= {"BERTH_MODEL_STORE": str(store)}
    environ |= {f"BERTH_{name.upper()}": str(value) for name, value in settings.items()}
    environ["PATH"] = os.environ["PATH"]
    return serve([sys.executable, "-m", "berth", "serve"], environ, port)


def start_ready(serve: Serve, store: Path, run_dir: Path, **settings: object) -> Server:
    """The same, once /readyz answers 200."""
    server = start_berth(serve, store, run_dir, **settings)
    wait_until(lambda: ask(server, "GET", "/readyz")[0] == 200, f"readiness; log:\n{server.log()}")
    return server


@contextmanager
def running_ready(store: Path, folder: Path, **settings: object) -> Iterator[Server]:
    """A server for many tests, ready; its log and its run directory are in `folder`."""
    servers: list[Server] = []

    def serve(command: Sequence[str], env: Mapping[str, str], port: int) -> Server:
        servers.append(Server(command, env, port, folder / "server.log"))
        servers[0].wait_accepting()
        return servers[0]

    try:
        yield start_ready(serve, store, folder / "run", **settings)
    finally:
        for server in servers:
            server.stop()


def ask(server: Server, method: str, path: str, document: Any = None, **headers: str) -> tuple[int, Any]:
    """One request on a connection of its own: status and JSON (or text)."""
    connection = http.client.HTTPConnection(HOST, server.port, timeout=30)
    try:
        return ask_on(connection, method, path, document, **headers)
    finally:
        connection.close()


def ask_on(
    connection: http.client.HTTPConnection, method: str, path: str, document: Any = None, **headers: str
) -> tuple[int, Any]:
    """One request on a kept connection."""
    body = None if document is None else json.dumps(document)
    sent = {"Content-Type": "application/json"} if body is not None else {}
    connection.request(method, path, body, sent | {name.replace("_", "-"): value for name, value in headers.items()})
    response = connection.getresponse()
    text = response.read()
    is_json = (response.headers.get("Content-Type") or "").startswith("application/json")
    return response.status, json.loads(text) if is_json else text.decode()


def metric(server: Server, name: str, **labels: str) -> float:
    """The sum of a metric's samples that have these labels."""
    total = 0.0
    for line in ask(server, "GET", "/metrics")[1].splitlines():
        head, _, value = line.rpartition(" ")
        if head.split("{")[0] == name and all(f'{key}="{text}"' in head for key, text in labels.items()):
            total += float(value)
    return total
