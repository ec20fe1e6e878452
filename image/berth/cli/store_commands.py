"""`berth add` and `berth list`: what goes into the store, and what is there."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from berth.cli.store_option import find_store, read_settings, store_option
from berth.errors import BerthError
from berth.load_settings import load_options
from berth.loaders.formats import FORMATS
from berth.models.manifest import encode_spec
from berth.models.store import LATEST, list_names, list_versions, read_manifest
from berth.publishing.adding import AddRequest, add_version
from berth.tensors.arrays import DATATYPES, TensorSpec


def _parse_spec(text: str) -> TensorSpec:
    """NAME:DATATYPE:SHAPE, as in features:FP64:-1,4. Raises click.BadParameter."""
    name, _, rest = text.partition(":")
    datatype, _, shape = rest.partition(":")
    try:
        sizes = tuple(int(size) for size in shape.split(","))
    except ValueError:
        sizes = ()
    if not name or datatype not in DATATYPES or not sizes or min(sizes) < -1:
        raise click.BadParameter(f"{text!r}: want NAME:DATATYPE:SHAPE, such as features:FP64:-1,4 (-1 is any)")
    return TensorSpec(name, datatype, sizes)


def _refuse_constant(word: str) -> None:
    raise ValueError(f"{word} is not JSON")


def _parse_metadata(pairs: tuple[str, ...]) -> dict[str, Any]:
    """key=value pairs; a value that is JSON is taken as such. Raises click.BadParameter."""
    metadata: dict[str, Any] = {}
    for pair in pairs:
        key, equals, text = pair.partition("=")
        if not equals or not key:
            raise click.BadParameter(f"{pair!r}: want KEY=VALUE")
        try:
            metadata[key] = json.loads(text, parse_constant=_refuse_constant)
        except ValueError:
            metadata[key] = text
    return metadata


@click.command()
@click.argument("file", type=click.Path(exists=True, path_type=Path))
@click.option("--name", required=True, help="The model's name, as in its URL.")
@click.option("--version", default="", help="The version [default: the next natural number].")
@click.option("--format", "format_", type=click.Choice(list(FORMATS)), help="The format [default: from the name].")
@click.option("--sample", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="CSV of typical inputs.")
@click.option("--no-profile", is_flag=True, help="Do not keep the distribution of the sample, which /drift reads.")
@click.option("--metadata", multiple=True, metavar="KEY=VALUE", help="Noted in model.json; may be repeated.")
@click.option(
    "--input", "inputs", multiple=True, metavar="NAME:DATATYPE:SHAPE", help="An input, where the file tells none."
)
@click.option("--output", "outputs", multiple=True, metavar="NAME:DATATYPE:SHAPE", help="An output, likewise.")
@click.option("--architecture", metavar="PACKAGE.MODULE:FACTORY", help="What makes the module of a safetensors file.")
@click.option("--arguments", metavar="JSON", default="{}", help="Keyword arguments of the factory.")
@store_option
def add(
    file: Path,
    name: str,
    version: str,
    format_: str | None,
    sample: Path | None,
    no_profile: bool,
    metadata: tuple[str, ...],
    inputs: tuple[str, ...],
    outputs: tuple[str, ...],
    architecture: str | None,
    arguments: str,
    store: str | None,
) -> None:
    """Put a model file (or folder) into the store, as a version that never changes.

    \b
    berth add model.joblib --name iris --sample X_train.csv --metadata commit=1a2b3c
    berth add net.pt --name net --input x:FP32:-1,30
    """
    try:
        factory = {"factory": architecture, "arguments": json.loads(arguments)} if architecture else None
    except ValueError as error:
        raise click.BadParameter(f"--arguments is not JSON: {error}") from error
    request = AddRequest(
        name=name,
        version=version,
        format=format_ or "",
        sample=sample,
        inputs=tuple(_parse_spec(text) for text in inputs),
        outputs=tuple(_parse_spec(text) for text in outputs),
        metadata=_parse_metadata(metadata),
        architecture=factory,
        profile=not no_profile,
    )
    from rich.console import Console

    told: list[str] = []
    with Console(stderr=True).status(f"adding {file.name}: copy, load, describe, prove"):
        entry = add_version(find_store(store), file, request, load_options(read_settings()), told.append)
    manifest = read_manifest(entry)
    click.echo(f"added {entry.key} ({manifest.format}, sha256 {manifest.sha256})")
    for kind, specs in (("input", manifest.inputs), ("output", manifest.outputs)):
        for spec in specs:
            click.echo(f"  {kind} {spec.name}: {spec.datatype} {list(spec.shape)}")
    for line in told:
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
    from rich.console import Console
    from rich.table import Table

    table = Table("model", "version", "format", "bytes", "created", "sha256")
    for row in rows:
        star = " (latest)" if row[LATEST] else ""
        told = [row.get("error", row.get("format", "")), str(row.get("bytes", "")), row.get("created", "")]
        table.add_row(row["name"], row["version"] + star, *told, row.get("sha256", "")[:12])
    Console().print(table)


COMMANDS = (add, list_)
