"""The types that options of several commands have."""

from __future__ import annotations

from pathlib import Path

import click

FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
PORT = click.IntRange(1, 65535)
SECONDS = click.FloatRange(min=1)
COUNT = click.IntRange(min=1)
