"""A mounted file whose content is read again when it changes, as a rotated Secret does."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Generic, TypeVar

from berth.errors import SettingsError
from berth.telemetry.logs import log

T = TypeVar("T")


class ReloadedFile(Generic[T]):
    """What `parse` makes of a file's text; a bad edit is logged once, and the last good content stays in force.

    `setting` and `noun` (what it holds, in the plural) are for messages. Raises SettingsError when the first reading
    fails.
    """

    def __init__(self, setting: str, noun: str, path: Path, parse: Callable[[str], T]) -> None:
        self._setting = setting
        self._noun = noun
        self._path = path
        self._parse = parse
        self._lock = threading.Lock()
        self._seen: tuple[int, int, int] | None = None
        self._fault = ""
        try:
            self._content = self._read()
        except (OSError, UnicodeDecodeError, SettingsError) as error:
            raise SettingsError(f"{setting}: cannot read the {noun}: {error}") from error

    @property
    def fault(self) -> str:
        """Why the file as it is now is not in force; empty where it is."""
        return self._fault

    def _read(self) -> T:
        stat = os.stat(self._path)
        self._seen = (stat.st_ino, stat.st_size, stat.st_mtime_ns)  # first: a bad edit is not parsed at each request
        return self._parse(self._path.read_text("utf-8"))

    def _has_changed(self) -> bool:
        stat = os.stat(self._path)
        return (stat.st_ino, stat.st_size, stat.st_mtime_ns) != self._seen

    @property
    def content(self) -> T:
        """The content as of now."""
        try:
            if self._has_changed():
                with self._lock:
                    if self._has_changed():
                        self._content = self._read()
                        self._fault = ""
        except (OSError, UnicodeDecodeError, SettingsError) as error:
            if str(error) != self._fault:
                self._fault = str(error)
                log(f"{self._setting}: {error}; the {self._noun} read before stay in force", level=logging.WARNING)
        return self._content
