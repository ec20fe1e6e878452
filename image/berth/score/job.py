"""One run: begin or go on, score chunk by chunk, put the files in their places."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, BinaryIO

from berth import __version__
from berth.errors import OperatorError
from berth.models.model import Model
from berth.score.answering import Ask, answer_chunk, make_ask
from berth.score.chunks import Columns, RowSink, RowSource, Scored
from berth.score.file_formats import FileFormat
from berth.score.parts import Places, append, cut, holds, open_part, sync
from berth.score.progress import Done, Piece, State, check_facts, read_state, write_state
from berth.score.remote_files import Place, RemoteStatus
from berth.score.run_drift import begin_drift
from berth.score.shards import Shard
from berth.score.value_texts import encode_line


@dataclass(frozen=True, slots=True)
class Job:
    """What to score, with what, and where the outputs go.

    How far the run is goes to the disk after the first chunk that ends `save_seconds` after the last time. `file` is
    I/N, the input's number among the files that belong together.
    """

    input: Place
    places: Places
    reads: FileFormat
    writes: FileFormat
    outputs: tuple[str, ...]
    keep: tuple[str, ...] = ()
    chunk_rows: int = 10_000
    overwrite: bool = False
    shard: Shard | None = None
    save_seconds: float = 0.0
    file: str = ""


def _facts(job: Job, model: Model) -> dict[str, Any]:
    """What must not change while a run is killed and goes on, in the forms that JSON keeps."""
    status = job.input.stat()
    return {
        "input": job.input.name,
        "input bytes": status.st_size,
        **({"input tag": status.tag} if isinstance(status, RemoteStatus) else {"input mtime_ns": status.st_mtime_ns}),
        "model": f"{model.name}@{model.version}",
        "model sha256": model.sha256,
        "accelerated": model.accelerated,
        "outputs": list(job.outputs),
        "keep": list(job.keep),
        "chunk rows": job.chunk_rows,
        "formats": [job.reads.name, job.writes.name],
        "errors": job.places.errors.name,
        "berth": __version__,
        **({"shard": str(job.shard)} if job.shard else {}),
        **({"file": job.file} if job.file else {}),
    }


def _rows_of_a_call(model: Model, chunk_rows: int) -> int:
    """The rows that go in one call: those of the chunk, unless the model accepts a fixed number."""
    return next((spec.shape[0] for spec in model.inputs if spec.shape and spec.shape[0] > 0), chunk_rows)


def _where_it_was(job: Job, facts: Mapping[str, Any]) -> Done:
    """How far an earlier run has come, else the beginning. Raises OperatorError where neither may go on."""
    places, overwrite = job.places, job.overwrite
    state = read_state(places.state)
    if state is None and job.shard is not None:  # done before: its pod ends once more, and well
        places.fetch_report()
        report = read_state(places.report)
        state = report if report is not None and report.facts == facts and places.find(places.output) else None
    if state is not None and (not overwrite or state.facts == facts):
        check_facts(state.facts, facts, places.part)
        if state.done.finished:
            return state.done
    else:
        state = None
    for path in (places.output, places.errors):
        if not overwrite and (found := places.find(path)) is not None:
            raise OperatorError(f"{found} is there already; choose another name, or replace it with --overwrite")
    if state is None:
        return Done()
    if holds(places.part, state.done.output_bytes) and holds(places.errors_part, state.done.errors_bytes):
        return state.done
    if overwrite:
        return Done()
    raise OperatorError(f"{places.part} is shorter than {places.state} says; begin again with --overwrite")


@dataclass(frozen=True, slots=True)
class _Run:
    """From where to where, `rows` at a time; `note` gets each chunk and whether it is on the disk by now."""

    source: RowSource
    sink: RowSink
    outputs: tuple[str, ...]
    rows: int
    ask: Ask
    note: Callable[[Done, Piece, bool], None]
    shard: Shard | None
    save_seconds: float

    def score(self, done: Done, output: BinaryIO, errors: BinaryIO) -> Done:
        """Write the rest of the part files."""
        cut(output, done.output_bytes)
        cut(errors, done.errors_bytes)
        if done.output_bytes == 0:
            done = replace(done, output_bytes=append(output, self.sink.head()))
        first, began = done.chunks, time.monotonic() - done.seconds
        saved = time.monotonic()

        def skips(number: int) -> bool:
            return self.shard is not None and not self.shard.takes(first + number)

        for number, chunk in enumerate(self.source.chunks(done.position, self.rows, skips)):
            passed = replace(done, rows=done.rows + len(chunk.rows), position=chunk.position, chunks=first + number + 1)
            if skips(number):
                done = replace(passed, skipped=done.skipped + len(chunk.rows))
                continue
            answers, failures = answer_chunk(chunk.rows, done.rows + 1, self.outputs, self.ask)
            before, done = (
                done,
                replace(
                    passed,
                    failed=done.failed + len(failures),
                    output_bytes=append(output, self.sink.encode(Scored(self.source.keep(chunk.rows), answers))),
                    errors_bytes=append(errors, b"".join(encode_line(asdict(failure)) for failure in failures)),
                    seconds=time.monotonic() - began,
                ),
            )
            sizes = (done.output_bytes - before.output_bytes, done.errors_bytes - before.errors_bytes)
            if is_due := time.monotonic() - saved >= self.save_seconds:
                sync(output)
                sync(errors)
                saved = time.monotonic()
            self.note(done, Piece(before.chunks, len(chunk.rows), *sizes), is_due)
        sync(output)
        sync(errors)
        return done


def _publish(places: Places, sink: RowSink, done: Done, keeps_report: bool) -> None:
    """Put what is finished in its place; what an earlier run put there already stays."""
    if done.errors_bytes == 0:
        places.errors_part.unlink(missing_ok=True)
        places.errors.unlink(missing_ok=True)
    elif places.errors_part.exists() and places.errors_part.stat().st_size == done.errors_bytes:
        places.errors_part.replace(places.errors)
    if places.part.exists() and places.part.stat().st_size == done.output_bytes:
        sink.publish(places.part, places.output)
    if keeps_report and places.state.exists():
        places.state.replace(places.report)
    places.deliver(done.errors_bytes > 0)
    for path in (places.part, places.errors_part, places.state):
        path.unlink(missing_ok=True)
    places.clear()


class _Notes:
    """What the state file says of a run, and of a shard in the end its report."""

    def __init__(self, job: Job, model: Model, facts: Mapping[str, Any], head: bytes, resumes: bool) -> None:
        state = read_state(job.places.state) if job.shard is not None and resumes else None
        begun = state if state is not None and state.facts == facts else None
        self._path, self._facts = job.places.state, facts
        self._pieces = None if job.shard is None else list(begun.pieces if begun is not None else ())
        self._head = b"" if job.shard is None else head
        counts = begun.counts if begun is not None else ()
        self.drift = None if job.shard is None else begin_drift(model, job.outputs, counts)

    def add(self, piece: Piece) -> None:
        """A chunk was written."""
        if self._pieces is not None:
            self._pieces.append(piece)

    def write(self, done: Done) -> None:
        """Replace the state file."""
        counts, drift = (self.drift.counts, self.drift.report()) if self.drift is not None else ((), None)
        drift = drift if done.finished else None
        write_state(self._path, State(self._facts, done, tuple(self._pieces or ()), self._head, counts, drift))


def score_file(
    job: Job, model: Model, on_open: Callable[[RowSource, Done], None], on_chunk: Callable[[Done], None]
) -> Done:
    """Score the whole input; resume a killed run. `on_open` gets what is there at the start.

    Raises InvalidInput, OperatorError, OSError.
    """
    source = job.reads.read(job.input, model.inputs, job.keep)
    specs = {spec.name: spec for spec in model.outputs}
    sink = job.writes.write(Columns(job.keep, tuple(specs[name] for name in job.outputs), source.types))
    places, facts, rows = job.places, _facts(job, model), _rows_of_a_call(model, job.chunk_rows)
    begun = _where_it_was(job, facts)
    on_open(source, begun)
    notes = _Notes(job, model, facts, sink.head(), begun.chunks > 0)

    def note(done: Done, piece: Piece, is_due: bool) -> None:
        notes.add(piece)
        if is_due:
            notes.write(done)
        on_chunk(done)

    ask = make_ask(source, model, job.outputs, rows, notes.drift)
    run = _Run(source, sink, job.outputs, rows, ask, note, job.shard, job.save_seconds)
    with open_part(places.part) as output, open_part(places.errors_part) as errors:
        # Checked again: another run may have ended meanwhile.
        done = _where_it_was(job, facts)
        if not done.finished:
            done = run.score(done, output, errors)
            check_facts(facts, _facts(job, model), places.part)
            done = replace(done, finished=True)
            notes.write(done)
        _publish(places, sink, done, job.shard is not None)
    return done
