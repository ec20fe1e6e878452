"""Which files `berth score` reads and writes: one file, a directory or a pattern; here or in a bucket."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

import click

from berth.errors import BerthError
from berth.score.file_formats import FORMATS, FileFormat, find_format
from berth.score.parts import Places
from berth.score.remote_files import Place, RemotePlace, open_place, scratch_folder
from berth.score.shards import Shard

_WILD = frozenset("*?[")
_WHOLE = Shard(0, 1)


@dataclass(frozen=True, slots=True)
class ScoredFile:
    """One input and where its scores go; `file` is I/N, its number where several are scored one by one."""

    input: Place
    places: Places
    reads: FileFormat
    writes: FileFormat
    shard: Shard | None = None
    file: str = ""

    @property
    def shown(self) -> str:
        """The output as people write it."""
        return str(self.places.remote / self.places.output.name if self.places.remote else self.places.output)


def parse_place(_: click.Context, option: click.Parameter, text: str | None) -> Place | None:
    """A path, a file:// URI or one in a bucket. Raises click.BadParameter for what lies elsewhere."""
    if text is None or "://" not in text:
        return None if text is None else Path(text)
    try:
        parts = urlsplit(text)
        if parts.scheme != "file":
            return open_place(text)
    except (BerthError, ValueError) as error:
        raise click.BadParameter(error.message if isinstance(error, BerthError) else str(error)) from error
    if parts.netloc not in ("", "localhost"):
        raise click.BadParameter(f"{text.partition('?')[0]!r}: want file:///PATH; fetch a file of another host first")
    return Path(unquote(parts.path))


def _choose_format(path: Place, given: str | None) -> FileFormat:
    """The format that the ending names, else the given one. Raises click.BadParameter, OperatorError."""
    if (format_ := find_format(path) or FORMATS.get(given or "")) is None:
        endings = ", ".join(ending for known in FORMATS.values() for ending in known.endings)
        raise click.BadParameter(f"{path.name!r} ends in none of {endings}; name its format with --format")
    format_.check()
    return format_


def choose_formats(input_: Place, output: Place, given: str | None) -> tuple[FileFormat, FileFormat]:
    """How to read and to write; `given` stands in for an unknown ending. Raises as `_choose_format`."""
    reads, writes = _choose_format(input_, given), _choose_format(output, given)
    if given and given not in (reads.name, writes.name):
        raise click.BadParameter(f"--format {given}, but by their endings the files are {reads.name} and {writes.name}")
    return reads, writes


def _is_pattern(place: Place) -> bool:
    return bool(_WILD & set(place.name)) and not (isinstance(place, Path) and place.exists())


def list_inputs(place: Place) -> list[Place] | None:
    """The files of a directory or of a pattern, by name; None for one file. Raises click.BadParameter."""
    if _is_pattern(place):
        folder, pattern = place.parent, place.name
    elif place.is_file():
        return None
    elif place.is_dir():
        folder, pattern = place, "*"
    else:
        raise click.BadParameter(f"INPUT: there is no file {str(place)!r}")
    found: Sequence[Place] = (
        sorted(path for path in folder.glob(pattern) if path.is_file())
        if isinstance(folder, Path)
        else folder.list_files(pattern)
    )
    files = [path for path in found if find_format(path) and ".errors." not in path.name]
    if not files:
        raise click.BadParameter(f"INPUT: {str(place)!r} holds no csv, jsonl or parquet file")
    return files


def _local_folder(output: Place) -> Path:
    """The folder to write in: of a bucket's, one here whose files get uploaded."""
    if isinstance(output, RemotePlace):
        return scratch_folder(output)
    output.mkdir(parents=True, exist_ok=True)
    return output


def _places_in(output: Place, name: str) -> Places:
    path = _local_folder(output) / name
    errors = path.with_name(path.name + ".errors.jsonl")
    return Places(path, errors, output if isinstance(output, RemotePlace) else None)


def _choose_set(files: Sequence[Place], output: Place, format_: str | None, shard: Shard | None) -> list[ScoredFile]:
    """One output for each input, of a shard for every n-th. Raises click.BadParameter, OperatorError."""
    found: list[ScoredFile] = []
    for number, file in enumerate(files):
        reads = _choose_format(file, None)
        writes = FORMATS[format_] if format_ else reads
        writes.check()
        name = file.name if reads is writes else Path(file.name).stem + writes.endings[0]
        if shard is None or shard.takes(number):
            found.append(ScoredFile(file, _places_in(output, name), reads, writes, _WHOLE, f"{number}/{len(files)}"))
    names = [one.places.output.name for one in found]
    if len(set(names)) < len(names):
        raise click.BadParameter("two of the input files have one name beside their endings; score them one by one")
    if isinstance(output, Path) and output.resolve() == Path(str(files[0].parent)).resolve():
        raise click.BadParameter("OUTPUT is the folder of the inputs; name another one")
    return found


def choose_places(
    input_: Place, output: Place, errors: Place | None, format_: str | None, shard: Shard | None
) -> list[ScoredFile]:
    """What to read and where to write. Raises click.BadParameter, OperatorError."""
    if isinstance(errors, RemotePlace) or (errors is not None and isinstance(output, RemotePlace)):
        raise click.BadParameter("--errors is a path on this disk; in a bucket, the errors are beside OUTPUT")
    if (files := list_inputs(input_)) is not None:
        if errors is not None:
            raise click.BadParameter("--errors is for one input file; of several, each output has its errors beside it")
        return _choose_set(files, output, format_, shard)
    if shard is not None:
        reads = _choose_format(input_, format_)
        writes = FORMATS.get(format_ or reads.name, reads)
        writes.check()
        places = _places_in(output, shard.file(Path(), writes.endings[0]).name)
    elif isinstance(output, Path) and output.is_dir():
        raise click.BadParameter(f"OUTPUT: {str(output)!r} is a directory; name a file in it")
    else:
        reads, writes = choose_formats(input_, output, format_)
        places = place_output(output)
    places = Places(places.output, errors or places.errors, places.remote)
    if isinstance(input_, Path) and len({path.resolve() for path in (input_, places.output, places.errors)}) < 3:
        raise click.BadParameter("INPUT, OUTPUT and the errors must be three different files")
    return [ScoredFile(input_, places, reads, writes, shard)]


def place_output(output: Place) -> Places:
    """Where one output file is written."""
    if isinstance(output, RemotePlace):
        path = scratch_folder(output) / output.name
        return Places(path, path.with_name(path.name + ".errors.jsonl"), output.parent)
    return Places(output, output.with_name(output.name + ".errors.jsonl"))
