"""`berth score`: a whole file of rows, with the predictions of the server."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import click

from berth.cli.store_option import read_settings, store_option
from berth.errors import BerthError, OperatorError, SettingsError, UnknownOutput
from berth.load_settings import load_options
from berth.models.model import Model
from berth.models.store import Entry, select_models
from berth.score import (
    FORMATS,
    Done,
    FileFormat,
    Job,
    Places,
    RowSource,
    Shard,
    find_format,
    join_shards,
    parse_shard,
    score_file,
)
from berth.serving.trial import open_tried
from berth.settings import read_environment, store_directory
from berth.telemetry.logs import LOGGER
from berth.tensors.schema import choose_outputs, required

_TELL_SECONDS = 10.0
_PREDICTION = "prediction"
_REFUSED = 3
_TEMPORARY = 75


def parse_place(_: click.Context, option: click.Parameter, text: str | None) -> Path | None:
    """A path, or a file:// URI. Raises click.BadParameter for what lies elsewhere."""
    if text is None or "://" not in text:
        return None if text is None else Path(text)
    parts = urlsplit(text)
    if parts.scheme != "file" or parts.netloc not in ("", "localhost"):
        raise click.BadParameter(
            f"{text.partition('?')[0]!r}: only a path or file:///PATH is read and written; fetch the file first"
        )
    return Path(unquote(parts.path))


def _parse_names(_: click.Context, __: click.Parameter, text: str | None) -> tuple[str, ...]:
    names = tuple(name.strip() for name in (text or "").split(",") if name.strip())
    if len(set(names)) != len(names):
        raise click.BadParameter(f"{text!r} names one twice")
    return names


def _choose_format(path: Path, given: str | None) -> FileFormat:
    """The format that the ending names, else the given one. Raises click.BadParameter, OperatorError."""
    if (format_ := find_format(path) or FORMATS.get(given or "")) is None:
        endings = ", ".join(ending for known in FORMATS.values() for ending in known.endings)
        raise click.BadParameter(f"{path.name!r} ends in none of {endings}; name its format with --format")
    format_.check()
    return format_


def choose_formats(input_: Path, output: Path, given: str | None) -> tuple[FileFormat, FileFormat]:
    """How to read and to write; `given` stands in for an unknown ending. Raises as `_choose_format`."""
    reads, writes = _choose_format(input_, given), _choose_format(output, given)
    if given and given not in (reads.name, writes.name):
        raise click.BadParameter(f"--format {given}, but by their endings the files are {reads.name} and {writes.name}")
    return reads, writes


def _choose_outputs(wanted: tuple[str, ...], model: Model) -> tuple[str, ...]:
    """The wanted ones; without any, the prediction as /predict has it, or all of a model that has none."""
    names = [spec.name for spec in required(model.outputs)]
    if not wanted:
        return (_PREDICTION,) if _PREDICTION in names else tuple(names)
    try:
        return choose_outputs(list(wanted), model.outputs)
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


class _Told:
    """What people see meanwhile: a bar on a terminal, a line every ten seconds otherwise."""

    def __init__(self) -> None:
        self._began = self._said = time.monotonic()
        self._before = 0
        self._bar: Any = None
        self._stack = ExitStack()

    def __enter__(self) -> _Told:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

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

        columns = (BarColumn(), TimeRemainingColumn(), TextColumn("{task.fields[told]}"))
        self._bar = self._stack.enter_context(Progress(*columns, console=Console(stderr=True), transient=True))
        self._bar.add_task("", total=source.size, completed=done.position, told="")

    def go_on(self, done: Done) -> None:
        """A chunk is written."""
        told = f"{done.rows:,} rows, {done.failed:,} failed"
        if self._bar is not None:
            self._bar.update(self._bar.task_ids[0], completed=done.position, told=told)
        elif time.monotonic() - self._said > _TELL_SECONDS:
            self._said = time.monotonic()
            click.echo(told, err=True)

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


def _choose_places(
    input_: Path, output: Path, errors: Path | None, format_: str | None, shard: Shard | None
) -> tuple[Places, FileFormat, FileFormat]:
    """Where to write, and how to read and write. Raises click.BadParameter, OperatorError."""
    if not input_.is_file():
        raise click.BadParameter(f"INPUT: there is no file {str(input_)!r}")
    if shard is not None:
        reads = _choose_format(input_, format_)
        writes = FORMATS.get(format_ or reads.name, reads)
        writes.check()
        output.mkdir(parents=True, exist_ok=True)
        output = shard.file(output, writes.endings[0])
    elif output.is_dir():
        raise click.BadParameter(f"OUTPUT: {str(output)!r} is a directory; name a file in it")
    else:
        reads, writes = choose_formats(input_, output, format_)
    places = Places(output, errors or output.with_name(output.name + ".errors.jsonl"))
    if len({path.resolve() for path in (input_, places.output, places.errors)}) < 3:
        raise click.BadParameter("INPUT, OUTPUT and the errors must be three different files")
    return places, reads, writes


