"""`berth openapi`: the OpenAPI document of a store, without a server."""

from __future__ import annotations

import json

import click

from berth import __version__
from berth.cli.store_option import read_settings, store_option
from berth.load_settings import load_options
from berth.models.store import select_models
from berth.serving.trial import open_tried
from berth.settings import store_directory


@click.command()
@click.option(
    "--models", help="Models to serve, as name@version,… [default: BERTH_MODELS, or the latest version of each]."
)
@store_option
def openapi(models: str | None, store: str | None) -> None:
    """Print the OpenAPI 3.1 document that a server of this store would give at /openapi.json.

    \b
    berth openapi > openapi.json
    berth openapi --store store --models iris@3
    """
    from berth.web.endpoints import ENDPOINTS
    from berth.web.exchange import ApiFacts
    from berth.web.openapi.document import openapi_document

    settings = read_settings(models=models, model_store=store)
    entries = select_models(store_directory(settings), settings.models, settings.model_version)
    opened = [open_tried(entry, load_options(settings), settings.version_policy) for entry in entries]
    facts = ApiFacts(__version__, bool(settings.api_keys_file), settings.protect_metrics)
    click.echo(json.dumps(openapi_document(opened, facts, ENDPOINTS), indent=2, allow_nan=False, ensure_ascii=False))


COMMANDS = (openapi,)
