"""One file from anywhere to this disk: in pieces, again after a cut, from where the cut was.

A source raises ConnectionError for what another try may fix and StoreError for what it will not.
"""

from __future__ import annotations

import errno
import math
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeVar

from berth.errors import IntegrityError, StoreError
from berth.models.manifest import FileDigest, check_digest

T = TypeVar("T")
CHUNK_BYTES = 1 << 20
Moved = Callable[[int], None]
# A try that brings less is one that failed, and a connection that brings less in Persistence.window is cut.
LEAST_BYTES = 64 << 10
# Tries in a row that fail; each waits twice as long as the one before.
_TRIES = 5
_LONGEST_PAUSE = 30.0
MORE_ROOM = "give it more room: a larger disk or claim, --max-bytes, or scratchSize in the chart"
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


class Cut(ConnectionError):
    """The network failed; `pause` is how long the server says to wait."""

    def __init__(self, reason: str, pause: float = 0.0) -> None:
        super().__init__(reason)
        self.pause = min(pause, _LONGEST_PAUSE)


@dataclass(frozen=True, slots=True)
class Stream:
    """A file from `start` on. `total` is its whole size where it is known, `tag` what names its state."""

    start: int
    total: int | None
    tag: str
    chunks: Iterator[bytes]


class ModelSource(Protocol):
    """A store somewhere else. Paths in it are NAME/VERSION/FILE, with slashes."""

    shown: str

    def list_names(self) -> list[str]:
        """The models that are there; none of a source that has files alone."""
        return []

    def list_versions(self, name: str) -> list[str]:
        """A model's versions, in any order."""
        return []

    def open(self, path: str, offset: int = 0, tag: str = "") -> AbstractContextManager[Stream]:
        """A file's bytes from `offset`, or from 0 where that cannot be or the file is no longer what `tag` names."""

    def movable(self, path: str) -> Path | None:
        """The file itself, where it is already on the right disk and nothing else needs it."""
        return None


@dataclass(frozen=True)
class Persistence:
    """How often to try again, and how long to wait: `window` is a connection's, `ends` everything's."""

    first_pause: float = 0.5
    sleep: Callable[[float], None] = time.sleep
    window: float = 30.0
    ends: float = math.inf  # as time.monotonic() has it

    def check_time(self) -> None:
        """That there is some left. Raises Cut, because what has come is worth keeping."""
        if time.monotonic() > self.ends:
            raise Cut("the time of --max-seconds is over")

    def run(self, what: str, attempt: Callable[[], T], progress: Callable[[], int] = lambda: 0) -> T:
        """The attempt's result; a cut is tried again, as long as tries get further."""
        failed, reached = 0, progress()
        while True:
            try:
                self.check_time()
                return attempt()
            except ConnectionError as error:
                failed += 1
                if progress() >= reached + LEAST_BYTES:
                    failed, reached = 0, progress()
                pause = max(getattr(error, "pause", 0.0), self.first_pause * 2**failed)
                if failed >= _TRIES or time.monotonic() + pause > self.ends:
                    raise StoreError(f"{what}: {error} ({failed} tries); pull again, what is here stays") from error
                self.sleep(pause)


def disk_error(error: OSError, path: Path) -> StoreError:
    """What the disk said, and what to do."""
    if error.errno in _FULL:
        return StoreError(f"no room left in {str(path)!r}: {MORE_ROOM}")
    return StoreError(f"{str(path)!r} cannot be written: {error.strerror or error}")


def _size(part: Path) -> int:
    return part.stat().st_size if part.exists() else 0


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """The disk's errors as ours, so that they never pass for the network's."""
    try:
        yield
    except OSError as error:
        raise disk_error(error, path.parent) from error


def find_room(into: Path, max_bytes: int) -> int:
    """How many bytes may still come into the directory: the disk's free ones, or fewer with --max-bytes."""
    free = shutil.disk_usage(into).free
    if not max_bytes:
        return free
    with writing(into):
        return min(free, max_bytes - sum(path.stat().st_size for path in into.rglob("*") if path.is_file()))


def _append(
    part: Path,
    stream: Stream,
    limit: int,
    persistence: Persistence,
    too_long: Exception,
    moved: Moved = lambda n: None,
) -> None:
    """The stream's bytes behind what `part` holds, or in its place when it begins at 0. Raises Cut, `too_long`."""
    size = stream.start
    if stream.total is not None and stream.total > limit:
        raise too_long
    with writing(part):
        file = part.open("ab" if stream.start else "wb", buffering=0)
    with file:
        for chunk in stream.chunks:
            size += len(chunk)
            if size > limit:
                raise too_long
            persistence.check_time()
            with writing(part):
                rest = memoryview(chunk)
                while rest:  # a disk that fills up may take a part of it first
                    rest = rest[file.write(rest) :]
            moved(size)
    if stream.total is not None and size < stream.total:
        raise Cut(f"the connection was cut after {size} of {stream.total} bytes")