def _report_failed(failed: int, errors: Path) -> None:
    if failed:
        click.echo(f"why they failed: {errors}", err=True)
        sys.exit(1)


def _join(folder: Path, output: Path, errors: Path | None, overwrite: bool) -> None:
    if not folder.is_dir():
        raise click.BadParameter(f"--join: there is no folder {str(folder)!r}")
    places = Places(output, errors or output.with_name(output.name + ".errors.jsonl"))
    summary = join_shards(folder, places, overwrite)
    told = f"{summary['rows']:,} rows, {summary['failed']:,} failed, {summary['shards']} shards"
    click.echo(f"{summary['model']}: {told} -> {output}")
    _report_failed(summary["failed"], places.errors)


def _score(entry: Entry, model: Model, job: Job) -> None:
    with _quietly(), _Told() as told:
        done = score_file(job, model, told.open, told.go_on)
        summary = told.sum_up(done)
    click.echo(f"{entry.key}: {summary} -> {job.places.output}")
    _report_failed(done.failed, job.places.errors)


@click.command()
@click.argument("input_", metavar="INPUT", callback=parse_place)
@click.argument("output", metavar="OUTPUT", callback=parse_place)
@click.option("--model", help="NAME[@VERSION] [default: the first of BERTH_MODELS or of the store].")
@click.option("--outputs", callback=_parse_names, metavar="NAME,…", help="Which outputs [default: prediction].")
@click.option("--keep", callback=_parse_names, metavar="COLUMN,…", help="Columns of INPUT to have in OUTPUT too.")
@click.option("--chunk-rows", default=10_000, show_default=True, type=click.IntRange(1), help="Rows in one call.")
@click.option("--format", "format_", type=click.Choice(list(FORMATS)), help="For a file whose ending is unknown.")
@click.option("--errors", callback=parse_place, metavar="FILE", help="Where [default: OUTPUT.errors.jsonl].")
@click.option("--overwrite", is_flag=True, help="Replace OUTPUT, its errors, and a run begun otherwise.")
@click.option(
    "--shard", metavar="I/N", help="Only every N-th chunk, from I on [default: JOB_COMPLETION_INDEX/BERTH_SHARDS]."
)
@click.option("--join", is_flag=True, help="Join the shards in the folder INPUT into the file OUTPUT.")
@store_option
def score(
    input_: Path,
    output: Path,
    model: str | None,
    outputs: tuple[str, ...],
    keep: tuple[str, ...],
    chunk_rows: int,
    format_: str | None,
    errors: Path | None,
    overwrite: bool,
    shard: str | None,
    join: bool,
    store: str | None,
) -> None:
    """Score a file of rows (csv, jsonl, parquet) without a server; the outputs are those of /predict.

    \b
    berth score customers.csv scores.csv --keep customer_id
    berth score rows.jsonl scores.parquet --model churn@2 --outputs prediction,probabilities

    A row without a prediction has empty outputs and a line in the errors file. OUTPUT appears when it is whole.
    After a crash the same command resumes. With --shard, OUTPUT is a folder, in which each shard writes a part file.

    Exit codes: 0 scored; 1 scored, but some rows failed; 2 wrong usage; 3 refused, such as another model or other
    columns; 75 a temporary fault, such as a full disk: run it again.

    \b
    berth score customers.csv parts --shard 0/3      …1/3, 2/3, on any machines
    berth score --join parts scores.csv
    """
    settings = read_settings(model_store=store)
    with _exit_codes():
        if join:
            _join(input_, output, errors, overwrite)
            return
        wanted = _choose_shard(shard, settings.shards)
        places, reads, writes = _choose_places(input_, output, errors, format_, wanted)
        entry = select_models(store_directory(settings), model or settings.models, settings.model_version)[0]
        opened = open_tried(entry, load_options(settings), settings.version_policy)
        names = _choose_outputs(outputs, opened)
        if both := sorted(set(keep) & set(names)):
            raise click.BadParameter(f"--keep {both[0]}: an output has that name")
        _score(entry, opened, Job(input_, places, reads, writes, names, keep, chunk_rows, overwrite, wanted))


COMMANDS = (score,)
