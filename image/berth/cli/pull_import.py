"""`berth pull --import`: a model from elsewhere as one version of a directory, as `berth add` makes it."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import click

from berth.cli.store_option import read_settings
from berth.errors import StoreError
from berth.load_settings import load_options
from berth.models.store import LATEST, Entry, read_manifest, verify_version
from berth.publishing.adding import AddRequest, add_version
from berth.pulling.fetching import fetch_model, scheme_of
from berth.pulling.pull import Wanted
from berth.pulling.transfer import Persistence
from berth.telemetry.logs import one_line


def import_model(
    uri: str,
    into: Path,
    wanted: Sequence[Wanted],
    environ: Mapping[str, str],
    persistence: Persistence,
    refused: tuple[str, bool],
) -> None:
    """The model at `uri` as the one wanted version; one that is there stays. Raises BerthError.

    `refused` are what an import cannot be checked against: a digest of model.json, signatures.
    """
    if any(refused):
        raise StoreError("an imported model has no model.json and no signature yet: leave --sha256 and --key out")
    if len(wanted) != 1 or wanted[0].version == LATEST:
        raise StoreError("--import makes one version: name it, as --models=churn@7")
    if not scheme_of(uri):
        raise StoreError(f"{uri[:200]!r} is no URI of a model; `berth add` accepts files and folders of this machine")
    name, version = wanted[0].name, wanted[0].version
    if (there := Entry(name, version, into / name / version)).folder.exists():
        verify_version(there)
        click.echo(f"{name}@{version}: it is here already")
        return
    into.mkdir(parents=True, exist_ok=True)
    click.echo(one_line(f"{name}@{version}: imported from {uri.partition('?')[0]}, which has no digest of model.json"))
    with tempfile.TemporaryDirectory(prefix=".import-", dir=into) as folder:
        fetched = fetch_model(uri, environ, Path(folder), persistence)
        request = AddRequest(name, version, metadata={"source": dict(fetched.source)})
        entry = add_version(into, fetched.path, request, load_options(read_settings()))
    click.echo(f"{entry.key}: in {into}, sha256 {read_manifest(entry).sha256}")
