"""A proxy in front of a real server: it asks for credentials, cuts responses, redirects, and runs code between."""

from __future__ import annotations

import http.client
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

HOST = "127.0.0.1"
_HOP = {"transfer-encoding", "connection", "content-length", "server", "date"}


@dataclass
class Front:
    """What the proxy does, to be changed while it runs, and what came."""

    port_behind: int
    url: str = ""
    authorization: str = ""
    cut: str = ""  # responses of paths that hold this end in their middle
    moved: dict[str, str] = field(default_factory=dict)  # part of a path -> where it is said to be
    before: dict[str, Callable[[], None]] = field(default_factory=dict)  # part of a path -> what runs first
    asked: list[tuple[str, str]] = field(default_factory=list)  # (path, Authorization)
    ranges: list[str] = field(default_factory=list)  # the Range headers that came
    cuts: int = 1_000_000  # how many responses are cut
    token: str = ""  # a registry's: what its token service gives for `authorization`
    forged: dict[str, bytes] = field(default_factory=dict)  # part of a path -> another body of the same length


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def __init__(self, state: Front, *arguments: object) -> None:
        self._state = state
        super().__init__(*arguments)  # type: ignore[arg-type]

    def _send(self, status: int, body: bytes, headers: list[tuple[str, str]]) -> None:
        self.send_response(status)
        for name, value in headers:
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command == "HEAD":
            return
        if self._state.cut and self._state.cut in self.path and self._state.cuts:
            self._state.cuts -= 1
            self.wfile.write(body[: len(body) // 2])
            self.close_connection = True
            return
        self.wfile.write(body)

    def _is_allowed(self, given: str) -> bool:
        """Whether the request may pass; else it has been answered."""
        state = self._state
        if state.token:
            if self.path.startswith("/token?"):
                self._send(
                    *(
                        (200, b'{"token": "%s"}' % state.token.encode(), [])
                        if given == state.authorization
                        else (401, b"", [])
                    )
                )
                return False
            if given != f"Bearer {state.token}":
                challenge = f'Bearer realm="{state.url}/token",service="test"'
                self._send(401, b"", [("WWW-Authenticate", challenge)])
                return False
            return True
        if state.authorization and given != state.authorization:
            self._send(401, b'{"message": "You are not authenticated."}', [])
            return False
        return True

    def _pass_on(self) -> None:
        state, given = self._state, self.headers.get("Authorization", "")
        state.asked.append((self.path, given))
        state.ranges += [self.headers["Range"]] if "Range" in self.headers else []
        sent = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        for part, run in state.before.items():
            if part in self.path:
                run()
        if not self._is_allowed(given):
            return None
        for part, to in state.moved.items():
            if part in self.path:
                return self._send(302, b"", [("Location", to)])
        connection = http.client.HTTPConnection(HOST, state.port_behind, timeout=60)
        headers = {name: value for name, value in self.headers.items() if name not in ("Host", "Authorization")}
        connection.request(self.command, self.path, body=sent or None, headers=headers)
        response = connection.getresponse()
        body = response.read()
        kept = [(name, value) for name, value in response.getheaders() if name.lower() not in _HOP]
        connection.close()
        body = next((other for part, other in state.forged.items() if part in self.path), body)
        return self._send(response.status, body, kept)

    do_GET = do_HEAD = do_POST = do_PUT = _pass_on

    def log_message(self, format: str, *arguments: object) -> None:
        """Say nothing."""


@contextmanager
def in_front_of(port: int) -> Iterator[Front]:
    """A proxy in front of the server at `port`, for the block."""
    state = Front(port)
    server = ThreadingHTTPServer((HOST, 0), partial(_Handler, state))
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