def read_small(source: ModelSource, path: str, limit: int, persistence: Persistence) -> bytes:
    """A small file's bytes. Raises StoreError when it has more than `limit`."""

    def attempt() -> bytes:
        found = bytearray()
        with source.open(path) as stream:
            for chunk in stream.chunks:
                found += chunk
                persistence.check_time()
                if len(found) > limit:
                    raise StoreError(f"{path} of {source.shown} has more than {limit} bytes, the maximum here")
            if stream.total is not None and len(found) < stream.total:
                raise Cut(f"the connection was cut after {len(found)} of {stream.total} bytes")
        return bytes(found)

    return persistence.run(f"{path} of {source.shown}", attempt)


def fetch_sized(
    source: ModelSource, path: str, part: Path, size: int | None, limit: int, persistence: Persistence
) -> None:
    """`path` of the source in `part`, of `size` bytes where a listing says so. Raises StoreError."""

    too_long = StoreError(f"{path} of {source.shown} has more than the {limit} bytes there is room for")

    def attempt() -> None:
        with source.open(path) as stream:
            if size is not None and stream.total not in (None, size):
                raise StoreError(f"{path} has {stream.total} bytes at {source.shown}, but its listing says {size}")
            _append(part, stream, limit, persistence, too_long)
        if size is not None and (have := _size(part)) != size:
            raise Cut(f"it ended after {have} of {size} bytes")

    persistence.run(f"{path} of {source.shown}", attempt)


def fetch_listed(
    source: ModelSource,
    files: Sequence[tuple[str, int | None]],
    into: Path,
    persistence: Persistence,
    find_other: Callable[[str, int | None], ModelSource | None] = lambda path, size: None,
) -> None:
    """Every file of a listing below `into`; one that `find_other` finds elsewhere from there. Raises StoreError."""
    room = find_room(into, 0)
    if (known := sum(size or 0 for _, size in files)) > room:
        raise StoreError(f"it has {known} bytes, but {room} are free in {str(into)!r}")
    for path, size in files:
        to = into / path
        to.parent.mkdir(parents=True, exist_ok=True)
        other = find_other(path, size)
        fetch_sized(other or source, "" if other else path, to, size, room, persistence)
        room -= to.stat().st_size


def fetch_file(
    source: ModelSource,
    path: str,
    part: Path,
    wanted: FileDigest,
    persistence: Persistence,
    moved: Moved,
    by: str = "model.json",
) -> None:
    """`path` of the source in `part`, byte for byte what `by` says. Raises IntegrityError, StoreError."""
    leftover = _size(part) > 0
    too_long = IntegrityError(f"{path} of {source.shown} has more than the {wanted.bytes} bytes that {by} says")

    def attempt() -> None:
        have = _size(part)
        if have == wanted.bytes and part.exists():
            return
        with source.open(path, have if have < wanted.bytes else 0) as stream:
            if stream.total not in (None, wanted.bytes):
                raise IntegrityError(f"{path} has {stream.total} bytes at {source.shown}, but {by} says {wanted.bytes}")
            _append(part, stream, wanted.bytes, persistence, too_long, moved)
        if (have := _size(part)) < wanted.bytes:
            raise Cut(f"it ended after {have} of {wanted.bytes} bytes")

    persistence.run(f"{path} of {source.shown}", attempt, lambda: _size(part))
    try:
        check_digest(part, f"{path} from {source.shown}", wanted, by)
    except IntegrityError:
        part.unlink()
        if not leftover:
            raise
        # What an earlier run left was bad; the source may be fine.
        fetch_file(source, path, part, wanted, persistence, moved, by)


def fetch_whole(source: ModelSource, path: str, part: Path, limit: int, persistence: Persistence, moved: Moved) -> None:
    """A file of unknown digest in `part`; it goes on from an earlier run only if the source names its state.

    Raises StoreError, for one of more than `limit` bytes too: those are half of the room, the rest is to unpack it.
    """
    note = part.with_name(part.name + ".tag")
    too_long = StoreError(
        f"{source.shown} has more than {limit} bytes, half of what there is room for, and is to be unpacked: "
        f"{MORE_ROOM}"
    )

    def attempt() -> None:
        tag = note.read_text("utf-8") if note.exists() and part.exists() else ""
        with source.open(path, _size(part) if tag else 0, tag) as stream:
            with writing(note):
                note.write_text(stream.tag, "utf-8")
            _append(part, stream, limit, persistence, too_long, moved)

    persistence.run(f"{path or 'the archive'} of {source.shown}", attempt, lambda: _size(part))
    note.unlink(missing_ok=True)
