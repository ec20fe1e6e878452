"""A note of the batch that the model has in hand; found after the process's death, it names the batch that killed it.

One file a consumer, in a folder that outlives the process:

    KEY-NAME.json   KEY stands for the group and its source. "hand" has the messages inside the model now, as spans of
                    positions; "suspects" those that earlier processes died of and that are not done yet; "starting" is
                    true while the process that predicts for suspects is started

A consumer holds a lock on its file while it lives. The next one to start takes over unlocked files. Where
nothing can be written, there are no notes, and the consumer works all the same.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import logging
import os
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

from berth.consuming.broker_messages import Message
from berth.telemetry.logs import log

# More are not kept: those of partitions that have moved to another consumer for good are never done here.
_MOST_SUSPECTS = 200


class Suspects(NamedTuple):
    """Messages of one partition or stream, from position to position; `deaths` of processes that had them in hand."""

    place: tuple[Any, ...]
    first: tuple[int, ...]
    last: tuple[int, ...]
    deaths: int


def _order(position: Any) -> tuple[int, ...]:
    """An offset, or an entry's id (`1700000000000-3`), as what sorts like it."""
    return tuple(map(int, str(position).split("-")))


def _spans(messages: Sequence[Message], deaths: int) -> list[Suspects]:
    """Messages as spans; those of one place are in its order."""
    first: dict[tuple[Any, ...], Any] = {}
    last: dict[tuple[Any, ...], Any] = {}
    for message in messages:
        position = message.position
        place = position[:-1]
        first.setdefault(place, position[-1])
        last[place] = position[-1]
    return [Suspects(place, _order(start), _order(last[place]), deaths) for place, start in first.items()]


def _parse_spans(values: Any, more_deaths: int = 0) -> list[Suspects]:
    return [
        Suspects(tuple(place), tuple(first), tuple(last), int(deaths) + more_deaths)
        for place, first, last, deaths in values
    ]


class BatchNotes:
    """This consumer's file, and the suspects that it has found at its start."""

    def __init__(self, folder: Path, key: str) -> None:
        self._suspects: list[Suspects] = []
        # A process died while it started the one for suspects: they had no room beside each other.
        self.no_room = False
        self._file: int | None = None
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            if folder.is_symlink() or folder.stat().st_uid != os.getuid():
                raise PermissionError(f"{folder} belongs to somebody else")
            name = hashlib.sha256(key.encode()).hexdigest()[:16]
            self._path = folder / f"{name}-{uuid.uuid4().hex[:8]}.json"
            found = self._take_over(sorted(folder.glob(f"{name}-*.json")))
            self._file = self._open(self._path, os.O_CREAT)
            self._write([], starting=self.no_room)
            for path, descriptor in found:
                path.unlink(missing_ok=True)
                os.close(descriptor)
        except OSError as error:
            why = "a batch on which this process crashes is not known after a restart"
            log(f"{why}; set BERTH_RUN_DIR to a folder that can be written", level=logging.WARNING, error=str(error))

    def _open(self, path: Path, create: int = 0) -> int:
        """A file, locked. Raises BlockingIOError where another process has it."""
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW | create, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(descriptor)
            raise
        return descriptor

    def _take_over(self, paths: Sequence[Path]) -> list[tuple[Path, int]]:
        """Read the notes of processes that are no more; what is returned is removed once it is in this one's file."""
        found = []
        for path in paths:
            with suppress(OSError):  # its consumer lives
                descriptor = self._open(path)
                found.append((path, descriptor))
                self._read(os.pread(descriptor, os.fstat(descriptor).st_size, 0))
        return found

    def _read(self, text: bytes) -> None:
        with suppress(ValueError, KeyError, TypeError):  # the machine, too, may have ended while it was written
            document = json.loads(text)
            hand = _parse_spans(document["hand"], more_deaths=1)
            self._suspects = [*self._suspects, *_parse_spans(document["suspects"]), *hand][-_MOST_SUSPECTS:]
            self.no_room |= bool(document["starting"])
            for span in hand:
                place = "/".join(map(str, span.place))
                first, last = ("-".join(map(str, each)) for each in (span.first, span.last))
                log(
                    f"a consumer died while the model had messages {first} to {last} of {place}",
                    level=logging.WARNING,
                    deaths=span.deaths,
                )

    def _write(self, hand: Sequence[Suspects], starting: bool = False) -> None:
        if self._file is None:
            return
        text = json.dumps({"hand": hand, "suspects": self._suspects, "starting": starting or self.no_room}).encode()
        os.pwrite(self._file, text, 0)
        os.ftruncate(self._file, len(text))

    def deaths_of(self, messages: Sequence[Message]) -> int:
        """How many processes have died with one of these messages in hand."""
        if not self._suspects:
            return 0
        deaths = 0
        for message in messages:
            place, order = message.position[:-1], _order(message.position[-1])
            for each in self._suspects:
                if each.place == place and each.first <= order <= each.last:
                    deaths = max(deaths, each.deaths)
        return deaths

    @contextmanager
    def in_hand(self, messages: Sequence[Message]) -> Iterator[None]:
        """While the model has these messages."""
        self._write(_spans(messages, self.deaths_of(messages)))
        try:
            yield
        finally:
            self._write([])

    @contextmanager
    def starting(self) -> Iterator[None]:
        """While the process that predicts for suspects is started."""
        self._write([], starting=True)
        try:
            yield
        finally:
            self._write([])

    def settle(self, messages: Sequence[Message]) -> None:
        """These are committed: suspects that end with one of them are none any more."""
        if not self._suspects:
            return
        ends = {(message.position[:-1], _order(message.position[-1])) for message in messages}
        self._suspects = [each for each in self._suspects if (each.place, each.last) not in ends]
        self.no_room &= self.has_suspects
        self._write([])

    @property
    def has_suspects(self) -> bool:
        """Whether any are left."""
        return bool(self._suspects)

    def close(self) -> None:
        """The end of a consumer that does not crash: without suspects there is nothing to keep."""
        if self._file is not None:
            if not self._suspects:
                self._path.unlink(missing_ok=True)
            os.close(self._file)
            self._file = None
