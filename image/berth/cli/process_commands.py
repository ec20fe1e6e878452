"""`berth settings` and `berth drain`: how the server is configured, and how it stops accepting traffic."""

from __future__ import annotations

import json
import time
from pathlib import Path

import click

from berth.cli.printed_tables import print_table
from berth.cli.store_option import read_settings
from berth.errors import SettingsError
from berth.serving.lifecycle import write_drain
from berth.settings import describe_settings, read_environment


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")
def settings(as_json: bool) -> None:
    """Print every setting, its value, and where the value came from.

    \b
    berth settings
    BERTH_WORKERS=4 berth settings --json
    """
    rows = describe_settings(read_settings(), read_environment())
    if as_json:
        keys = ("name", "value", "source", "help")
        click.echo(json.dumps([dict(zip(keys, row, strict=True)) for row in rows], indent=2))
        return
    print_table(("setting", "value", "from", "what it does"), rows)


@click.command()
@click.option("--run-dir", help="Run directory of the server [default: BERTH_RUN_DIR].")
@click.option(
    "--wait-seconds",
    type=click.FloatRange(0, 3600),
    help="Seconds to wait while requests continue; with it, a server that is already gone is not an error.",
)
def drain(run_dir: str | None, wait_seconds: float | None) -> None:
    """Make /readyz return 503 in every worker, while requests are still served.

    \b
    berth drain --wait-seconds 10      with the server's environment, as the chart's preStop hook does
    berth drain --run-dir /run/berth
    """
    found = run_dir or read_settings().run_dir
    if not found:
        raise SettingsError("which server? set BERTH_RUN_DIR for it and for this command, or give --run-dir")
    try:
        if not Path(found, "workers").is_dir():
            raise FileNotFoundError(found)
        write_drain(Path(found))
    except FileNotFoundError:
        if wait_seconds is None:
            raise SettingsError(f"{found!r} is not the run directory of a server") from None
        click.echo(f"no server has {found!r} as its run directory: nothing to drain")
        return
    click.echo(f"draining: /readyz of the server in {found} returns 503")
    time.sleep(wait_seconds or 0)


COMMANDS = (settings, drain)
