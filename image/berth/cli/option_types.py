"""What options of several commands share: their types, sets of options, and the check of a URL."""

from __future__ import annotations

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
