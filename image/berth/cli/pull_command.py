"""`berth pull`: models from a store elsewhere into a directory here."""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click

from berth.cli.option_types import COUNT
from berth.cli.pull_import import import_model
from berth.models.signing import read_public_keys
from berth.pulling.addresses import Access
from berth.pulling.authorization import store_authorization
from berth.pulling.pull import PullReport, parse_wanted, pull_models
from berth.pulling.transfer import Persistence
from berth.settings import read_environment
from berth.telemetry.logs import one_line

_LINE_SECONDS = 10.0
_MOST_SECONDS = 6 * 3600
# Kubernetes' quantities, as in the chart's values.
_QUANTITY = re.compile(r"([0-9]{1,18}(?:\.[0-9]{1,9})?)(m|k|M|G|T|P|E|Ki|Mi|Gi|Ti|Pi|Ei)?")
_UNITS = {"": 1.0, "m": 1e-3} | {
    letter + end: float(base**power)
    for end, base, first in (("", 1000, "k"), ("i", 1024, "K"))
    for power, letter in enumerate((first, *"MGTPE"), 1)
}


def _sha256(context: click.Context, option: click.Parameter, value: str) -> str:
    if value and not re.fullmatch(r"[0-9a-fA-F]{64}", value):
        raise click.BadParameter(f"{value!r}: want 64 hex digits, as `sha256sum model.json` prints them")
    return value


def _bytes(context: click.Context, option: click.Parameter, value: str) -> int:
    found = _QUANTITY.fullmatch(value)
    if found is None:
        raise click.BadParameter(f"{value!r}: want a number of bytes, such as 4294967296, 4Gi or 500M")
    return int(float(found[1]) * _UNITS[found[2] or ""])


def _size(count: int) -> str:
    return f"{count / 1e9:.2f} GB" if count >= 1e9 else f"{count / 1e6:.1f} MB"


@contextmanager
def _plain() -> Iterator[PullReport]:
    """Lines for a log: how far it is, every ten seconds."""
    last = [time.monotonic()]

    def moved(what: str, done: int, total: int) -> None:
        if time.monotonic() - last[0] >= _LINE_SECONDS:
            last[0] = time.monotonic()
            click.echo(f"{what}: {_size(done)}" + (f" of {_size(total)}" if total else ""))

    yield PullReport(lambda text: click.echo(one_line(text)), moved)


@contextmanager
def _bar() -> Iterator[PullReport]:
    """A bar for a person at a terminal."""
    from rich.progress import BarColumn, DownloadColumn, Progress, TaskID, TextColumn, TransferSpeedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns) as progress:
        tasks: dict[str, TaskID] = {}

        def moved(what: str, done: int, total: int) -> None:
            if what not in tasks:
                tasks[what] = progress.add_task(what, total=total or None)
            progress.update(tasks[what], completed=done)

        yield PullReport(
            lambda text: progress.console.print(one_line(text), highlight=False, markup=False, soft_wrap=True), moved
        )


@click.command()
@click.argument("uri")
@click.option(
    "--into", required=True, type=click.Path(file_okay=False, path_type=Path), help="Directory for the models."
)
@click.option(
    "--models", default="", show_default=False, help="Models, as name@version,… [default: the latest version of each]."
)
@click.option(
    "--sha256", default="", show_default=False, callback=_sha256, help="Digest of the first model's model.json."
)
@click.option(
    "--max-bytes",
    default="0",
    envvar="STORE_MAX_BYTES",
    show_default=False,
    callback=_bytes,
    help="Maximum size of the directory, as 4Gi or in bytes; also STORE_MAX_BYTES [default: its disk's free space].",
)
@click.option(
    "--max-seconds", default=_MOST_SECONDS, type=COUNT, help="Time limit; the next run resumes what was downloaded."
)
@click.option(
    "--key",
    default="",
    show_default=False,
    envvar="BERTH_SIGNATURE_KEYS_FILE",
    help="File with PEM public keys, one of which must have signed each version; also BERTH_SIGNATURE_KEYS_FILE.",
)
@click.option(
    "--import", "imports", is_flag=True, help="URI is that of a single model, as for `berth add`, not of a store."
)
def pull(
    uri: str, into: Path, models: str, sha256: str, max_bytes: int, max_seconds: int, key: str, imports: bool
) -> None:
    """Fetch models from the store at URI and verify every byte; each version appears only once it is complete.

    URI is a directory, file://, http(s):// (a listing, index.json, or an archive: .tar.gz .tgz .tar .zip), s3://,
    gs://, az://, or oci:// with an image made by `berth push`. Versions that are already there are verified and kept;
    an interrupted download resumes. Credentials come from the environment: STORE_TOKEN, or STORE_USERNAME and
    STORE_PASSWORD, for http(s); AWS_*, GOOGLE_APPLICATION_CREDENTIALS, AZURE_STORAGE_* for buckets; `docker login` or
    REGISTRY_AUTH_FILE for oci://. With --key, a version that none of its keys signed is not fetched.

    With --import, URI is that of a model elsewhere (mlflow:, hf://, dvc:, …), which becomes the version named by
    --models. It has no digest to check on arrival; the restricted loader reads it, as with `berth add`.

    \b
    berth pull https://models.example.com/store --into=/models --models=iris@3,churn
    berth pull oci://ghcr.io/acme/models/iris@sha256:97bb… --into=/models
    berth pull s3://models/store --into=/models --models=iris@3 --sha256=9f86d081…
    berth pull --import hf://acme/churn@1a2b…/model.joblib --into=/models --models=churn@7
    """
    wanted = parse_wanted(models, sha256)
    persistence = Persistence(ends=time.monotonic() + max_seconds)
    keys = read_public_keys((key,)) if key else ()
    environ = read_environment()
    if imports:
        import_model(uri, into, wanted, environ, persistence, (sha256, bool(key)))
        return
    access = Access(store_authorization(environ), persistence, max_bytes, environ, keys)
    with _bar() if sys.stdout.isatty() else _plain() as report:
        pull_models(uri, into, wanted, access, report)


COMMANDS = (pull,)
