"""`berth score`: a whole file of rows, with the predictions of the server."""

from __future__ import annotations

import logging
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import click

from berth.cli.option_types import COUNT
from berth.cli.score_joining import join, summarize
from berth.cli.score_places import ScoredFile, choose_places, parse_place
from berth.cli.store_option import read_settings, store_option
from berth.errors import BerthError, OperatorError, SettingsError, UnknownOutput
from berth.load_settings import load_options
from berth.models.model import Model
from berth.models.store import Entry, select_models
from berth.score.chunks import RowSource
from berth.score.file_formats import FORMATS
from berth.score.job import Job, score_file
from berth.score.progress import Done
from berth.score.remote_files import Place, RemotePlace
from berth.score.shards import Shard, parse_shard
from berth.serving.trial import open_tried
from berth.settings import read_environment, store_directory
from berth.telemetry.logs import LOGGER
from berth.tensors.schema import choose_outputs, usual_outputs

_TELL_SECONDS = 10.0
_SAVE_SECONDS = 1.0
_REFUSED = 3
_TEMPORARY = 75


def _parse_names(_: click.Context, __: click.Parameter, text: str | None) -> tuple[str, ...]:
    names = tuple(name.strip() for name in (text or "").split(",") if name.strip())
    if len(set(names)) != len(names):
        raise click.BadParameter(f"{text!r} names one twice")
    return names


def _choose_outputs(wanted: tuple[str, ...], model: Model) -> tuple[str, ...]:
    """The wanted ones; without any, the prediction as /predict has it, or all of a model that has none."""
    try:
        return choose_outputs(list(wanted), model.outputs) if wanted else usual_outputs(model.outputs)
    except UnknownOutput as error:
        raise click.BadParameter(error.message) from error


@contextmanager
def _quietly() -> Iterator[None]:
    """Without the log's line for each call on which the model breaks: the errors file names every row."""
    logger = logging.getLogger(LOGGER)
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(level)


class _Progress:
    """What people see meanwhile: a bar on a terminal, a line every ten seconds otherwise."""

    def __init__(self) -> None:
        self._began = self._said = time.monotonic()
        self._before = 0
        self._stopped = False
        self._bar: Any = None
        self._stack = ExitStack()

    def __enter__(self) -> _Progress:
        self._stack.enter_context(_listening(self._stop))
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def _stop(self) -> None:
        """The run ends after this chunk: within a model's call, an exception would look like its own."""
        self._stopped = True

    def open(self, source: RowSource, done: Done) -> None:
        """Say what is not as people may think, and begin."""
        if source.unused:
            click.echo(f"not used: {', '.join(source.unused)[:500]}", err=True)
        if done.rows:
            click.echo(f"an earlier run had scored {done.rows:,} rows; going on after them", err=True)
        self._before = done.rows - done.skipped
        if not sys.stderr.isatty():
            return
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

        columns = (BarColumn(), TimeRemainingColumn(), TextColumn("{task.fields[progress]}"))
        self._bar = self._stack.enter_context(Progress(*columns, console=Console(stderr=True), transient=True))
        self._bar.add_task("", total=source.size, completed=done.position, progress="")

    def go_on(self, done: Done) -> None:
        """A chunk is written."""
        if self._stopped:
            click.echo("berth: stopped by SIGTERM; the same command goes on from here", err=True)
            sys.exit(_TEMPORARY)
        progress = f"{done.rows:,} rows, {done.failed:,} failed"
        if self._bar is not None:
            self._bar.update(self._bar.task_ids[0], completed=done.position, progress=progress)
        elif time.monotonic() - self._said > _TELL_SECONDS:
            self._said = time.monotonic()
            click.echo(progress, err=True)

    def sum_up(self, done: Done) -> str:
        """The whole run in a sentence."""
        seconds = time.monotonic() - self._began
        rows = done.rows - done.skipped
        speed = (rows - self._before) / max(seconds, 1e-9)
        return f"{rows:,} rows, {done.failed:,} failed, {seconds:.1f} s, {speed:,.0f} rows/s"


@contextmanager
def _exit_codes() -> Iterator[None]:
    """Errors as exit codes that a Job can act on: 3 not to be tried again, 75 (sysexits' EX_TEMPFAIL) to be."""
    try:
        yield
    except SettingsError:
        raise
    except (BerthError, OSError, MemoryError) as error:
        refused = isinstance(error, BerthError) and not isinstance(error.__cause__, OSError)
        click.echo(
            f"berth: {error.message if isinstance(error, BerthError) else error or type(error).__name__}", err=True
        )
        sys.exit(_REFUSED if refused else _TEMPORARY)


@contextmanager
def _listening(stop: Callable[[], None]) -> Iterator[None]:
    """SIGTERM calls `stop`. Without a handler it would have no effect on the first process of a container."""
    before = signal.signal(signal.SIGTERM, lambda number, frame: stop())
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _choose_shard(given: str | None, count: int | None) -> Shard | None:
    """The shard of the option, else of the Job's index where BERTH_SHARDS is set; None for the whole file."""
    if given is not None:
        try:
            return parse_shard(given)
        except OperatorError as error:
            raise click.BadParameter(error.message, param_hint="--shard") from error
    if count is None:
        return None
    index = read_environment().get("JOB_COMPLETION_INDEX", "")
    if not index.isdecimal() or int(index) >= count:
        raise SettingsError(
            f"BERTH_SHARDS={count} needs JOB_COMPLETION_INDEX from 0 to {count - 1}, not {index[:20]!r}"
        )
    return Shard(int(index), count)


