"""`berth import-mlserver`: the models of an MLServer folder as versions in the store."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from berth.cli.store_option import find_store, read_settings, store_option
from berth.errors import BerthError
from berth.load_settings import load_options
from berth.loaders.formats import LoadOptions
from berth.models.store import read_manifest
from berth.publishing.mlserver.importing import describe_differences, import_model
from berth.publishing.mlserver.served_models import SERVER_SETTINGS, find_settings, parse_model, read_settings_file
from berth.publishing.mlserver.server_settings import translate_settings


def _import_one(path: Path, shown: Path, store: Path, options: LoadOptions) -> bool:
    """Import the model of one settings file and print what became of it; whether it is in the store now."""
    try:
        model = parse_model(path)
        entry = import_model(store, model, options)
    except BerthError as error:
        click.echo(f"{shown}: not imported: {error.message}", err=True)
        return False
    click.echo(f"{shown}: added {entry.key} ({read_manifest(entry).format})")
    for line in describe_differences(model):
        click.echo(f"  {line}")
    return True


def _show_settings(path: Path) -> None:
    """Print what to set for the server to listen and log as MLServer did."""
    try:
        environment, lines = translate_settings(read_settings_file(path))
    except BerthError as error:
        click.echo(f"{path.name}: not imported: {error.message}", err=True)
        return
    if environment:
        click.echo(f"{path.name}: set " + " ".join(f"{name}={value}" for name, value in environment.items()))
    for line in lines:
        click.echo(f"{path.name}: {line}")


@click.command("import-mlserver")
@click.argument("folder", metavar="DIR", type=click.Path(exists=True, file_okay=False, path_type=Path))
@store_option
def import_mlserver(folder: Path, store: str | None) -> None:
    """Add every model of an MLServer folder to the store, and list the settings without an equivalent.

    Reads each model-settings.json below DIR: scikit-learn, XGBoost, LightGBM, MLflow and ONNX models become verified
    versions. The settings.json in DIR is printed as environment variables.

    \b
    berth import-mlserver models/ --store model_store
    """
    found, options = find_settings(folder), load_options(read_settings())
    target = find_store(store)
    added = [_import_one(path, path.relative_to(folder), target, options) for path in found]
    if (server := folder / SERVER_SETTINGS).is_file():
        _show_settings(server)
    if not all(added):
        sys.exit(1)


COMMANDS = (import_mlserver,)
