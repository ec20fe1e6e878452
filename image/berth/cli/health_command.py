"""`berth health`: is the server beside this command ready? For a container's HEALTHCHECK, which has no curl."""

from __future__ import annotations

import sys
from urllib.error import HTTPError, URLError
from urllib.request import ProxyHandler, build_opener

import click

from berth.cli.store_option import read_settings

_ANY_ADDRESS = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}  # noqa: S104 - what a server may listen on
_LONGEST_BODY = 65_536


def local_url(host: str, port: int) -> str:
    """Where a server that listens on `host` responds on this machine."""
    host = _ANY_ADDRESS.get(host, host)
    return f"http://{f'[{host}]' if ':' in host else host}:{port}/health"


def ask_health(url: str, timeout: float) -> tuple[bool, str]:
    """Whether the server says that it is ready, and what it says. Never through a proxy."""
    try:
        with build_opener(ProxyHandler({})).open(url, timeout=timeout) as answer:
            return True, answer.read(_LONGEST_BODY).decode(errors="replace")
    except HTTPError as error:
        return False, error.read(_LONGEST_BODY).decode(errors="replace")
    except (URLError, OSError, ValueError) as error:
        return False, f"{url}: {error}"


@click.command()
@click.option("--url", help="URL to request [default: /health at BERTH_HOST and BERTH_PORT].")
@click.option("--timeout", default=3.0, type=click.FloatRange(0.1, 600), help="Seconds to wait.")
def health(url: str | None, timeout: float) -> None:
    """Exit with 0 if the server is ready, with 1 if it is not or does not respond.

    \b
    berth health                       with the server's environment, as the image's HEALTHCHECK does
    berth health --url http://localhost:8000/livez
    """
    settings = read_settings()
    ready, said = ask_health(url or local_url(settings.host, settings.port), timeout)
    click.echo(said.rstrip(), err=not ready)
    sys.exit(0 if ready else 1)


COMMANDS = (health,)
