"""What the recipes beside this file share: a command that trains models and adds them to a store."""

from __future__ import annotations

import csv
import tempfile
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import click

from berth.errors import BerthError
from berth.loaders.formats import LoadOptions
from berth.models.store import list_versions, next_version
from berth.publishing.adding import AddRequest, add_version
from berth.tensors.arrays import TensorSpec


class Trained(NamedTuple):
    """The two files that were written, what is known of the model, and its outputs where it does not name them."""

    artifact: Path
    sample: Path
    facts: Mapping[str, Any]
    outputs: tuple[TensorSpec, ...] = ()


# Trains a model and writes it, and the rows it was trained on, into an empty folder.
Train: TypeAlias = Callable[[Path], Trained]


def write_sample(file: Path, columns: Iterable[str], rows: Iterable[Iterable[Any]]) -> None:
    """Write rows as CSV, the names of the columns first."""
    with file.open("w", newline="") as opened:
        csv.writer(opened).writerows([columns, *rows])


def _add(store: Path, name: str, version: str, train: Train, recipe: str) -> str:
    """Train and add one model, unless it is there; what came of it. Raises BerthError."""
    if any(entry.version == version for entry in list_versions(store, name)):
        return f"{name} version {version} is already there"
    with tempfile.TemporaryDirectory() as folder:
        artifact, sample, facts, outputs = train(Path(folder))
        request = AddRequest(name, version, sample=sample, outputs=outputs, metadata={"recipe": recipe, **facts})
        add_version(store, artifact, request, LoadOptions(accelerate="auto"))
    return "; ".join([f"{name} version {version} added to {store}", *(f"{fact} {facts[fact]}" for fact in facts)])


def make_command(recipe: str, trains: Mapping[str, Train], version: str | None = None) -> click.Command:
    """The command of the file `recipe`, which trains these models; `version` is its default, else the next number."""

    def add(store: Path, version: str | None) -> None:
        for name, train in trains.items():
            try:
                told = _add(store, name, version or next_version(store, name), train, Path(recipe).name)
            except BerthError as error:
                raise click.ClickException(error.message) from error
            click.echo(told)

    shown = version is not None or "the next number"
    folder = click.Option(["--store"], type=click.Path(path_type=Path), default=Path("model_store"), show_default=True)
    number = click.Option(["--version"], default=version, show_default=shown, help="The version to add.")
    told = f"Train {' and '.join(trains)} into STORE; a version that is there already is left alone."
    return click.Command(Path(recipe).stem, callback=add, params=[folder, number], help=told)
