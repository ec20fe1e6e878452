"""Part files of shards into the file that one run would have written, byte for byte, and a summary of all."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO

from berth.errors import OperatorError
from berth.score.parts import Places
from berth.score.progress import Piece, State, read_state
from berth.score.shards import find_parts
from berth.telemetry.drift.report import add_reports
from berth.whole_files import write_whole

SUMMARY = "_summary.json"
# What may differ between the shards of one run.
_OWN_FACTS = ("shard", "errors")
# What files that were scored one by one also have of their own.
_FILE_FACTS = ("file", "input", "input bytes", "input mtime_ns", "input tag")


@dataclass(frozen=True, slots=True)
class _ShardFile:
    """One shard's files and what they hold, in the order of its chunks."""

    places: Places
    state: State


def _read_part(path: Path) -> _ShardFile:
    places = Places(path, path.with_name(path.name + ".errors.jsonl"))
    if (state := read_state(places.report)) is None or not state.done.finished:
        raise OperatorError(f"{path} has no {places.report.name}; run its shard again")
    return _ShardFile(places, state)


def _file_number(part: _ShardFile) -> tuple[int, int]:
    """(number, of how many) among files that were scored one by one."""
    number, _, count = str(part.state.facts.get("file", "")).partition("/")
    return int(number), int(count)


def _read_files(folder: Path) -> list[_ShardFile]:
    """The outputs of several input files as parts of one, in the order of the inputs. Raises OperatorError."""
    reports = {path: read_state(path) for path in sorted(folder.glob("*.json")) if path.name != SUMMARY}
    files = [path.with_suffix("") for path, state in reports.items() if state is not None and "file" in state.facts]
    parts = sorted(map(_read_part, files), key=_file_number)
    counts = {_file_number(part)[1] for part in parts}
    if len(counts) != 1 or [_file_number(part)[0] for part in parts] != list(range(max(counts, default=0))):
        raise OperatorError(f"{folder} holds {len(parts)} of {max(counts, default=0)} scored files; run the rest first")
    found, chunks = [], 0
    for part in parts:
        pieces = tuple(replace(piece, chunk=piece.chunk + chunks) for piece in part.state.pieces)
        found.append(replace(part, state=replace(part.state, pieces=pieces)))
        chunks += part.state.done.chunks
    return found


def _read_parts(folder: Path) -> list[_ShardFile]:
    """The shards of one file, or the files of one run. Raises OperatorError."""
    if any(folder.glob("part-*-of-*")) or not any(folder.glob("*.json")):
        return [_read_part(path) for path in find_parts(folder)]
    return _read_files(folder)


def _shared_facts(part: _ShardFile) -> dict[str, Any]:
    own = (*_OWN_FACTS, *(_FILE_FACTS if "file" in part.state.facts else ()))
    return {name: value for name, value in part.state.facts.items() if name not in own}


def _count_chunks(parts: Sequence[_ShardFile]) -> int:
    if "file" in parts[0].state.facts:
        return sum(part.state.done.chunks for part in parts)
    return parts[0].state.done.chunks


def _check_whole(parts: Sequence[_ShardFile]) -> None:
    """That the parts belong together and that no chunk is missing. Raises OperatorError."""
    first = _shared_facts(parts[0])
    for part in parts[1:]:
        now = _shared_facts(part)
        if changed := [name for name in {**first, **now} if first.get(name) != now.get(name)]:
            raise OperatorError(
                f"{part.places.output} was scored from something else: {changed[0]} is {now.get(changed[0])!r}, but "
                f"{first.get(changed[0])!r} in {parts[0].places.output}; score it again with --overwrite"
            )
    chunks = sorted(piece.chunk for part in parts for piece in part.state.pieces)
    if chunks != list(range(_count_chunks(parts))):
        raise OperatorError(f"the parts in {parts[0].places.output.parent} do not cover every row; score them again")
    for part in parts:
        for path, size in (
            (part.places.output, part.state.done.output_bytes),
            (part.places.errors, part.state.done.errors_bytes),
        ):
            if size and path.suffix != ".parquet" and (not path.exists() or path.stat().st_size != size):
                raise OperatorError(f"{path} does not have the {size} bytes that its run wrote; score it again")


def _in_order(parts: Sequence[_ShardFile]) -> Iterator[tuple[int, Piece]]:
    """(which part, piece) for every chunk of the input."""
    pieces = ((piece.chunk, at, piece) for at, part in enumerate(parts) for piece in part.state.pieces)
    return ((at, piece) for _, at, piece in sorted(pieces, key=lambda row: row[0]))


