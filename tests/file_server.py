"""A web server over a folder that can be told to misbehave: no ranges, cuts, refusals, other places."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

HOST = "127.0.0.1"


@dataclass
class Asked:
    """One request that came."""

    path: str
    range: str
    authorization: str
    if_range: str


@dataclass
class FileServer:
    """What the server does, to be changed while it runs, and what it was asked."""

    url: str = ""
    ranges: bool = True
    etag: str = ""
    cuts: dict[str, list[int]] = field(default_factory=dict)  # path -> bytes to send before each cut
    statuses: dict[str, list[int]] = field(default_factory=dict)  # path -> statuses to answer first
    moved: dict[str, str] = field(default_factory=dict)  # path -> where it is now
    retry_after: str = ""
    authorization: str = ""
    asked: list[Asked] = field(default_factory=list)

    def paths(self) -> list[str]:
        """What was asked for, in order."""
        return [asked.path for asked in self.asked]


class _Handler(SimpleHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def __init__(self, state: FileServer, *arguments: object, **more: object) -> None:
        self._state = state
        super().__init__(*arguments, **more)  # type: ignore[arg-type]

    def _answer(self, status: int, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def do_GET(self) -> None:
        state, headers = self._state, self.headers
        path = self.path.partition("?")[0]
        asked = [headers.get(name, "") for name in ("Range", "Authorization", "If-Range")]
        state.asked.append(Asked(self.path, *asked))
        if path in state.moved:
            self._answer(302, {"Location": state.moved[path]})
        elif state.authorization and asked[1] != state.authorization:
            self._answer(401, {})
        elif state.statuses.get(path):
            more = {"Retry-After": state.retry_after} if state.retry_after else {}
            self._answer(state.statuses[path].pop(0), more)
        elif Path(self.translate_path(path)).is_file():
            self._send_file(path, asked[0], asked[2])
        else:
            super().do_GET()

    def _send_file(self, path: str, asked_range: str, if_range: str) -> None:
        state, data = self._state, Path(self.translate_path(path)).read_bytes()
        fresh = not if_range or if_range == state.etag
        start = int(asked_range[6:-1]) if asked_range and state.ranges and fresh else 0
        if start and start >= len(data):
            self._answer(416, {"Content-Range": f"bytes */{len(data)}"})
            return
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
        if state.etag:
            self.send_header("ETag", state.etag)
        self.send_header("Content-Length", str(len(data) - start))
        self.end_headers()
        cuts = state.cuts.get(path)
        if cuts:
            self.wfile.write(data[start : start + cuts.pop(0)])
            self.close_connection = True
            return
        self.wfile.write(data[start:])

    def log_message(self, format: str, *arguments: object) -> None:
        """Say nothing."""


@contextmanager
def serve_files(folder: Path) -> Iterator[FileServer]:
    """The folder on a free port, for the block."""
    state = FileServer()
    server = ThreadingHTTPServer((HOST, 0), partial(_Handler, state, directory=str(folder)))
    server.daemon_threads = True
    state.url = f"http://{HOST}:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield state
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
