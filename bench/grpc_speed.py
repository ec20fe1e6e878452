#!/usr/bin/env python3
"""ModelInfer requests a second of Berth beside MLServer: one client, rounds in turn, 1 and 64 rows.

Usage: bench/grpc_speed.py [--rounds 3] [--seconds 3] [--channels 16]

Logistic regression on iris, raw tensors. The client is two processes with half of the channels each, and one request in
flight on each channel; it sends and counts bytes, so that both servers leave it as much of the machine. MLServer's
variants are those of bench/run, and the best of them counts. BAR: Berth serves as many requests a second as MLServer.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from statistics import median

import click
import numpy as np
from cases import CASES, model_file, train_models
from compared_servers import PEERS, Variant
from environments import prepare
from measure import serving_peer
from own import serving
from server_turns import compare
from servers import ServerFailed, free_port

from berth.rpc.messages import message_classes

BAR = 1.0
ROWS = (1, 64)
BERTH, MLSERVER = "Berth", "MLServer"
_PROCESSES = 2
_METHOD = "/inference.GRPCInferenceService/ModelInfer"
_PEER = next(peer for peer in PEERS if peer.name == "mlserver")
_OPTIONS = (("grpc.use_local_subchannel_pool", 1),)  # or all channels would share one connection


async def _load(port: int, request: bytes, channels: int, until: float) -> int:
    """How many responses come before `until` (monotonic)."""
    import grpc.aio

    async def one() -> int:
        done = 0
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}", options=_OPTIONS) as channel:
            call = channel.unary_unary(_METHOD)
            while time.monotonic() < until:
                await call(request, timeout=20)
                done += 1
        return done

    return sum(await asyncio.gather(*(one() for _ in range(channels))))


def _request(model: str, name: str, rows: int) -> bytes:
    from sklearn.datasets import load_iris

    tensor = {"name": name, "datatype": "FP64", "shape": [rows, 4]}
    request = message_classes("inference")["ModelInferRequest"](model_name=model, inputs=[tensor])
    request.raw_input_contents.append(np.ascontiguousarray(load_iris().data[:rows]).tobytes())
    return bytes(request.SerializeToString())


def _check(port: int, request: bytes, rows: int) -> None:
    """The server predicts what iris is. Raises RuntimeError."""
    import grpc

    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        data = channel.unary_unary(_METHOD)(request, timeout=20, wait_for_ready=True)
    answer = message_classes("inference")["ModelInferResponse"].FromString(data)
    if answer.raw_output_contents:
        got = np.frombuffer(answer.raw_output_contents[0], np.int64).tolist()
    else:
        got = list(answer.outputs[0].contents.int64_contents)
    if len(got) != rows or got[0] != 0:
        raise RuntimeError(f"{rows} rows have the predictions {got[:5]}")


def _rate(port: int, request: Path, channels: int, seconds: float) -> float:
    """Responses a second that the client's processes count."""
    words = [str(port), str(request), str(channels // _PROCESSES), str(seconds)]
    command = [sys.executable, __file__, "--client", json.dumps(words)]
    clients = [subprocess.Popen(command, stdout=subprocess.PIPE) for _ in range(_PROCESSES)]
    counts = [client.communicate()[0] for client in clients]
    if any(client.returncode for client in clients):
        raise RuntimeError("a request failed; see above")
    return sum(float(count) for count in counts)


def _prepare(folder: Path) -> Path:
    """MLServer's environment, the models, and Berth's store. Raises ClickException."""
    if problem := prepare(_PEER, ["lr"], ""):
        raise click.ClickException(f"MLServer cannot be installed: {problem}")
    train_models()
    command = [sys.executable, "-m", "berth", "add", str(model_file("lr")), "--name", "lr", "--store"]
    subprocess.run([*command, str(folder / "store")], check=True, stdout=subprocess.DEVNULL)
    return folder / "store"


def _choose(request: Path, channels: int) -> Variant:
    """MLServer's best variant for a request."""
    rates: dict[str, float] = {}
    for variant in _PEER.variants:
        try:
            with serving_peer(_PEER, variant, CASES[0]) as (server, _):
                _rate(server.port + 1, request, channels, 1)
                rates[variant.title] = _rate(server.port + 1, request, channels, 1)
        except (ServerFailed, RuntimeError) as error:
            click.echo(f"  MLServer, {variant.title}: {error}")
            continue
        click.echo(f"  MLServer, {variant.title}: {rates[variant.title]:,.0f}")
    if not rates:
        raise click.ClickException("MLServer does not serve in any of its variants")
    return max(_PEER.variants, key=lambda variant: rates.get(variant.title, 0.0))


def measure(folder: Path, rounds: int, seconds: float, channels: int) -> dict[int, dict[str, list[float]]]:
    """Requests a second by rows and server, one figure a round."""
    store = _prepare(folder)
    requests: dict[str, dict[int, Path]] = {BERTH: {}, MLSERVER: {}}
    for server, rows in ((server, rows) for server in requests for rows in ROWS):
        names = ("lr", "features") if server == BERTH else ("model", "predict")
        requests[server][rows] = folder / f"{server}-{rows}"
        requests[server][rows].write_bytes(_request(*names, rows))
    best = _choose(requests[MLSERVER][1], channels)
    found: dict[int, dict[str, list[float]]] = {rows: {server: [] for server in requests} for rows in ROWS}
    with ExitStack() as stack:
        ports = {BERTH: free_port()}
        stack.enter_context(serving(store, folder / "berth.log", models="lr", workers=2, grpc_port=ports[BERTH]))
        ports[MLSERVER] = stack.enter_context(serving_peer(_PEER, best, CASES[0]))[0].port + 1
        for server, rows in ((server, rows) for server in ports for rows in ROWS):
            _check(ports[server], requests[server][rows].read_bytes(), rows)
            _rate(ports[server], requests[server][rows], channels, 1)
        for at in range(rounds):
            for rows, server in ((rows, server) for rows in ROWS for server in list(ports)[:: -1 if at % 2 else 1]):
                found[rows][server].append(_rate(ports[server], requests[server][rows], channels, seconds))
    return found


@click.command(help=(__doc__ or "").split("\n")[0])
@click.option("--rounds", default=3, show_default=True, type=click.IntRange(1))
@click.option("--seconds", default=3.0, show_default=True, help="Of one server's load.")
@click.option("--channels", default=16, show_default=True, type=click.IntRange(2))
@click.option("--client", hidden=True)
def main(rounds: int, seconds: float, channels: int, client: str | None) -> None:
    """Print the figures beside the bar."""
    if client:
        port, request, own, duration = json.loads(client)
        until = time.monotonic() + float(duration)
        count = asyncio.run(_load(int(port), Path(request).read_bytes(), int(own), until))
        click.echo(count / float(duration))
        return
    with tempfile.TemporaryDirectory() as folder:
        found = measure(Path(folder), rounds, seconds, channels)
    for rows, rates in found.items():
        ratio = compare(rates[BERTH], rates[MLSERVER])
        said = ", ".join(f"{server} {median(values):,.0f}" for server, values in rates.items())
        click.echo(f"{rows} rows: {said} requests a second, ratio {ratio:.2f} (bar {BAR:g})")
    click.echo(f"load {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    main()
