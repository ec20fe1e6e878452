"""`berth score --join`: the parts of a folder, here or in a bucket, as one file."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from berth.cli.score_places import place_output
from berth.errors import OperatorError
from berth.score.joining import join_shards, summarize_files
from berth.score.remote_files import Place, RemotePlace

_SUMMARY = "_summary.json"


@contextmanager
def _as_folder(place: Place, pattern: str = "*") -> Iterator[Path]:
    """The files of a place in a folder here. Its `_summary.json` goes back."""
    if isinstance(place, Path):
        yield place
        return
    folder = Path(tempfile.mkdtemp(prefix="berth-join-"))
    try:
        for file in place.list_files(pattern):
            file.download(folder / file.name)
        yield folder
        if (folder / _SUMMARY).exists():
            (place / _SUMMARY).upload(folder / _SUMMARY)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def summarize(output: Place) -> Mapping[str, Any]:
    """`_summary.json` of files that were scored one by one. Raises OperatorError, StoreError."""
    with _as_folder(output, "*.json") as folder:
        return summarize_files(folder)


def join(folder: Place, output: Place, errors: Place | None, overwrite: bool) -> tuple[Mapping[str, Any], Path]:
    """The summary, and where the errors are. Raises click.BadParameter, OperatorError, StoreError."""
    if not folder.is_dir():
        raise click.BadParameter(f"--join: there is no folder {str(folder)!r}")
    if isinstance(errors, RemotePlace):
        raise click.BadParameter("--errors is a path on this disk; in a bucket, the errors are beside OUTPUT")
    places = place_output(output)
    places = replace(places, errors=errors or places.errors)
    if not overwrite and places.find(places.output) is not None:
        raise OperatorError(f"{output} is there already; choose another name, or replace it with --overwrite")
    with _as_folder(folder) as parts:
        summary = join_shards(parts, places, overwrite or places.remote is not None)
    places.deliver(summary["failed"] > 0)
    places.clear()
    return summary, places.errors
