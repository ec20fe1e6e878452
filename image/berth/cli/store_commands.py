"""`berth add` and `berth list`: what goes into the store, and what is there."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from berth.cli.model_options import build_request, model_options
from berth.cli.printed_tables import print_table
from berth.cli.store_option import find_store, read_settings, store_option
from berth.errors import BerthError
from berth.load_settings import load_options
from berth.loaders.combining import COMBINATIONS, MEAN
from berth.models.manifest import encode_spec
from berth.models.store import LATEST, list_names, list_versions, read_manifest
from berth.publishing.adding import add_version
from berth.publishing.ensembling import add_ensemble, make_recipe
from berth.pulling.fetching import fetch_model, scheme_of
from berth.pulling.origin import Fetched
from berth.pulling.transfer import Persistence
from berth.settings import read_environment


def _split(text: str) -> list[str]:
    return [word.strip() for word in text.split(",") if word.strip()]


def parse_weights(text: str) -> list[float]:
    """Numbers with commas between them. Raises click.BadParameter."""
    try:
        return [float(word) for word in _split(text)]
    except ValueError:
        raise click.BadParameter(f"--weights {text!r}: want numbers, such as 2,1") from None


@contextmanager
def _model_at(text: str) -> Iterator[Fetched]:
    """The file or folder that somebody named; one that a URI names is fetched, and gone when the block ends."""
    if not scheme_of(text):
        if not Path(text).exists():
            raise click.BadParameter(f"{text!r} does not exist", param_hint="FILE")
        yield Fetched(Path(text), {})
        return
    with tempfile.TemporaryDirectory(prefix="berth-add-") as folder:
        click.echo(f"fetching {text}", err=True)
        yield fetch_model(text, read_environment(), Path(folder), Persistence())


@click.command()
@click.argument("file", required=False)
@click.option("--name", required=True, help="Name of the model, as in its URL.")
@click.option("--version", default="", show_default=False, help="Version to create [default: the next whole number].")
@click.option(
    "--ensemble", default="", show_default=False, metavar="NAME@VERSION,…", help="Members to combine instead of a FILE."
)
@click.option("--combine", default=MEAN, type=click.Choice(COMBINATIONS), help="How --ensemble combines its members.")
@click.option(
    "--weights", default="", show_default=False, metavar="NUMBER,…", help="For --combine weighted: one per member."
)
@model_options
@store_option
def add(
    file: str | None, name: str, version: str, ensemble: str, combine: str, weights: str, store: str | None,
    **given: Any,
) -> None:  # fmt: skip
    """Add a model file, a folder, or the model at a URI to the store, as a version that never changes.

    URIs:

    \b
    mlflow:models:/NAME@ALIAS, mlflow:models:/NAME/VERSION, mlflow:models:/m-ID, mlflow:runs:/RUN/NAME
    hf://ORG/REPO[@COMMIT]/FILE                   the Hugging Face Hub (HF_TOKEN, HF_ENDPOINT)
    oci://REGISTRY/REPOSITORY@sha256:DIGEST#PATH  a file of an image or artifact
    dvc:REPO[@REV]:PATH                           a file that DVC tracks
    https://, s3://, gs://, az://                 a file; #sha256=DIGEST pins its content

    MLflow's own variables (MLFLOW_TRACKING_URI, …) apply. metadata.source records where the model came from.

    \b
    berth add model.joblib --name iris --sample X_train.csv --metadata commit=1a2b3c
    berth add net.pt --name net --input x:FP32:-1,30
    berth add --ensemble forest@3,boost@2 --combine mean --name best
    berth add mlflow:models:/churn@champion --name churn --sample X_train.csv
    """
    if (file is None) != bool(ensemble):
        raise click.UsageError("give a FILE, or --ensemble with the members to combine")
    request = build_request(name, version, given)
    from rich.console import Console
    from rich.status import Status

    notes: list[str] = []

    def busy() -> Status:
        return Console(stderr=True).status(f"adding {file or name}: load, describe, prove")

    where, options = find_store(store), load_options(read_settings())
    if file is None:
        recipe = make_recipe(where, _split(ensemble), combine, parse_weights(weights))
        entry = add_ensemble(where, recipe, request, options, notes.append, busy)
    else:
        with _model_at(file) as fetched:
            if fetched.source:
                request = replace(request, metadata={**request.metadata, "source": dict(fetched.source)})
            entry = add_version(where, fetched.path, request, options, notes.append, busy)
    manifest = read_manifest(entry)
    click.echo(f"added {entry.key} ({manifest.format}, sha256 {manifest.sha256})")
    for kind, specs in (("input", manifest.inputs), ("output", manifest.outputs)):
        for spec in specs:
            click.echo(f"  {kind} {spec.name}: {spec.datatype} {list(spec.shape)}")
    for line in notes:
        click.echo(f"  {line}")


def _rows(store: Path) -> list[dict[str, Any]]:
    rows = []
    for name in list_names(store):
        entries = list_versions(store, name)
        for entry in entries:
            row: dict[str, Any] = {"name": name, "version": entry.version, LATEST: entry is entries[-1]}
            try:
                manifest = read_manifest(entry)
                row |= {"format": manifest.format, "created": manifest.created, "sha256": manifest.sha256}
                row["bytes"] = sum(file.bytes for file in manifest.files.values())
                row["inputs"] = [encode_spec(spec) for spec in manifest.inputs]
            except BerthError as error:
                row["error"] = error.message
            rows.append(row)
    return rows


def _cells(row: dict[str, Any]) -> list[str]:
    version = row["version"] + (" (latest)" if row[LATEST] else "")
    details = [row.get("error", row.get("format", "")), str(row.get("bytes", "")), row.get("created", "")]
    return [row["name"], version, *details, row.get("sha256", "")[:12]]


@click.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")
@store_option
def list_(as_json: bool, store: str | None) -> None:
    """List the store's models and versions.

    \b
    berth list
    berth list --json | jq '.[].name'
    """
    rows = _rows(find_store(store))
    if as_json:
        click.echo(json.dumps(rows, indent=2))
        return
    print_table(("model", "version", "format", "bytes", "created", "sha256"), map(_cells, rows))


COMMANDS = (add, list_)
