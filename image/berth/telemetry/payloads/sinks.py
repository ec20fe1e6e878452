"""Where lines go: a file that all workers append to, or an address they are posted to in batches."""

from __future__ import annotations

import os
import ssl
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

from berth.errors import SettingsError
from berth.telemetry.payloads.payload_options import NAME, PayloadOptions

_POST_SECONDS = 5.0
_PAUSES = (0.5, 1.0, 2.0)
_AGAIN = frozenset({408, 425, 429, 500, 502, 503, 504})
# The owner writes; a log collector of the same group may read.
_MODE = 0o640


class Sink(Protocol):
    """Accepts lines. `linger` is how many seconds it is worth waiting for more of them; `reason` labels its losses."""

    linger: float
    reason: str

    def write(self, lines: Sequence[bytes], wait: Callable[[float], bool]) -> tuple[int, str]:
        """How many lines were lost and why. `wait(seconds)` is true once the server ends."""


class FileSink:
    """Appends whole lines, each in one write, so that workers share a file; follows it when it is rotated."""

    linger = 0.05
    reason = "write"

    def __init__(self, path: Path) -> None:
        self._path = path
        self._fd: int | None = None
        self._torn = False

    def check(self) -> None:
        """Raises SettingsError when the file cannot be appended to."""
        try:
            os.close(self._open())
        except OSError as error:
            raise SettingsError(f"{NAME}: cannot append to {str(self._path)!r}: {error.strerror}") from error

    def _open(self) -> int:
        return os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, _MODE)

    def _current(self) -> int:
        """The file that has the name now: after a rotation, another than before."""
        if self._fd is not None:
            try:
                here, named = os.fstat(self._fd), os.stat(self._path)
                if (here.st_dev, here.st_ino) == (named.st_dev, named.st_ino):
                    return self._fd
            except FileNotFoundError:
                pass
            os.close(self._fd)
            self._fd = None
        self._fd = self._open()
        return self._fd

    def _append(self, fd: int, line: bytes) -> None:
        # A disk that was full may have written part of a line: the next one must not go on behind it.
        whole = b"\n" + line if self._torn else line
        if (written := os.write(fd, whole)) < len(whole):
            self._torn = written > 0 or self._torn
            raise OSError(f"only {written} of {len(whole)} bytes could be written")
        self._torn = False

    def write(self, lines: Sequence[bytes], wait: Callable[[float], bool]) -> tuple[int, str]:
        """Append the lines; nothing is tried twice."""
        lost, fault = 0, ""
        try:
            fd = self._current()
        except OSError as error:
            return len(lines), str(error)
        for line in lines:
            try:
                self._append(fd, line)
            except OSError as error:
                lost, fault = lost + 1, str(error)
        return lost, fault


class HttpSink:
    """Posts newline-delimited JSON; a batch is tried four times, then lost."""

    linger = 1.0
    reason = "send"

    def __init__(self, url: str) -> None:
        import httpx

        self._url = url  # httpx makes a header of the name and the password in it
        self._client = httpx.Client(
            headers={"Content-Type": "application/x-ndjson", "User-Agent": "berth"},
            timeout=_POST_SECONDS,
            limits=httpx.Limits(max_keepalive_connections=0),
            verify=ssl.create_default_context(),
        )

    def _post(self, body: bytes) -> tuple[str, bool]:
        """What went wrong, if anything, and whether it may go better later."""
        import httpx

        try:
            status = self._client.post(self._url, content=body).status_code
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            return str(error) or type(error).__name__, True
        return ("", False) if 200 <= status < 300 else (f"the address returned {status}", status in _AGAIN)

    def write(self, lines: Sequence[bytes], wait: Callable[[float], bool]) -> tuple[int, str]:
        """Post the lines as one body; once the server ends nothing is tried again."""
        body = b"".join(lines)
        fault, again = self._post(body)
        for pause in _PAUSES:
            if not again or wait(pause):
                break
            fault, again = self._post(body)
        return (len(lines), fault) if fault else (0, "")


def open_sink(options: PayloadOptions) -> Sink:
    """The sink of the options' target. Raises SettingsError when its file cannot be written."""
    if options.is_url:
        return HttpSink(options.target)
    sink = FileSink(Path(options.target))
    sink.check()
    return sink
