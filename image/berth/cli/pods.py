"""The servers that a command queries: URLs, or every pod behind the name of a headless Service."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import click

from berth.cli.option_types import PORT, api_key_option, with_options
from berth.errors import OperatorError

Report = Mapping[str, Any]

# The options that choose servers, and --json.
pod_options = with_options(
    click.option("--headless-host", help="Host name that resolves to the pods, whose reports are added up."),
    click.option("--port", default=8000, type=PORT, help="With --headless-host: port of the pods."),
    api_key_option,
    click.option("--json", "as_json", is_flag=True, help="Print the report as JSON."),
)


def find_pods(host: str, port: int) -> list[str]:
    """The addresses behind a headless Service's name, as URLs. Raises OperatorError."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except OSError as error:
        raise OperatorError(
            f"--headless-host {host!r} cannot be resolved: {error}; is it a headless Service?"
        ) from error
    addresses = sorted({str(sockaddr[0]) for *_, sockaddr in found})
    return [f"http://[{address}]:{port}" if ":" in address else f"http://{address}:{port}" for address in addresses]


def is_url(target: str) -> bool:
    """Whether an argument names a server."""
    return target.startswith(("http://", "https://"))


def choose_urls(targets: Sequence[str], headless_host: str | None, port: int, otherwise: str) -> list[str]:
    """The servers' addresses. Raises OperatorError, click.UsageError; `otherwise` is what a command takes besides."""
    urls = [*targets, *(find_pods(headless_host, port) if headless_host else [])]
    if not urls or not all(map(is_url, urls)):
        raise click.UsageError(f"give the URL of a server, --headless-host HOST, or {otherwise}")
    return urls


def fetch_document(address: str, key: str) -> Any:
    """The JSON document at an address of one server; `key` is an API key or empty. Raises OperatorError."""
    import httpx

    headers = {"X-Api-Key": key} if key else {}
    try:
        response = httpx.get(address, headers=headers, timeout=10, trust_env=False)
        document = response.json()
    except (httpx.HTTPError, httpx.InvalidURL, ValueError) as error:
        raise OperatorError(f"{address}: {error or type(error).__name__}; is it the address of Berth?") from error
    if response.status_code != 200:
        raise OperatorError(f"{address}: {response.status_code} {document.get('error', '')}")
    return document


def fetch_reports(url: str, path: str, key: str) -> list[Report]:
    """The models' reports at a path of one server. Raises OperatorError."""
    models: list[Report] = fetch_document(f"{url.rstrip('/')}{path}", key)["models"]
    return models


def show_reports(
    reports: Sequence[Report], as_json: bool, show: Callable[[Report], None], nothing: str = "", key: str = "models"
) -> None:
    """Print the reports: as JSON under `key`, or each by `show`, and `nothing` where there are none."""
    if as_json:
        click.echo(json.dumps({key: reports}, indent=2))
        return
    for report in reports:
        show(report)
    if nothing and not reports:
        click.echo(nothing, err=True)


def add_pods(
    documents: Sequence[Sequence[Report]], add: Callable[[Sequence[Report]], dict[str, Any]]
) -> list[dict[str, Any]]:
    """The pods' reports, added up for each model by `add`. Raises OperatorError where they do not go together."""
    models: dict[tuple[str, str], list[Report]] = {}
    for document in documents:
        for report in document:
            models.setdefault((report["model"], report["version"]), []).append(report)
    try:
        return [add(reports) for reports in models.values()]
    except ValueError as error:
        raise OperatorError(f"{error}; do all pods serve the same version?") from error
