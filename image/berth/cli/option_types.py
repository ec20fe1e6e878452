"""What options of several commands share: their types, sets of options, and the check of a URL."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import SplitResult, urlsplit

import click

Command = TypeVar("Command", bound=Callable[..., Any])

FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
PORT = click.IntRange(1, 65535)
SECONDS = click.FloatRange(min=1)
COUNT = click.IntRange(min=1)


def with_options(*options: Callable[[Command], Command]) -> Callable[[Command], Command]:
    """What adds all of these options to a command, in their order."""

    def add(command: Command) -> Command:
        for option in reversed(options):
            command = option(command)
        return command

    return add


def split_web_url(url: str) -> SplitResult | None:
    """The parts of an http(s) URL that names a host; None for anything else."""
    try:
        parts = urlsplit(url)
        return parts if parts.scheme in ("http", "https") and parts.hostname and parts.port != 0 else None
    except ValueError:
        return None


def _read_key(context: click.Context, option: click.Parameter, value: Path | None) -> str:
    """The API key in the file; never shown."""
    if value is None:
        return ""
    try:
        key = value.read_text("utf-8").strip()
    except (OSError, ValueError) as error:
        raise click.BadParameter(f"{str(value)!r} cannot be read: {type(error).__name__}") from error
    if not re.fullmatch(r"[\x21-\x7e]+", key):
        raise click.BadParameter(f"{str(value)!r} must hold one API key of printable ASCII characters")
    return key


api_key_option = click.option(
    "--api-key-file", "key", callback=_read_key, type=click.Path(path_type=Path), help="File with the API key to send."
)