def _copy(source: BinaryIO, to: BinaryIO, size: int) -> None:
    while size and (chunk := source.read(min(size, 1 << 20))):
        to.write(chunk)
        size -= len(chunk)


def _join_bytes(files: Sequence[Path], head: int, sizes: Iterator[tuple[int, int]], to: Path) -> None:
    """Pieces of several files, in order, behind what stands in front of the first piece."""
    with ExitStack() as stack, to.open("wb") as joined:
        opened = [stack.enter_context(path.open("rb")) if path.exists() else None for path in files]
        for at, file in enumerate(opened):
            if file is not None and head:
                joined.write(file.read(head) if at == 0 else b"")
                file.seek(head)
        for at, size in sizes:
            if (file := opened[at]) is not None:
                _copy(file, joined, size)
        joined.flush()
        os.fsync(joined.fileno())


def _join_parquet(files: Sequence[Path], head: bytes, pieces: Iterator[tuple[int, Piece]], to: Path) -> None:
    """Chunks of several Parquet files, each as one write, as a single run writes them; `head` is its Arrow schema."""
    import pyarrow as pa
    from pyarrow import parquet

    schema = pa.ipc.read_schema(pa.py_buffer(head))  # that of a file which was read names the items of lists otherwise

    with ExitStack() as stack:
        opened = [stack.enter_context(parquet.ParquetFile(path)) for path in files]
        groups = [0] * len(files)
        with parquet.ParquetWriter(to, schema) as writer:
            for at, piece in pieces:
                took = range(groups[at], groups[at])
                while sum(opened[at].metadata.row_group(group).num_rows for group in took) < piece.rows:
                    took = range(took.start, took.stop + 1)
                groups[at] = took.stop
                for batch in opened[at].read_row_groups(list(took)).cast(schema).combine_chunks().to_batches():
                    writer.write_batch(batch)


def _add_drift(parts: Sequence[_ShardFile]) -> dict[str, Any] | None:
    """The drift of all rows, None where the model has no profile."""
    reports = [part.state.drift for part in parts if part.state.drift is not None]
    if len(reports) < len(parts):
        return None
    whole = add_reports(reports)
    return {"rows": whole["rows"], "features": whole["features"]}


def _summarize(parts: Sequence[_ShardFile]) -> dict[str, Any]:
    done, facts = [part.state.done for part in parts], parts[0].state.facts
    return {
        "model": facts["model"],
        "model_sha256": facts["model sha256"],
        "files" if "file" in facts else "shards": len(parts),
        "rows": sum(one.rows for one in done) if "file" in facts else done[0].rows,
        "failed": sum(one.failed for one in done),
        "seconds": round(sum(one.seconds for one in done), 3),
        "drift": _add_drift(parts),
    }


def summarize_files(folder: Path) -> Mapping[str, Any]:
    """`_summary.json` of files that were scored one by one. Raises OperatorError where one is missing."""
    summary = _summarize(_read_files(folder))
    write_whole(folder / SUMMARY, json.dumps(summary, indent=2) + "\n")
    return summary


def join_shards(folder: Path, places: Places, overwrite: bool) -> Mapping[str, Any]:
    """One file from the parts in `folder`, and `_summary.json` beside them; the summary.

    Raises OperatorError where a part is missing, is of another run, or was changed.
    """
    for path in (places.output, places.errors):
        if path.exists() and not overwrite:
            raise OperatorError(f"{path} is there already; choose another name, or replace it with --overwrite")
    parts = _read_parts(folder)
    files = [part.places.output for part in parts]
    if files[0].suffix != places.output.suffix:
        raise OperatorError(f"the parts in {folder} are {files[0].suffix} files; end the joined file's name likewise")
    _check_whole(parts)
    head = parts[0].state.head
    if files[0].suffix == ".parquet":
        _join_parquet(files, head, _in_order(parts), places.part)
    else:
        _join_bytes(files, len(head), ((at, piece.output_bytes) for at, piece in _in_order(parts)), places.part)
    errors = [part.places.errors for part in parts]
    _join_bytes(errors, 0, ((at, piece.errors_bytes) for at, piece in _in_order(parts)), places.errors_part)
    summary = _summarize(parts)
    write_whole(folder / SUMMARY, json.dumps(summary, indent=2) + "\n")
    if places.errors_part.stat().st_size:
        places.errors_part.replace(places.errors)
    else:
        places.errors_part.unlink()
        places.errors.unlink(missing_ok=True)
    shutil.move(places.part, places.output)
    return summary
