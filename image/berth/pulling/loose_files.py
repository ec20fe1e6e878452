"""The files below an address in a bucket, as they lie there: a model that a platform names, not yet in a store."""

from __future__ import annotations

from pathlib import Path

from berth.errors import StoreError
from berth.pulling.addresses import split_scheme
from berth.pulling.bucket import BucketSource, open_bucket
from berth.pulling.origin import check_file_names
from berth.pulling.transfer import Persistence, fetch_listed


def copy_loose_files(source: BucketSource, into: Path, persistence: Persistence) -> None:
    """Copy every file of a source into a folder. Raises StoreError, also where there is none."""
    # A folder that somebody made by hand is an empty object whose name ends in a slash.
    files = [row for row in persistence.run(source.shown, source.list_files) if not row[0].endswith("/")]
    if not files:
        raise StoreError(f"{source.shown} has no files")
    check_file_names([name for name, _ in files], source.shown)
    fetch_listed(source, files, into, persistence)


def fetch_loose_files(uri: str, into: Path) -> None:
    """Copy every file below a bucket's address into a folder. Raises StoreError."""
    scheme, place = split_scheme(uri)
    persistence = Persistence()
    source = persistence.run(uri, lambda: open_bucket(scheme, place.rstrip("/")))
    copy_loose_files(source, into, persistence)
