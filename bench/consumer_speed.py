#!/usr/bin/env python3
"""Messages a second of `berth consume`: logistic regression on iris, librdkafka's mock cluster, one consumer.

Usage: bench/consumer_speed.py [--messages 200000] [--batch-rows 1000] [--guarantee at-least-once]

The time is that from the first commit to the last: the start of the process is left out, the producer's work is done
before. The mock cluster runs in this process and so shares the machine with the consumer. BAR is 20,000 rows a second.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click
import httpx
from servers import cpu_seconds, free_port

ROOT = Path(__file__).resolve().parents[1]
BAR = 20_000
_STALL_SECONDS = 60.0
# The mock cluster, unlike a broker, ends the session of a member that waits to join, and never responds to it.
# A busy machine may take that long; librdkafka repeats the request after max.poll.interval.ms, by default five minutes.
_SESSION = {"BERTH_KAFKA_SESSION_TIMEOUT_MS": "6000", "BERTH_KAFKA_MAX_POLL_INTERVAL_MS": "12000"}
_ROWS = [b"[5.1, 3.5, 1.4, 0.2]", b"[6.0, 2.9, 4.5, 1.5]", b"[6.7, 3.0, 5.2, 2.3]"]


def _consumed(process: subprocess.Popen[bytes], port: int) -> float:
    if process.poll() is not None:
        raise click.ClickException(f"the consumer ended with {process.returncode}")
    try:
        lines = httpx.get(f"http://127.0.0.1:{port}/metrics", timeout=2, trust_env=False).text.splitlines()
    except httpx.HTTPError:
        return 0.0
    return sum(float(line.split()[-1]) for line in lines if line.startswith("berth_consumed_total{"))


@contextmanager
def _consumer(store: Path, port: int, arguments: list[str]) -> Iterator[subprocess.Popen[bytes]]:
    environ = {"PATH": os.environ["PATH"], "BERTH_MODEL_STORE": str(store), "BERTH_PORT": str(port)}
    environ |= {"BERTH_HOST": "127.0.0.1", "BERTH_LOG_LEVEL": "warning", **_SESSION}
    process = subprocess.Popen([sys.executable, "-m", "berth", "consume", *arguments], env=environ)
    try:
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(30)


def _wait_for(process: subprocess.Popen[bytes], port: int, messages: int) -> float:
    """How many are committed, once there are so many. Raises ClickException where it does not go on."""
    seen, since = 0.0, time.monotonic()
    while (now := _consumed(process, port)) < messages:
        if now > seen:
            seen, since = now, time.monotonic()
        if time.monotonic() - since > _STALL_SECONDS:
            raise click.ClickException(f"{seen:,.0f} messages are committed, and none in the last {_STALL_SECONDS:g} s")
        time.sleep(0.02)
    return now


def measure(store: Path, messages: int, batch_rows: int, guarantee: str) -> tuple[float, float]:
    """Messages a second, from the first ones that are committed to the last, and CPU seconds of a message."""
    sys.path.append(str(ROOT / "tests"))
    from consuming.brokers import KafkaCluster

    cluster, port = KafkaCluster({"rows": 6, "scores": 6}), free_port()
    cluster.produce("rows", [{"key": b"%d" % at, "value": _ROWS[at % 3]} for at in range(messages)])
    places = [f"{cluster.url}/rows", "--to", f"{cluster.url}/scores"]
    with _consumer(
        store, port, [*places, "--batch-rows", str(batch_rows), "--guarantee", guarantee, "--model", "iris"]
    ) as process:
        first = _wait_for(process, port, 1)
        began, used = time.monotonic(), cpu_seconds(process.pid)
        last = _wait_for(process, port, messages)
        seconds, used = time.monotonic() - began, cpu_seconds(process.pid) - used
    cluster.close()
    return (last - first) / seconds, used / (last - first)


@click.command()
@click.option("--messages", default=200_000, show_default=True, type=click.IntRange(1000))
@click.option("--batch-rows", default=1000, show_default=True, type=click.IntRange(1))
@click.option("--guarantee", default="at-least-once", type=click.Choice(["at-least-once", "exactly-once"]))
def main(messages: int, batch_rows: int, guarantee: str) -> None:
    """Print the figure beside the bar."""
    with tempfile.TemporaryDirectory() as folder:
        store = Path(folder, "store")
        recipe = [sys.executable, str(ROOT / "model_store" / "recipes" / "iris.py"), "--store", str(store)]
        subprocess.run(recipe, check=True, capture_output=True)
        rate, cpu = measure(store, messages, batch_rows, guarantee)
    load = os.getloadavg()[0]
    click.echo(f"{guarantee}, {batch_rows} a batch: {rate:,.0f} messages a second (bar {BAR:,})")
    click.echo(
        f"{cpu * 1e6:.0f} us of CPU a message, of which one core computes {1 / cpu:,.0f} a second; load {load:.1f}"
    )


if __name__ == "__main__":
    main()
