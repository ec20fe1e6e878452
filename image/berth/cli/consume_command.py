"""`berth consume`: predict for the messages of a Kafka topic or a Redis stream."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from berth.cli.option_types import PORT
from berth.cli.serve_command import make_run_dir, settle
from berth.cli.store_option import read_settings, store_option
from berth.consuming.broker_options import parse_dead, parse_place
from berth.consuming.consumer_loop import BatchLimits
from berth.cpu import plan_cpu, read_cpu_budget, thread_environment
from berth.errors import BrokerError
from berth.models.store import select_models
from berth.serving.lifecycle import discard_run_dir
from berth.settings import Settings, encode_settings, read_environment, store_directory
from berth.telemetry import logs

_GUARANTEES = ("at-least-once", "exactly-once")
_TEMPORARY = 75
# Numerical libraries read their number of threads when they are imported, as some are by now.
_MULTIPROCESS = "PROMETHEUS_MULTIPROC_DIR"


def hold_threads(settings: Settings, environ: Mapping[str, str]) -> None:
    """Become this command again with the threads of numerical libraries limited, unless they are."""
    plan = plan_cpu(read_cpu_budget().limit, 1, settings.cpu_threads)
    wanted = thread_environment(plan.cpu_threads)
    if all(environ.get(name) == value for name, value in wanted.items()) and _MULTIPROCESS not in environ:
        return
    given = {name: value for name, value in environ.items() if name != _MULTIPROCESS}
    sys.stdout.flush()
    program = [sys.executable, "-m", "berth", *sys.argv[1:]]
    os.execve(sys.executable, program, given | wanted)  # noqa: S606


def _stop_on_signals() -> threading.Event:
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    return stop


def _consume(settings: Settings, route: Any, environ: Mapping[str, str], stop: threading.Event, notes: Path) -> None:
    from berth.cli.consumer_parts import ConsumerParts
    from berth.consuming.batch_notes import BatchNotes
    from berth.consuming.probe_server import start_probes

    parts = ConsumerParts({**environ, **encode_settings(settings)}, settings)
    probes = start_probes(parts.pipeline, settings.host, settings.port)
    try:
        if (model := parts.load(stop)) is None:
            return
        loop = parts.make_loop(model, route, stop, BatchNotes(notes, f"{route.group} {route.source}"))
        logs.log("consuming", source=str(route.source), sink=str(route.sink), group=route.group)
        loop.run()
        logs.log("stopped", **dict(loop.counts))
    finally:
        probes.server_close()


@click.command()
@click.argument("source")
@click.option("--to", "sink", required=True, metavar="URL", help="Topic or stream that receives the predictions.")
@click.option("--dead", metavar="NAME|URL", help="Topic or stream that receives messages without a prediction.")
@click.option("--group", help="Consumer group [default: berth-MODEL].")
@click.option("--model", help="Model to use, as NAME[@VERSION] [default: the first of BERTH_MODELS or of the store].")
@click.option(
    "--batch-rows", default=1000, type=click.IntRange(1, 100_000), help="Maximum messages in one call of the model."
)
@click.option("--linger-ms", default=50.0, type=click.FloatRange(0, 60_000),
              help="Milliseconds that a batch waits for more messages.")  # fmt: skip
@click.option("--guarantee", default=_GUARANTEES[0], type=click.Choice(_GUARANTEES),
              help="Delivery guarantee if a process dies; exactly-once needs one Kafka cluster.")  # fmt: skip
@click.option("--claim-seconds", default=60.0, type=click.FloatRange(0.1),
              help="Redis: age at which another consumer's pending messages are claimed.")  # fmt: skip
@click.option("--host", help="Address of /livez, /readyz and /metrics [default: BERTH_HOST or 0.0.0.0].")
@click.option("--port", type=PORT, help="Port of /livez, /readyz and /metrics [default: BERTH_PORT or 8000].")
@store_option
def consume(
    source: str,
    sink: str,
    dead: str | None,
    group: str | None,
    model: str | None,
    batch_rows: int,
    linger_ms: float,
    guarantee: str,
    claim_seconds: float,
    host: str | None,
    port: int | None,
    store: str | None,
) -> None:
    """Make predictions for the messages of a Kafka topic or a Redis stream, and send them to another one.

    \b
    berth consume kafka://b1:9092,b2:9092/orders --to kafka://b1:9092,b2:9092/scores --dead orders-dead --model churn
    berth consume redis://cache/orders --to redis://cache/scores?maxlen=100000

    A message is a row, or a body of /predict. A message that cannot be predicted goes to --dead with its code and
    error; without --dead it is logged and skipped. While the broker is unreachable, the command waits. On SIGTERM it
    finishes the current batch.

    Exit codes: 0 stopped; 1 a fault of the model or the store; 2 wrong usage; 75 a fault of the broker, or no time
    left: start it again.
    """
    from berth.cli.consumer_parts import Route, check_route, notes_folder

    environ = read_environment()
    settings = replace(read_settings(model_store=store, host=host, port=port), workers=1, batch_max_rows=1, grpc_port=0)
    places = parse_place(source), parse_place(sink)
    entry = select_models(store_directory(settings), model or settings.models, settings.model_version)[0]
    limits = BatchLimits(batch_rows, linger_ms / 1000)
    where_dead = parse_dead(dead, places[1]) if dead else None
    exactly_once = guarantee == _GUARANTEES[1]
    route = Route(*places, where_dead, group or f"berth-{entry.name}", exactly_once, limits, claim_seconds)
    check_route(route, environ)
    hold_threads(settings, environ)
    stop = _stop_on_signals()
    run_dir = make_run_dir(settings.run_dir)
    try:
        settled = replace(settle(settings, run_dir), models=entry.key)
        _consume(settled, route, environ, stop, notes_folder(settings.run_dir))
    except BrokerError as error:
        click.echo(f"berth: {error.message}", err=True)
        sys.exit(_TEMPORARY)
    finally:
        discard_run_dir(run_dir)


COMMANDS = (consume,)
