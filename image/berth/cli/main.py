"""The command line: one group, its commands in the modules beside this one.

Exit codes: 0 it worked, 1 it failed or something was found, 2 the command or the settings were wrong.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

import click

from berth import __version__
from berth.cli import (
    bench_command,
    check_commands,
    consume_command,
    drift_command,
    experiment_commands,
    gate_command,
    health_command,
    import_command,
    openapi_command,
    optimize_command,
    process_commands,
    pull_command,
    push_command,
    quality_command,
    score_command,
    serve_command,
    sign_command,
    store_commands,
)
from berth.errors import BerthError, SettingsError


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(__version__, prog_name="berth")
def berth() -> None:
    """Serve a verified model behind an address.

    \b
    berth serve model.joblib               one file, on http://localhost:8000
    berth add model.joblib --name iris     put it into the model store
    berth serve                            everything in the store, at its latest version
    """


_MODULES = (
    serve_command,
    store_commands,
    sign_command,
    check_commands,
    score_command,
    consume_command,
    openapi_command,
    process_commands,
    gate_command,
    pull_command,
    push_command,
    health_command,
    drift_command,
    experiment_commands,
    quality_command,
    bench_command,
    optimize_command,
    import_command,
)
for command in (command for module in _MODULES for command in module.COMMANDS):
    berth.add_command(command)


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