def _report_failed(failed: int, errors: str) -> None:
    if failed:
        click.echo(f"why they failed: {errors}", err=True)
        sys.exit(1)


def _join(folder: Place, output: Place, errors: Place | None, overwrite: bool) -> None:
    summary, failures = join(folder, output, errors, overwrite)
    pieces = f"{summary['shards']} shards" if "shards" in summary else f"{summary['files']} files"
    click.echo(f"{summary['model']}: {summary['rows']:,} rows, {summary['failed']:,} failed, {pieces} -> {output}")
    _report_failed(summary["failed"], f"{output}.errors.jsonl" if isinstance(output, RemotePlace) else str(failures))


def _score(entry: Entry, model: Model, scored: ScoredFile, job: Job) -> int:
    """How many rows failed."""
    with _quietly(), _Progress() as progress:
        done = score_file(job, model, progress.open, progress.go_on)
        summary = progress.sum_up(done)
    click.echo(f"{entry.key}: {summary} -> {scored.shown}")
    return done.failed


@click.command()
@click.argument("input_", metavar="INPUT", callback=parse_place)
@click.argument("output", metavar="OUTPUT", callback=parse_place)
@click.option("--model", help="Model to use, as NAME[@VERSION] [default: the first of BERTH_MODELS or of the store].")
@click.option("--outputs", callback=_parse_names, metavar="NAME,…", help="Outputs to write [default: prediction].")
@click.option("--keep", callback=_parse_names, metavar="COLUMN,…", help="Columns of INPUT to copy to OUTPUT.")
@click.option("--chunk-rows", default=10_000, type=COUNT, help="Rows in one call of the model.")
@click.option(
    "--format", "format_", type=click.Choice(list(FORMATS)), help="Format, if the files' endings do not show it."
)
@click.option("--errors", callback=parse_place, metavar="FILE", help="Errors file [default: OUTPUT.errors.jsonl].")
@click.option(
    "--overwrite", is_flag=True, help="Replace OUTPUT, its errors file, and an unfinished run with other options."
)
@click.option(
    "--shard", metavar="I/N", help="Score every N-th chunk, starting at I [default: JOB_COMPLETION_INDEX/BERTH_SHARDS]."
)
@click.option("--join", "joins", is_flag=True, help="Join the shards in the folder INPUT into the file OUTPUT.")
@store_option
def score(
    input_: Place,
    output: Place,
    model: str | None,
    outputs: tuple[str, ...],
    keep: tuple[str, ...],
    chunk_rows: int,
    format_: str | None,
    errors: Place | None,
    overwrite: bool,
    shard: str | None,
    joins: bool,
    store: str | None,
) -> None:
    """Score a file of rows (csv, jsonl, parquet) without a server, with the outputs of /predict.

    \b
    berth score customers.csv scores.csv --keep customer_id
    berth score rows.jsonl scores.parquet --model churn@2 --outputs prediction,probabilities

    A row that cannot be predicted has empty outputs and a line in the errors file. OUTPUT appears only once it is
    complete; after a crash, the same command resumes. With --shard, OUTPUT is a folder in which each shard writes a
    part file. INPUT and OUTPUT may be in a bucket (s3://, gs://, az://). If INPUT is a directory or a pattern, each of
    its files is scored into the folder OUTPUT; with --shard, every N-th file.

    Exit codes: 0 scored; 1 scored, but some rows failed; 2 wrong usage; 3 refused, for example because the model or the
    columns differ from those of the unfinished run; 75 a temporary fault, such as a full disk, or
    SIGTERM: run it again.

    \b
    berth score customers.csv parts --shard 0/3      …1/3, 2/3, on any machines
    berth score --join parts scores.csv
    """
    settings = read_settings(model_store=store)
    with _exit_codes():
        if joins:
            _join(input_, output, errors, overwrite)
            return
        wanted = _choose_shard(shard, settings.shards)
        files = choose_places(input_, output, errors, format_, wanted)
        entry = select_models(store_directory(settings), model or settings.models, settings.model_version)[0]
        opened = open_tried(entry, load_options(settings), settings.version_policy)
        names = _choose_outputs(outputs, opened)
        if both := sorted(set(keep) & set(names)):
            raise click.BadParameter(f"--keep {both[0]}: an output has that name")
        failed = 0
        for one in files:
            places = (one.input, one.places, one.reads, one.writes)
            job = Job(*places, names, keep, chunk_rows, overwrite, one.shard, _SAVE_SECONDS, one.file)
            failed += _score(entry, opened, one, job)
        if files and files[0].file and wanted is None:
            summarize(output)
        _report_failed(failed, str(errors or ", ".join(f"{one.shown}.errors.jsonl" for one in files[:3])))


COMMANDS = (score,)
