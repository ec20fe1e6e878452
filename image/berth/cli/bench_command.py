"""`berth bench`: how many requests a second a running server handles, and how fast."""

from __future__ import annotations

import json
import sys
import time
from http import HTTPStatus
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import click

from berth.cli.load import Load, Request, Tally, connect, quantile
from berth.cli.option_types import FILE, split_web_url
from berth.errors import OperatorError

_TICK_SECONDS = 0.1


def _parse_url(_: click.Context, __: click.Parameter, url: str) -> str:
    if split_web_url(url) is None:
        raise click.BadParameter(f"{url!r}: want http://HOST:PORT, or the URL of a prediction route")
    return url


def _parse_headers(_: click.Context, __: click.Parameter, lines: tuple[str, ...]) -> dict[str, str]:
    headers = {}
    for line in lines:
        name, colon, value = line.partition(":")
        if not colon or not name.strip():
            raise click.BadParameter(f"{line!r}: want 'NAME: VALUE'")
        headers[name.strip()] = value.strip()
    return headers


def fetch_models(url: str, headers: dict[str, str]) -> list[dict[str, Any]]:
    """The models that the server's /info lists. Raises OperatorError."""
    connection = connect(url, timeout=10)
    try:
        connection.request("GET", "/info", headers=headers)
        answer = connection.getresponse()
        body = answer.read()
    finally:
        connection.close()
    try:
        models: list[dict[str, Any]] = json.loads(body)["models"]
    except (ValueError, KeyError, TypeError) as error:
        said = body[:200].decode(errors="replace")
        raise OperatorError(f"{url}/info returned {answer.status} {said!r}; give the body with --body FILE") from error
    return models


def example_body(models: list[dict[str, Any]], name: str | None) -> bytes:
    """The example of the model with that name, or of the first, as /predict accepts it. Raises OperatorError."""
    chosen = [model for model in models if name in (None, model["name"])]
    if not chosen:
        there = ", ".join(model["name"] for model in models) or "none; is it ready?"
        raise OperatorError(f"the server has no model {name or 'at all'!r}; it has {there}")
    return json.dumps({**chosen[0]["example"], "model": chosen[0]["name"]}).encode()


def _wait(load: Load, seconds: float) -> Tally:
    """Show how far the load is, then what it saw."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (BarColumn(), TimeRemainingColumn(), TextColumn("{task.fields[served]} responses"))
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("", total=seconds, served=0)
        began = time.monotonic()
        while (passed := time.monotonic() - began) < seconds:
            progress.update(task, completed=passed, served=load.answered())
            time.sleep(min(_TICK_SECONDS, seconds - passed))
    return load.finish()


def describe(tally: Tally, seconds: float) -> list[str]:
    """What the command prints of a tally."""
    times = " · ".join(
        f"{name} {1000 * quantile(tally.seconds, share):.1f} ms"
        for name, share in (("p50", 0.5), ("p95", 0.95), ("p99", 0.99), ("max", 1.0))
    )
    lines = [f"{len(tally.seconds) / seconds:.0f} requests/s ({len(tally.seconds)} in {seconds:g} s)"]
    lines += [times] if tally.seconds else []
    lines += [f"{tally.refused} refused (429): the server demands less load"] if tally.refused else []
    for status, count in sorted(tally.statuses.items()):
        if status >= HTTPStatus.MULTIPLE_CHOICES and status != HTTPStatus.TOO_MANY_REQUESTS:
            lines.append(f"{count} returned {status}: {tally.said[status]}")
    return lines + [f"{count} without a response: {why}" for why, count in tally.broken.most_common(5)]


@click.command()
@click.argument("url", callback=_parse_url)
@click.option("--seconds", default=10.0, type=click.FloatRange(0.1, 3600), help="Duration of the load.")
@click.option("--connections", default=16, type=click.IntRange(1, 1024), help="Number of open connections.")
@click.option("--body", type=FILE, help="File with the body to send.")
@click.option("--model", help="Model whose example is sent if there is no --body [default: the server's first].")
@click.option(
    "--header", "headers", multiple=True, callback=_parse_headers, metavar="NAME:VALUE", help="Header; may be repeated."
)
def bench(
    url: str, seconds: float, connections: int, body: Path | None, model: str | None, headers: dict[str, str]
) -> None:
    """Load a running server, and report its requests per second and its latencies.

    \b
    berth bench http://localhost:8000                     the first model's example, to /predict
    berth bench http://localhost:8000 --model iris --seconds 30
    berth bench http://localhost:8000/v2/models/iris/infer --body request.json

    URL is a server or one prediction route. Each connection sends its next request after the response to the last one.
    The client is written in Python and reaches a few thousand requests per second at most. Exit code 1 if anything but
    refusals (429) went wrong.
    """
    base = urlsplit(url)._replace(path="", query="", fragment="").geturl()
    target = url if urlsplit(url).path.strip("/") else f"{base}/predict"
    content = body.read_bytes() if body else example_body(fetch_models(base, headers), model)
    request = Request(target, content, {"Content-Type": "application/json", **headers})
    click.echo(f"POST {target}, {len(content)} bytes, {connections} connections")
    tally = _wait(Load(request, connections, seconds), seconds)
    for line in describe(tally, seconds):
        click.echo(line)
    sys.exit(1 if tally.failed or not tally.seconds else 0)


COMMANDS = (bench,)
