"""The command line: one group, its commands in the modules beside this one.

Exit codes: 0 it worked, 1 it failed or something was found, 2 the command or the settings were wrong.
"""

from __future__ import annotations

import sys
from collections import UserDict
from collections.abc import Sequence
from importlib import import_module
from typing import Any

import click

from berth import __version__
from berth.errors import BerthError, SettingsError

# The module of each command: only that of the one that runs is imported, as some take half a second.
MODULES = {
    "serve": "serve_command",
    "add": "store_commands",
    "list": "store_commands",
    "sign": "sign_command",
    "inspect": "check_commands",
    "verify": "check_commands",
    "predict": "check_commands",
    "score": "score_command",
    "consume": "consume_command",
    "openapi": "openapi_command",
    "settings": "process_commands",
    "drain": "process_commands",
    "gate": "gate_command",
    "pull": "pull_command",
    "push": "push_command",
    "health": "health_command",
    "drift": "drift_command",
    "experiment": "experiment_commands",
    "quality": "quality_command",
    "bench": "bench_command",
    "optimize": "optimize_command",
    "import-mlserver": "import_command",
}


class _Commands(UserDict[str, Any]):
    """The commands of MODULES by their names, imported when they are looked up."""

    def __getitem__(self, name: str) -> click.Command:
        module = import_module(f"berth.cli.{self.data[name]}")
        found: click.Command = next(command for command in module.COMMANDS if command.name == name)
        return found


@click.group(
    commands=_Commands(MODULES),
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110, "show_default": True},
)
@click.version_option(__version__, prog_name="berth")
def berth() -> None:
    """Serve trained models over HTTP.

    \b
    berth serve model.joblib               one file, on http://localhost:8000
    berth add model.joblib --name iris     add it to the model store
    berth serve                            the latest version of every model in the store
    """


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command; what Berth or the disk refuses is one line on standard error, never a traceback."""
    try:
        berth(arguments, standalone_mode=True)
    except BerthError as error:
        click.echo(f"berth: {error.message}", err=True)
        sys.exit(2 if isinstance(error, SettingsError) else 1)
    except OSError as error:
        click.echo(f"berth: {error}", err=True)
        sys.exit(1)
