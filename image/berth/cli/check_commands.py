"""`berth inspect`, `berth verify` and `berth predict`: examine a model before it is served."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from berth.cli.option_types import FILE
from berth.cli.profile_table import print_profile
from berth.cli.store_option import find_store, read_settings, store_option
from berth.errors import BerthError, MalformedJson
from berth.load_settings import load_options
from berth.loaders.formats import detect_format
from berth.loaders.legacy.made_with import is_foreign, say_made_with
from berth.loaders.unpickle import loading as unpickle
from berth.models.manifest import digest_file, walk_files
from berth.models.model import Model
from berth.models.profile import decode_profile
from berth.models.signing import read_public_keys
from berth.models.store import find_by_key, list_names, list_versions, select_models, verify_version
from berth.serving.trial import open_tried, try_version
from berth.tensors.schema import column_names
from berth.tensors.tables import parse_csv

_PICKLED = ("joblib", "pickle")


def _inspect_pickle(path: Path) -> bool:
    """Print every global that a pickle names, and why it is not loaded; whether it is."""
    options = load_options(read_settings())
    if (version := unpickle.read_version(path)) is not None:
        click.echo(f"  {say_made_with(version)}" if is_foreign(version) else f"  made with scikit-learn {version}")
    names, reason = unpickle.judge_pickle(path, unpickle.default_allow() | frozenset(options.pickle_allow))
    for found in sorted(names, key=lambda found: (found.allowed, found.module, found.name)):
        click.echo(f"  {'allowed' if found.allowed else 'REFUSED'}  {found.module}:{found.name}")
    if refused := [found for found in names if not found.allowed]:
        click.echo(f"{path.name}: {len(refused)} of {len(names)} names are refused; it will not be loaded", err=True)
    elif reason:
        click.echo(f"  REFUSED  {reason}")
    return reason is None


def _inspect_path(path: Path) -> bool:
    format_ = detect_format(path)
    files = sorted(walk_files(path)) if path.is_dir() else [path.name]
    folder = path if path.is_dir() else path.parent
    click.echo(f"{path.name}: {format_}")
    fine = True
    for name in files:
        digest = digest_file(folder / name)
        click.echo(f"  {name}  {digest.bytes} bytes  sha256 {digest.sha256}")
        if format_ in _PICKLED or Path(name).suffix in (".pkl", ".pickle", ".joblib"):
            fine &= _inspect_pickle(folder / name)
    return fine


@click.command()
@click.argument("target")
@store_option
def inspect(target: str, store: str | None) -> None:
    """Describe a file, or NAME[@VERSION] in the store, and report whether it would be loaded.

    A pickle whose names are all allowed is also loaded, as the remaining checks need its contents; it is not kept.

    \b
    berth inspect model.joblib        every global that it names, and whether it is allowed
    berth inspect iris@3              its manifest, with digests checked, and the profile of its sample
    """
    path = Path(target)
    if path.exists():
        sys.exit(0 if _inspect_path(path) else 1)
    entry = find_by_key(find_store(store), target)
    manifest = verify_version(entry)
    click.echo((entry.folder / "model.json").read_text("utf-8"), nl=False)
    if profile := decode_profile(manifest.metadata):
        print_profile(profile)
    fine = [_inspect_pickle(entry.folder / name) for name in manifest.artifacts if manifest.format in _PICKLED]
    sys.exit(0 if all(fine) else 1)


@click.command()
@click.argument("models", nargs=-1, metavar="[NAME[@VERSION]]...")
@click.option("--digests-only", is_flag=True, help="Check signatures and digests only; load no model.")
@click.option(
    "--key",
    "keys",
    multiple=True,
    type=click.Path(exists=True, dir_okay=False),
    help="PEM public keys, one of which must have signed; may be repeated [default: BERTH_SIGNATURE_KEYS_FILE].",
)
@store_option
def verify(models: tuple[str, ...], digests_only: bool, keys: tuple[str, ...], store: str | None) -> None:
    """Check signatures (with --key) and digests, load each model, and compare it with its example.

    Without arguments, every model of the store is verified.

    \b
    berth verify
    berth verify iris@3 --digests-only
    berth verify iris@3 --key team.pub
    """
    folder, settings = find_store(store), read_settings()
    options = load_options(settings)
    options = replace(options, signature_keys=keys or options.signature_keys)
    entries = [find_by_key(folder, word) for word in models]
    entries = entries or [entry for name in list_names(folder) for entry in list_versions(folder, name)]
    failed = 0
    for entry in entries:
        try:
            if digests_only:
                verify_version(entry, read_public_keys(options.signature_keys))
            else:
                try_version(entry, options, settings.version_policy)
            click.echo(f"ok      {entry.key}")
        except BerthError as error:
            failed += 1
            click.echo(f"FAILED  {entry.key}: {error.message.removeprefix(f'{entry.key} ')}")
    if failed:
        click.echo(f"{failed} of {len(entries)} versions failed", err=True)
        sys.exit(1)


def _read_rows(file: Path, model: Model, max_rows: int) -> dict[str, Any]:
    """The body that /predict would get for a CSV: records, or rows where the model's columns have no names."""
    specs, names = model.inputs, column_names(model.inputs)
    datatypes = {spec.name: spec.datatype for spec in specs} | dict.fromkeys(specs[0].columns or (), specs[0].datatype)
    table = parse_csv(file.read_bytes(), datatypes, "BYTES" if names else specs[0].datatype, max_rows)
    return {"features": [dict(zip(table.columns, row, strict=True)) if names else row for row in table.rows()]}


def _read_document(file: Path) -> dict[str, Any]:
    """A JSON file, read as the server reads a body."""
    from berth.tensors.codec import decode_json

    try:
        document = decode_json(file.read_bytes())
    except MalformedJson as error:
        raise click.BadParameter(f"{file.name}: {error.message}") from error
    if not isinstance(document, dict):
        raise click.BadParameter(f"{file.name} must hold an object, as /predict accepts it")
    return document


@click.command()
@click.argument("file", type=FILE)
@click.option("--model", help="Model to use, as NAME[@VERSION] [default: the first in the store].")
@store_option
def predict(file: Path, model: str | None, store: str | None) -> None:
    """Make one prediction without a server, for a JSON body of /predict or a CSV file with a header.

    \b
    berth predict request.json
    berth predict rows.csv --model churn@2
    """
    import math

    from berth.serving.predictor import Predictor
    from berth.tensors.codec import encode_json
    from berth.web.predict import answer_request

    folder, settings = find_store(store), read_settings()
    entry = select_models(folder, model or "")[0]
    opened = open_tried(entry, load_options(settings), settings.version_policy)
    is_csv = file.suffix.lower() == ".csv"
    request = _read_rows(file, opened, settings.max_rows) if is_csv else _read_document(file)
    predictor = Predictor(1, settings.max_rows)
    document = answer_request(
        request, opened, lambda model, tensors, outputs: predictor.predict(model, tensors, outputs, math.inf).outputs
    )
    click.echo(encode_json(document).decode())


COMMANDS = (inspect, verify, predict)
