"""Stores in buckets (s3://, gs://, az://): fsspec does the transport; credentials are its own environment variables."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from berth.errors import BerthError, StoreError
from berth.pulling.transfer import CHUNK_BYTES, Cut, ModelSource, Stream

# What each scheme needs, and what installs it.
LIBRARIES = {
    "s3": ("s3fs", "berth[s3]"),
    "gs": ("gcsfs", "berth[gs]"),
    "az": ("adlfs", "berth[az]"),
    "abfs": ("adlfs", "berth[az]"),
}
_BLOCK_BYTES = 8 << 20


@contextmanager
def understood(what: str) -> Iterator[None]:
    """Every library's errors as ours: what is not there or not allowed stays so, all else may be a cut."""
    try:
        yield
    except (BerthError, ConnectionError):
        raise
    except FileNotFoundError as error:
        raise StoreError(f"{what} is not there") from error
    except PermissionError as error:
        raise StoreError(f"{what} may not be read: {error}; are the credentials in the environment?") from error
    except (OSError, TimeoutError) as error:
        raise Cut(f"{what} cannot be reached: {error}") from error
    except Exception as error:  # each cloud's library has a tree of its own
        if "credential" in f"{type(error).__name__} {error}".lower():
            raise StoreError(f"{what}: {error}; put credentials into the environment of this command") from error
        raise Cut(f"{what}: {type(error).__name__}: {error}") from error


def open_filesystem(scheme: str) -> Any:
    """fsspec's file system of a scheme of LIBRARIES. Raises StoreError, with what to install."""
    library, package = LIBRARIES[scheme]
    try:
        importlib.import_module(library)
        import fsspec
    except ImportError as error:
        raise StoreError(
            f"{scheme}:// needs the library {library}, which is not installed: pip install '{package}'"
        ) from error
    return fsspec.filesystem(scheme, use_listings_cache=False, skip_instance_cache=True)


class BucketSource(ModelSource):
    """A store below a prefix of an fsspec file system."""

    def __init__(self, files: Any, place: str, shown: str) -> None:
        self.shown = shown
        self._place = place.strip("/")
        self._files = files

    def _list(self, path: str) -> list[str]:
        with understood(f"{self.shown}/{path}".rstrip("/")):
            rows = self._files.ls("/".join(filter(None, (self._place, path))), detail=True)
        return [row["name"].rstrip("/").rpartition("/")[2] for row in rows if row["type"] == "directory"]

    def list_names(self) -> list[str]:
        """The folders below the prefix."""
        return self._list("")

    def list_versions(self, name: str) -> list[str]:
        """The folders below a model's."""
        return self._list(name)

    def list_files(self) -> list[tuple[str, int | None]]:
        """(path below the prefix, size) of every file, however deep."""
        with understood(self.shown):
            rows = self._files.find(self._place, detail=True)
        start = len(self._place) + 1
        return [(name[start:], row.get("size")) for name, row in sorted(rows.items()) if len(name) > start]

    @contextmanager
    def open(self, path: str, offset: int = 0, tag: str = "") -> Iterator[Stream]:
        """A file's bytes from `offset`; of "" the prefix itself as a file."""
        whole = "/".join(filter(None, (self._place, path)))
        what = f"{self.shown}/{path}".rstrip("/")
        with understood(what):
            info = self._files.info(whole)
            now = str(info.get("ETag") or "")
            start = offset if not tag or tag == now else 0
            with self._files.open(whole, "rb", block_size=_BLOCK_BYTES, cache_type="readahead") as file:
                file.seek(start)
                yield Stream(start, int(info["size"]), now, iter(lambda: file.read(CHUNK_BYTES), b""))


def open_bucket(scheme: str, place: str) -> BucketSource:
    """The store at scheme://place. Raises StoreError, with the library to install where it is missing."""
    shown = f"{scheme}://{place}"
    with understood(shown):
        return BucketSource(open_filesystem(scheme), place, shown)
