"""The files below an address in a bucket, as they lie there: a model that a platform names, not yet in a store."""

from __future__ import annotations

from functools import partial
from pathlib import Path, PurePosixPath

from berth.errors import StoreError
from berth.pulling.addresses import split_scheme
from berth.pulling.bucket import BucketSource, open_bucket
from berth.pulling.transfer import Persistence


def _local(into: Path, path: str) -> Path:
    parts = PurePosixPath(path)
    if parts.is_absolute() or ".." in parts.parts or "\\" in path or not path.isprintable():
        raise StoreError(f"the bucket has a file {path[:120]!r}, which is not a path below its folder")
    return into / parts


def _copy(source: BucketSource, path: str, file: Path) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    with source.open(path) as stream, file.open("wb") as output:
        for chunk in stream.chunks:
            output.write(chunk)


def copy_loose_files(source: BucketSource, into: Path, persistence: Persistence) -> None:
    """Copy every file of a source into a folder. Raises StoreError, also where there is none."""
    # A folder that somebody made by hand is an empty object whose name ends in a slash.
    names = [name for name, _ in persistence.run(source.shown, source.list_files) if not name.endswith("/")]
    if not names:
        raise StoreError(f"{source.shown} has no files")
    for name in names:
        file = _local(into, name)
        persistence.run(f"{source.shown}/{name}", partial(_copy, source, name, file))


def fetch_loose_files(uri: str, into: Path) -> None:
    """Copy every file below a bucket's address into a folder. Raises StoreError."""
    scheme, place = split_scheme(uri)
    persistence = Persistence()
    source = persistence.run(uri, lambda: open_bucket(scheme, place.rstrip("/")))
    copy_loose_files(source, into, persistence)
