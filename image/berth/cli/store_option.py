"""What several commands share: the settings they start from, and the store option."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from berth.settings import Settings, parse_settings, read_environment, store_directory

store_option = click.option(
    "--store", metavar="DIR", help="The model store [default: BERTH_MODEL_STORE or model_store]."
)


def read_settings(**given: Any) -> Settings:
    """The environment's settings, with the options that were given on the command line over them."""
    settings = parse_settings(read_environment())
    return replace(settings, **{name: value for name, value in given.items() if value is not None})


def find_store(store: str | None) -> Path:
    """The store directory of the option, else of the settings."""
    return store_directory(read_settings(model_store=store))
