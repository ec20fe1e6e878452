"""What is known of a model that was fetched from elsewhere, and where it lies meanwhile."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from berth.errors import StoreError

_MOST_FILES = 10_000


@dataclass(frozen=True)
class Fetched:
    """A model file or folder on this disk; `source` is what metadata.source of its version says."""

    path: Path
    source: Mapping[str, Any]


def check_file_names(names: Iterable[str], shown: str) -> None:
    """That names from a listing are plain paths inside a folder, and not too many. Raises StoreError."""
    for count, name in enumerate(names, 1):
        path = PurePosixPath(name)
        if count > _MOST_FILES:
            raise StoreError(f"{shown} lists more than {_MOST_FILES} files")
        if path.is_absolute() or not path.parts or ".." in path.parts or not name.isprintable() or "\\" in name:
            raise StoreError(f"{shown} lists a file {name[:200]!r}, which is no name inside a folder")
